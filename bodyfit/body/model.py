"""The SMPL layer: from parameters to shaped and posed bodies."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bodyfit.body.anthropometry.measure import Measurements, TapeMeasure
from bodyfit.body.anthropometry.shape_from_measurements import shape_from_measurements
from bodyfit.body.assets import load_assets
from bodyfit.body.features import pose_features
from bodyfit.body.kernels.arrays import MeshArrays
from bodyfit.body.kernels.skinning import posed_joints, posed_mesh, skin_mesh
from bodyfit.body.params import BodyOutput, BodyParams, ParamSize, complete
from bodyfit.body.points.sums import KeypointSums
from bodyfit.body.record import BodyAssets, PoseBlocks
from bodyfit.errors import OptionError
from bodyfit.geometry.rotation import so3_exp
from bodyfit.skeleton import correspondence

__all__ = ["BodyModel", "BodyOutput", "BodyParams", "load_model"]

_HANDS = {"left_hand_pose": "left", "right_hand_pose": "right", "hand_pose": ""}
_FINGERS = 45
"""Number of axis-angle components of one hand's 15 joints."""


class BodyModel(nn.Module):
    """A body of the SMPL family as a differentiable layer.

    The model's own frame is SMPL's: y up, z forward, x to the body's left, metres. W(T(beta, theta), J(beta), theta)
    with T = Tbar + B_S beta + B_P vec(R(theta) - I) (Loper et al. 2015). Parameters that a call leaves out are zero.
    """

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor | None
    joints_template: Tensor
    joints_shapedirs: Tensor
    faces: Tensor
    hand_means: Tensor
    hand_components: Tensor
    keypoint_vertices: Tensor
    keypoint_weights: Tensor
    _arrays: MeshArrays | None
    _keypoint_sums: dict[str, KeypointSums]
    _tape: TapeMeasure | None

    def __init__(
        self,
        assets: BodyAssets,
        *,
        num_betas: int = 10,
        num_expression_coeffs: int = 10,
        num_pca_comps: int | None = None,
        flat_hand_mean: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if num_betas < 0 or num_expression_coeffs < 0:
            name = "num_betas" if num_betas < 0 else "num_expression_coeffs"
            raise OptionError(f"{name} must not be negative, got {min(num_betas, num_expression_coeffs)}")
        if num_pca_comps is not None and not 1 <= num_pca_comps <= _FINGERS:
            raise OptionError(f"num_pca_comps must lie in 1 to {_FINGERS}, got {num_pca_comps}")
        self.name, self.gender, self.kind = assets.name, assets.gender, assets.kind
        self.skeleton, self.parents = assets.kind.skeleton, assets.parents
        self.uv, self.uv_faces, self.landmarks = assets.uv, assets.uv_faces, assets.landmarks
        self.num_pca_comps = num_pca_comps
        self.num_betas = min(num_betas, assets.shapedirs.shape[-1])
        expressions = assets.exprdirs
        self.num_expression_coeffs = 0 if expressions is None else min(num_expression_coeffs, expressions.shape[-1])
        shapedirs = assets.shapedirs[..., : self.num_betas]
        if expressions is not None:
            shapedirs = np.concatenate([shapedirs, expressions[..., : self.num_expression_coeffs]], -1)
        n_v, n_j = len(assets.v_template), len(self.skeleton)
        buffers = {
            "v_template": assets.v_template,
            "shapedirs": shapedirs.reshape(3 * n_v, -1).T,
            # The regressor is linear, so it is applied once here and not to every body's vertices.
            "joints_template": assets.J_regressor @ assets.v_template,
            "joints_shapedirs": (assets.J_regressor @ shapedirs.reshape(n_v, -1)).reshape(n_j, 3, -1),
        }
        buffers |= self._hand_arrays(assets, flat=flat_hand_mean)
        vertex, joint = np.nonzero(assets.weights)
        buffers["weight_value"] = assets.weights[vertex, joint]
        for name, array in buffers.items():
            self.register_buffer(name, torch.as_tensor(np.ascontiguousarray(array), dtype=dtype))
        self.register_buffer("weight_ptr", _pointers(vertex, n_v))
        self.register_buffer("weight_joint", torch.as_tensor(joint, dtype=torch.int32))
        self.register_buffer("faces", torch.as_tensor(assets.faces, dtype=torch.int64))
        self._register_posedirs(assets.posedirs, dtype)
        self._register_keypoints(assets, dtype)
        self._arrays = self._tape = None
        self._keypoint_sums = {}

    def _hand_arrays(self, assets: BodyAssets, *, flat: bool) -> dict[str, np.ndarray]:
        """Collect the hands' means (2, 45) and components (2, 45, 45), left and right; identity by default."""
        means, components = np.zeros((2, _FINGERS)), np.zeros((2, _FINGERS, _FINGERS))
        components[:] = np.eye(_FINGERS)
        for row, side in enumerate(("left", "right")):
            if side in assets.hands:
                components[row] = assets.hands[side].components
                means[row] = 0 if flat else assets.hands[side].mean
        return {"hand_means": means, "hand_components": components}

    def _register_posedirs(self, posedirs: np.ndarray | PoseBlocks | None, dtype: torch.dtype) -> None:
        """Register pose blend shapes, dense (P, 3 V) or as blocks of joints that act locally; never both."""
        blocks = posedirs if isinstance(posedirs, PoseBlocks) else None
        dense = None
        if isinstance(posedirs, np.ndarray):
            dense = torch.as_tensor(posedirs.reshape(-1, posedirs.shape[-1]).T, dtype=dtype).contiguous()
        self.register_buffer("posedirs", dense)
        self.register_buffer("block", None if blocks is None else torch.as_tensor(blocks.block, dtype=dtype))
        ptr = None if blocks is None else _pointers(blocks.vertex, len(self.v_template))
        self.register_buffer("block_ptr", ptr)
        joint = None if blocks is None else torch.as_tensor(blocks.joint, dtype=torch.int32)
        self.register_buffer("block_joint", joint)

    def _register_keypoints(self, assets: BodyAssets, dtype: torch.dtype) -> None:
        """Register the vertices of keypoints and each keypoint's weights of them."""
        regressors = np.array(list(assets.keypoints.values())).reshape(len(assets.keypoints), len(assets.v_template))
        rows = np.flatnonzero(regressors.any(0))
        self.keypoint_names = tuple(assets.keypoints)
        self.register_buffer("keypoint_vertices", torch.from_numpy(rows))
        self.register_buffer("keypoint_weights", torch.as_tensor(regressors[:, rows], dtype=dtype))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the model's arrays; `model.double()` changes it."""
        return self.v_template.dtype

    @property
    def device(self) -> torch.device:
        """Device of the model's arrays."""
        return self.v_template.device

    @property
    def num_joints(self) -> int:
        """Number of joints, with the root."""
        return len(self.skeleton)

    @property
    def mesh_arrays(self) -> MeshArrays:
        """The model's arrays for the compiled kernels, without a copy."""
        if self._arrays is None:
            names = (f.name for f in fields(MeshArrays) if f.name != "parents")
            arrays = {name: getattr(self, name) for name in names}
            if self.is_star:  # its corrections are no sum over the entries of rotations
                arrays["posedirs"] = None
            self._arrays = MeshArrays(parents=self.parents, **arrays)
        return self._arrays

    @property
    def weights(self) -> Float[Tensor, "V J"]:
        """Linear blend skinning weights."""
        return self.mesh_arrays.weights

    def _apply(self, fn, recurse: bool = True):
        self._arrays, self._keypoint_sums = None, {}  # they hold the tensors of before
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": None, "_keypoint_sums": {}}

    @property
    def body_joints(self) -> int:
        """Number of leading joints that are no hands, jaw or eyes."""
        return self.kind.body_joints

    def _sizes(self) -> dict[str, ParamSize]:
        """Sizes of the parameters of the model's layout."""
        sizes = {"betas": ParamSize(self.num_betas, shorter=True, padded=True), "body_pose": ParamSize(0)}
        sizes |= {"global_orient": ParamSize(3, joints=1), "transl": ParamSize(3)}
        for name, joints in self.kind.poses:
            if name in _HANDS:
                n = self.num_pca_comps
                sizes[name] = ParamSize(_FINGERS, joints=15, shorter=True) if n is None else ParamSize(n)
            else:
                sizes[name] = ParamSize(3 * joints, joints=joints)
        if self.num_expression_coeffs:
            sizes["expression"] = ParamSize(self.num_expression_coeffs, shorter=True, padded=True)
        return sizes

    def params(
        self,
        *,
        betas: Tensor | None = None,
        body_pose: Tensor | None = None,
        global_orient: Tensor | None = None,
        transl: Tensor | None = None,
        left_hand_pose: Tensor | None = None,
        right_hand_pose: Tensor | None = None,
        jaw_pose: Tensor | None = None,
        leye_pose: Tensor | None = None,
        reye_pose: Tensor | None = None,
        expression: Tensor | None = None,
        hand_pose: Tensor | None = None,
        neck_pose: Tensor | None = None,
    ) -> BodyParams:
        """Complete and check parameters; those of batch 1 are repeated to the batch of the others.

        A pose may be flat (B, 3 J) or (B, J, 3). Fewer betas or expression coefficients than the model's are filled
        with zeros. A hand pose of 45 columns is axis-angle, of fewer n the first n coefficients of the hand's
        components.
        Raises `ShapeError`, and `OptionError` for a parameter that the model's layout lacks.
        """
        params = {
            **{"betas": betas, "body_pose": body_pose, "global_orient": global_orient, "transl": transl},
            **{"left_hand_pose": left_hand_pose, "right_hand_pose": right_hand_pose, "hand_pose": hand_pose},
            **{"jaw_pose": jaw_pose, "leye_pose": leye_pose, "reye_pose": reye_pose, "neck_pose": neck_pose},
            **{"expression": expression},
        }
        return complete(params, self._sizes(), self.v_template, self.kind.title)

    def full_pose(self, params: BodyParams) -> Float[Tensor, "B J 3"]:
        """Compute the axis-angles of all joints (radians), root first, with hands decoded and added to their mean."""
        parts = [params.global_orient]
        for name, _ in self.kind.poses:
            pose = params[name]
            if name in _HANDS:
                row = ("left", "right").index(self._side(name))
                if self.num_pca_comps is not None or pose.shape[1] < _FINGERS:
                    pose = pose @ self.hand_components[row, : pose.shape[1]]
                pose = pose + self.hand_means[row]
            parts.append(pose)
        pose = torch.cat(parts, 1)
        return pose.view(len(pose), self.num_joints, 3)

    def _side(self, name: str) -> str:
        return _HANDS[name] or self.kind.name.removeprefix("mano_")

    def coefficients(self, params: BodyParams) -> Float[Tensor, "B S"]:
        """Concatenate betas and expression, in the order of the columns of `shapedirs`."""
        return params.betas if params.expression is None else torch.cat([params.betas, params.expression], 1)

    def rest_joints(self, betas: Float[Tensor, "B S"]) -> Float[Tensor, "B J 3"]:
        """Compute the joints of shaped bodies in the T-pose, metres."""
        by_beta = self.joints_shapedirs[..., : betas.shape[1]]
        return self.joints_template + (by_beta @ betas.T).permute(2, 0, 1)

    def forward(
        self,
        betas: Tensor | None = None,
        body_pose: Tensor | None = None,
        global_orient: Tensor | None = None,
        transl: Tensor | None = None,
        left_hand_pose: Tensor | None = None,
        right_hand_pose: Tensor | None = None,
        jaw_pose: Tensor | None = None,
        leye_pose: Tensor | None = None,
        reye_pose: Tensor | None = None,
        expression: Tensor | None = None,
        hand_pose: Tensor | None = None,
        neck_pose: Tensor | None = None,
    ) -> BodyOutput:
        """Compute posed bodies: vertices and joints, metres.

        betas (B, 10), body_pose (B, 69) or (B, 23, 3) and global_orient (B, 3) axis-angle in radians, transl (B, 3)
        metres; the others as in `BodyParams`, where the layout has them. Raises `ShapeError` and `OptionError`.
        """
        p = self.params(
            betas=betas,
            body_pose=body_pose,
            global_orient=global_orient,
            transl=transl,
            left_hand_pose=left_hand_pose,
            right_hand_pose=right_hand_pose,
            jaw_pose=jaw_pose,
            leye_pose=leye_pose,
            reye_pose=reye_pose,
            expression=expression,
            hand_pose=hand_pose,
            neck_pose=neck_pose,
        )
        return self._posed(p)

    def joints(self, params: BodyParams) -> Float[Tensor, "B J 3"]:
        """Compute the posed joints without the mesh, metres: at least twenty times faster than a call."""
        return posed_joints(self.mesh_arrays, self.coefficients(params), self.full_pose(params), params.transl)

    def keypoints(self, bodies: BodyParams | BodyOutput, layout: str) -> Float[Tensor, "B K 3"]:
        """Compute the keypoints of a layout on posed bodies, metres; NaN for points that the model lacks.

        For parameters instead of bodies, only the vertices of keypoints are posed.
        """
        sums = self._sums(layout)
        if isinstance(bodies, BodyParams):
            if not self.is_star:
                return sums.posed(self.coefficients(bodies), self.full_pose(bodies), bodies.transl)
            bodies = self._posed(bodies, sums)
            return sums.of_bodies(bodies.joints, bodies.vertices)
        return sums.of_bodies(bodies.joints, bodies.vertices.index_select(1, sums.vertices))

    def _sums(self, layout: str) -> KeypointSums:
        """Return the weights of joints and vertices in the keypoints of a layout; cached."""
        if layout not in self._keypoint_sums:
            entries = correspondence(layout)
            known = [bool(entry) and all(self.has_point(name) for name in entry) for entry in entries]
            joints = self.v_template.new_zeros(len(entries), self.num_joints)
            on_skin = self.v_template.new_zeros(len(entries), len(self.keypoint_names))
            for row, entry in enumerate(entries):
                for name, weight in entry.items() if known[row] else ():
                    is_joint, at = self.place(name)
                    (joints if is_joint else on_skin)[row, at] = weight
            self._keypoint_sums[layout] = KeypointSums.of(
                self.mesh_arrays,
                joints,
                self.keypoint_vertices,
                on_skin @ self.keypoint_weights,
                torch.tensor(known, device=self.device),
            )
        return self._keypoint_sums[layout]

    def point(self, bodies: BodyOutput, name: str) -> Float[Tensor, "B 3"]:
        """Return a joint or surface keypoint by name, metres."""
        is_joint, at = self.place(name)
        if is_joint:
            return bodies.joints[:, at]
        return self.keypoint_weights[at] @ bodies.vertices[:, self.keypoint_vertices]

    @property
    def tape(self) -> TapeMeasure:
        """The measuring tape of this mesh; cached."""
        if self._tape is None:
            self._tape = TapeMeasure(self.faces, self.weights, skeleton=self.skeleton)
        return self._tape

    def measure(self, betas: Tensor | None = None, *, density: float | int = 985.0) -> Measurements:
        """Measure height, mass, girths and lengths in the rest pose, metres and kilograms (`Measurements`)."""
        with torch.no_grad():
            body = self(betas=betas)
        return self.tape.measure(body.vertices, body.joints, density=density)

    def shape_from_measurements(
        self,
        *,
        height: float | int | Tensor | None = None,
        mass: float | int | Tensor | None = None,
        chest: float | int | Tensor | None = None,
        waist: float | int | Tensor | None = None,
        hip: float | int | Tensor | None = None,
        neck: float | int | Tensor | None = None,
        upper_arm: float | int | Tensor | None = None,
        thigh: float | int | Tensor | None = None,
        arm_length: float | int | Tensor | None = None,
        leg_length: float | int | Tensor | None = None,
        inseam: float | int | Tensor | None = None,
        density: float | int = 985.0,
        max_sd: float | int = 5.0,
    ) -> Float[Tensor, "B S"]:
        """Compute the most probable betas for given measurements (`body/anthropometry/shape_from_measurements.py`)."""
        return shape_from_measurements(
            self,
            height=height,
            mass=mass,
            chest=chest,
            waist=waist,
            hip=hip,
            neck=neck,
            upper_arm=upper_arm,
            thigh=thigh,
            arm_length=arm_length,
            leg_length=leg_length,
            inseam=inseam,
            density=density,
            max_sd=max_sd,
        )

    def has_point(self, name: str) -> bool:
        """Tell whether `name` is one of the model's joints or surface keypoints."""
        return self.place(name)[1] >= 0

    def place(self, name: str) -> tuple[bool, int]:
        """Return whether a point is a joint, and its row among joints or keypoints; -1 if it is neither."""
        if name in self.skeleton.names:
            return True, self.skeleton.index(name)
        return False, self.keypoint_names.index(name) if name in self.keypoint_names else -1

    def _posed(self, params: BodyParams, few: KeypointSums | None = None) -> BodyOutput:
        """Pose the body, or only the vertices of some keypoints."""
        arrays = self.mesh_arrays if few is None else few.arrays
        coefficients, rotvecs = self.coefficients(params), self.full_pose(params)
        if not self.is_star or self.posedirs is None:
            return BodyOutput(*posed_mesh(arrays, coefficients, rotvecs, params.transl))
        features = pose_features(rotvecs[:, 1:], so3_exp(rotvecs[:, 1:]), self.feature_columns).flatten(1)
        second = params.betas[:, 1:2] if self.num_betas > 1 else features.new_zeros(len(features), 1)
        corrections = (torch.cat([features, second], 1) @ self.posedirs).unflatten(1, (-1, 3))
        if few is not None:
            corrections = corrections[:, few.vertices]
        rest = arrays.v_template + (coefficients @ arrays.shapedirs).unflatten(1, (-1, 3)) + corrections
        return BodyOutput(*skin_mesh(arrays, rest, self.rest_joints(coefficients), rotvecs, params.transl))

    @property
    def is_star(self) -> bool:
        """Whether pose blend shapes respond to quaternions and to the second beta."""
        return self.kind.name == "star"

    @property
    def feature_columns(self) -> int:
        """Number of pose features of one joint."""
        return 4 if self.is_star else 9

    def shape_response(self, vertices: Int[Tensor, "N"], *, expression: bool = False) -> Float[Tensor, "N 3 S"]:
        """Compute derivatives of rest vertices by betas: of shape and, in STAR, of pose blend shapes.

        `expression`: append columns of the expression.
        """
        directions = _of_vertices(self.shapedirs[: None if expression else self.num_betas], vertices)
        if self.is_star and self.posedirs is not None and self.num_betas > 1:
            directions = directions.clone()
            directions[..., 1] += _of_vertices(self.posedirs[-1:], vertices)[..., 0]
        return directions

    def pose_response(self, vertices: Int[Tensor, "N"]) -> Float[Tensor, "N 3 M C"]:
        """Compute the derivative of vertices of the rest body by the pose features of each joint but the root."""
        moved = self.num_joints - 1
        response = self.v_template.new_zeros(len(vertices), 3, moved, self.feature_columns)
        if self.posedirs is not None:
            dense = _of_vertices(self.posedirs[: moved * self.feature_columns], vertices)
            return dense.unflatten(2, (moved, -1))
        few = self.mesh_arrays.rows(vertices)
        if few.block is not None and few.block_ptr is not None and few.block_joint is not None:
            row = torch.repeat_interleave(few.block_ptr.diff().long())
            response[row, :, few.block_joint.long() - 1] = few.block
        return response


def _pointers(sorted_rows: np.ndarray, n: int) -> Int[Tensor, "N1"]:
    """Compute the row pointers of a matrix of n compressed rows from its sorted row indices."""
    return torch.as_tensor(np.searchsorted(sorted_rows, np.arange(n + 1)), dtype=torch.int32)


def _of_vertices(directions: Float[Tensor, "S V3"], vertices: Int[Tensor, "N"]) -> Float[Tensor, "N 3 S"]:
    return directions.unflatten(1, (-1, 3))[:, vertices].permute(1, 2, 0)


def load_model(
    source: str | Path = "open",
    *,
    gender: str = "neutral",
    num_betas: int = 10,
    num_expression_coeffs: int = 10,
    num_pca_comps: int | None = None,
    flat_hand_mean: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> BodyModel:
    """Load a shipped body model or one from a file.

    source: "open" (24 joints as SMPL), "open-h" (with hands, 52 joints as SMPL-H), "open-x" (hands, jaw, eyes and
    expression, 55 joints as SMPL-X), or the path of an SMPL, SMPL-H, SMPL-X, STAR, MANO or FLAME file or of a folder of
    them in smplx's layout. `gender` selects an open body, and applies to files that do not name theirs.
    num_pca_comps: hand poses are this many coefficients of the hand's principal components; by default the width of a
    hand pose tells angles (45) from coefficients. flat_hand_mean: hand poses are relative to the flat hand, not to the
    mean one. Raises `AssetError` and `OptionError`.
    """
    assets = load_assets(source, gender=gender)
    model = BodyModel(
        assets,
        num_betas=num_betas,
        num_expression_coeffs=num_expression_coeffs,
        num_pca_comps=num_pca_comps,
        flat_hand_mean=flat_hand_mean,
        dtype=dtype,
    )
    return model.to(device)
