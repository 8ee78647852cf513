"""The SMPL layer: parameters in, posed and shaped body out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bodyfit.body.assets import BodyAssets, load_assets
from bodyfit.body.lbs import forward_kinematics, rigid_transforms, skin
from bodyfit.errors import OptionError, ShapeError
from bodyfit.rotation import so3_exp
from bodyfit.skeleton import SMPL, correspondence

__all__ = ["BodyModel", "BodyOutput", "BodyParams", "load_model"]


@dataclass(frozen=True)
class BodyParams(Mapping[str, Tensor]):
    """Parameters of a batch of bodies; a mapping, so that `model(**params)` works."""

    betas: Float[Tensor, "B S"]
    """Shape, in standard deviations."""
    body_pose: Float[Tensor, "B P"]
    """Axis-angle of joints 1 to 23, radians, flat (B, 69)."""
    global_orient: Float[Tensor, "B 3"]
    """Axis-angle of the root, radians."""
    transl: Float[Tensor, "B 3"]
    """Translation, metres."""

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.__dataclass_fields__:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self):
        return (f.name for f in fields(self))

    def __len__(self) -> int:
        return len(fields(self))

    @property
    def batch(self) -> int:
        """How many bodies."""
        return self.betas.shape[0]

    def select(self, index: Tensor | slice | list[int]) -> BodyParams:
        """Some of the bodies."""
        return BodyParams(*(value[index] for value in self.values()))

    def to(self, *args, **kwargs) -> BodyParams:
        """As `Tensor.to`, for every parameter."""
        return BodyParams(*(value.to(*args, **kwargs) for value in self.values()))


@dataclass(frozen=True)
class BodyOutput:
    """A batch of posed bodies."""

    vertices: Float[Tensor, "B V 3"]
    """Metres."""
    joints: Float[Tensor, "B J 3"]
    """Metres, in the order of `skeleton.SMPL`."""


class BodyModel(nn.Module):
    """An SMPL-format body as a differentiable layer.

    The model's own frame is SMPL's: y up, z forward, x to the body's left, metres. W(T(beta, theta), J(beta), theta)
    with T = Tbar + B_S beta + B_P vec(R(theta) - I) (Loper et al. 2015). Anything left out of a call is zero.
    """

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    weights: Tensor
    faces: Tensor
    joints_template: Tensor
    joints_shapedirs: Tensor

    def __init__(self, assets: BodyAssets, *, num_betas: int = 10, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if num_betas < 0:
            raise OptionError(f"num_betas must not be negative, got {num_betas}")
        self.assets = assets
        self.num_betas = min(num_betas, assets.shapedirs.shape[-1])
        self.parents = assets.parents
        shapedirs = assets.shapedirs[..., : self.num_betas]
        arrays = {
            "v_template": assets.v_template,
            "shapedirs": shapedirs,
            "posedirs": assets.posedirs.reshape(-1, assets.posedirs.shape[-1]),
            "weights": assets.weights,
            # The regressor is linear, so it is applied once here and not to every body's vertices.
            "joints_template": assets.J_regressor @ assets.v_template,
            "joints_shapedirs": torch.einsum(
                "jv,vcs->jcs", torch.from_numpy(assets.J_regressor), torch.from_numpy(shapedirs)
            ).numpy(),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.as_tensor(array, dtype=dtype).contiguous())
        self.register_buffer("faces", torch.as_tensor(assets.faces, dtype=torch.int64))
        self._has_posedirs = bool(assets.posedirs.any())

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the model's arrays; `model.double()` changes it."""
        return self.v_template.dtype

    @property
    def device(self) -> torch.device:
        """Where the model's arrays are."""
        return self.v_template.device

    @property
    def num_joints(self) -> int:
        """Joints with the root."""
        return len(self.parents)

    def params(
        self,
        *,
        betas: Tensor | None = None,
        body_pose: Tensor | None = None,
        global_orient: Tensor | None = None,
        transl: Tensor | None = None,
    ) -> BodyParams:
        """Complete, checked parameters; a batch of 1 is repeated to the batch of the others.

        body_pose may be (B, 69) or (B, 23, 3). Fewer betas than the model's are filled with zeros.
        """
        n = self.num_joints - 1
        flat = {"betas": betas, "body_pose": body_pose, "global_orient": global_orient, "transl": transl}
        size = {"betas": self.num_betas, "body_pose": 3 * n, "global_orient": 3, "transl": 3}
        for name, value in flat.items():
            if value is None:
                continue
            value = torch.as_tensor(value, dtype=self.dtype, device=self.device)
            if name == "body_pose" and value.ndim == 3 and value.shape[1:] == (n, 3):
                value = value.flatten(1)
            if name == "global_orient" and value.ndim == 3 and value.shape[1:] == (1, 3):
                value = value[:, 0]  # smplx accepts this shape
            fits = value.ndim == 2 and (
                value.shape[1] == size[name] or (name == "betas" and value.shape[1] < size[name])
            )
            if not fits:
                also = f" or (B, {n}, 3)" if name == "body_pose" else ""
                raise ShapeError(f"{name} must be (B, {size[name]}){also}, got {tuple(value.shape)}")
            if name == "betas":
                value = torch.nn.functional.pad(value, (0, size[name] - value.shape[1]))
            flat[name] = value
        batches = {v.shape[0] for v in flat.values() if v is not None} or {1}
        batch = max(batches) if 0 not in batches else 0
        if not batches <= {1, batch}:
            raise ShapeError(
                "batches differ: " + ", ".join(f"{k} {v.shape[0]}" for k, v in flat.items() if v is not None)
            )
        return BodyParams(
            **{
                k: self.v_template.new_zeros(batch, size[k]) if v is None else v.expand(batch, size[k])
                for k, v in flat.items()
            }
        )

    def rest_joints(self, betas: Float[Tensor, "B S"]) -> Float[Tensor, "B J 3"]:
        """Joints of the shaped body in the T-pose."""
        return self.joints_template + (self.joints_shapedirs @ betas.T).permute(2, 0, 1)

    def forward(
        self,
        betas: Tensor | None = None,
        body_pose: Tensor | None = None,
        global_orient: Tensor | None = None,
        transl: Tensor | None = None,
    ) -> BodyOutput:
        """The posed body.

        betas (B, 10), body_pose (B, 69) or (B, 23, 3) and global_orient (B, 3) axis-angle in radians, transl (B, 3)
        metres. Raises `ShapeError`.
        """
        p = self.params(betas=betas, body_pose=body_pose, global_orient=global_orient, transl=transl)
        rotvecs = torch.cat([p.global_orient, p.body_pose], 1).unflatten(1, (self.num_joints, 3))
        R_local = so3_exp(rotvecs)
        rest = self.v_template + (self.shapedirs.flatten(0, 1) @ p.betas.T).T.unflatten(1, (-1, 3))
        if self._has_posedirs:
            feature = (R_local[:, 1:] - torch.eye(3, dtype=self.dtype, device=self.device)).flatten(1)
            rest = rest + (feature @ self.posedirs.T).unflatten(1, (-1, 3))
        joints_rest = self.rest_joints(p.betas)
        R_world, joints = forward_kinematics(R_local, joints_rest, self.parents)
        vertices = skin(rest, rigid_transforms(R_world, joints, joints_rest), self.weights)
        return BodyOutput(vertices + p.transl[:, None], joints + p.transl[:, None])

    def keypoints(self, output: BodyOutput, layout: str) -> Float[Tensor, "B K 3"]:
        """The keypoints of a layout on posed bodies; NaN where this model has no such point."""
        points = []
        for entry in correspondence(layout):
            terms = [w * self._point(output, name) for name, w in entry.items() if self.has_point(name)]
            complete = bool(entry) and len(terms) == len(entry)
            points.append(sum(terms[1:], terms[0]) if complete else torch.full_like(output.joints[:, 0], torch.nan))
        return torch.stack(points, 1)

    def has_point(self, name: str) -> bool:
        """Whether `name` is one of the model's joints or surface keypoints."""
        return name in SMPL.names or name in self.assets.keypoints

    def _point(self, output: BodyOutput, name: str) -> Tensor:
        if name in SMPL.names:
            return output.joints[:, SMPL.index(name)]
        regressor = torch.from_numpy(self.assets.keypoints[name]).to(output.vertices)
        rows = regressor.nonzero()[:, 0]
        return (regressor[rows, None] * output.vertices[:, rows]).sum(1)


def load_model(
    source: str | Path = "open",
    *,
    gender: str = "neutral",
    num_betas: int = 10,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> BodyModel:
    """The shipped body ("open") or one from an SMPL-format file, ready to call.

    `gender` chooses among the open bodies and is a file's where the file does not say. Raises `AssetError`.
    """
    return BodyModel(load_assets(source, gender=gender), num_betas=num_betas, dtype=dtype).to(device)
