"""Points anywhere on the skin of posed bodies, with their derivatives along given directions in closed form.

`posed.py` has the same mathematics for few fixed points, split into pieces beforehand. Contours and nearest points of
scans change from body to body and from step to step, so nothing is prepared for a point here: what all share is
computed once for a pose, and only derivatives along one direction a point (a row of a least-squares problem, of a point
and a line or a plane) are formed, in compiled loops.

A vertex is v = sum_b w_b (R_b (s - j_b) + p_b), with s the vertex of the blended rest body, j_b the rest joint and p_b
the posed one. A small world rotation omega at joint i moves it by omega x l_i, where l_i sums w_b (T_b s - p_i) over
the bones b at or below i; along a direction d that is omega . (l_i x d). See `posed.py` for omega of a change of the
axis-angle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.kernels.skinning import posed_mesh
from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import PosedTree, ancestors, pose_tree

__all__ = ["PosedSkin", "Skin", "SkinPoints"]

_AT_ONCE = 2048  # vertices whose dense pose blend shapes are looked through together
_SKINS: WeakKeyDictionary[BodyModel, tuple[tuple, Skin]] = WeakKeyDictionary()


class Skin:
    """The skin of a model, with what its points need in any pose; the loops run on a CPU."""

    def __init__(self, model: BodyModel) -> None:
        self.model = model
        every = torch.arange(len(model.v_template), device=model.device)
        self.shape: Float[np.ndarray, "V 3 S"] = _numpy(model.shape_response(every, expression=True))
        """Derivatives of the rest vertices by betas and expression."""
        self.above: Float[Tensor, "J J"] = torch.as_tensor(ancestors(model.parents)).to(model.v_template)
        """1 where the column's joint is the row's joint or an ancestor of it."""
        arrays = model.mesh_arrays
        skinning = tuple(_numpy(a) for a in (arrays.weight_ptr, arrays.weight_joint, arrays.weight_value))
        self.arrays = (self.shape, *skinning, *_pose_blocks(model))
        """Blend shapes and skinning weights, for the loops."""
        self.template: Float[np.ndarray, "V 3"] = _numpy(model.v_template)

    @classmethod
    def of(cls, model: BodyModel) -> Skin:
        """Return the skin of a model, which is made once until its tensors change."""
        key = (model.v_template.data_ptr(), model.v_template._version, model.shapedirs.data_ptr(), model.dtype)
        found = _SKINS.get(model)
        if found is None or found[0] != key:
            _SKINS[model] = found = (key, cls(model))
        return found[1]

    def pose(
        self, coefficients: Float[Tensor, "B S"], rotvecs: Float[Tensor, "B N 3"], transl: Float[Tensor, "B 3"]
    ) -> PosedSkin:
        """Pose bodies by the axis-angles (radians) of their first N joints; the others keep the model's mean pose."""
        model = self.model
        if rotvecs.shape[1] < model.num_joints:
            rest = model.full_pose(model.params())[:, rotvecs.shape[1] :]
            rotvecs = torch.cat([rotvecs, rest.expand(len(rotvecs), -1, -1)], 1)
        return PosedSkin(self, pose_tree(model, coefficients, rotvecs), coefficients, rotvecs, transl)


@dataclass(frozen=True)
class PosedSkin:
    """The skin of posed bodies."""

    skin: Skin
    tree: PosedTree
    coefficients: Float[Tensor, "B S"]
    """Betas and, where they are variables, the expression's."""
    rotvecs: Float[Tensor, "B J 3"]
    transl: Float[Tensor, "B 3"]

    @cached_property
    def vertices(self) -> Float[Tensor, "B V 3"]:
        """The whole mesh, metres, with the translation."""
        model = self.skin.model
        if model.is_star:
            pose = {"global_orient": self.rotvecs[:, 0], "body_pose": self.rotvecs[:, 1:].flatten(1)}
            return model(betas=self.coefficients, transl=self.transl, **pose).vertices
        arrays = model.mesh_arrays
        neutral = (0, arrays.shapedirs.shape[0] - self.coefficients.shape[1])  # the expression where it is no variable
        return posed_mesh(arrays, torch.nn.functional.pad(self.coefficients, neutral), self.rotvecs, self.transl)[0]

    def at(self, corners: Int[Tensor, "B P K"], weights: Float[Tensor, "B P K"]) -> SkinPoints:
        """Place points that are means of K vertices each."""
        from bodyfit.body.points.skin_loops import place_points

        tree, like = self.tree, self.transl
        index, share = _numpy(corners), _numpy(weights)
        rest = np.empty((*index.shape, 3), share.dtype)
        points = np.empty((*index.shape[:2], 3), share.dtype)
        place_points(
            index,
            share,
            _numpy(self.coefficients),
            _numpy(tree.features),
            _numpy(tree.R_world),
            _numpy(self.bones[0]),
            self.skin.template,
            *self.skin.arrays,
            rest,
            points,
        )
        return SkinPoints(self, index, share, rest, torch.from_numpy(points).to(like) + self.transl[:, None])

    @cached_property
    def bones(self) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B J 3 S"]]:
        """Translation of each bone's rigid transform, p_b - R_b j_b, and its derivative by the coefficients."""
        tree, model, n_s = self.tree, self.skin.model, self.coefficients.shape[1]
        directions = model.joints_shapedirs[..., :n_s]
        rest = model.joints_template + torch.einsum("jcs,bs->bjc", directions, self.coefficients)
        offsets = tree.joints - (tree.R_world @ rest[..., None])[..., 0]
        moved = (self.skin.above @ tree.bones_dbetas).unflatten(2, (3, -1))[..., :n_s]  # the posed joints
        return offsets, moved - tree.R_world @ directions


@dataclass(frozen=True)
class SkinPoints:
    """Points on the skin of posed bodies."""

    body: PosedSkin
    corners: Int[np.ndarray, "B P K"]
    barycentric: Float[np.ndarray, "B P K"]
    rest: Float[np.ndarray, "B P K 3"]
    """The corners on the rest bodies with all blend shapes, metres."""
    positions: Float[Tensor, "B P 3"]
    """Metres, with the translation."""

    def rows(self, directions: Float[Tensor, "B P 3"], joints: int) -> Float[Tensor, "B P D"]:
        """Compute the derivatives of the positions along one direction each.

        The columns are the translation, the axis-angles of the first `joints` joints, and the coefficients.
        """
        from bodyfit.body.points.skin_loops import direction_rows

        body, tree, skin = self.body, self.body.tree, self.body.skin
        along = _numpy(directions)
        rows = np.empty((*along.shape[:2], 3 + 3 * joints + body.coefficients.shape[1]), along.dtype)
        direction_rows(
            self.corners,
            self.barycentric,
            along,
            self.rest,
            _numpy(tree.R_world),
            _numpy(tree.joints),
            _numpy(tree.axes),
            *(_numpy(array) for array in body.bones),
            np.array(skin.model.parents, np.int64),
            _numpy(tree.features_dpose),
            *skin.arrays,
            rows,
        )
        return torch.from_numpy(rows).to(directions)


def _numpy(values: Tensor) -> np.ndarray:
    """Return the contiguous array of a tensor, on the CPU."""
    return values.cpu().contiguous().numpy()


def _pose_blocks(
    model: BodyModel,
) -> tuple[Int[np.ndarray, "V1"], Int[np.ndarray, "E"], Float[np.ndarray, "E 3 C"]]:
    """Collect the pose blend shapes of each vertex, joint by joint: the derivatives by the joint's pose features.

    Returns the first block of each vertex and the end, the blocks' joints counted from the root, and the blocks.
    """
    arrays = model.mesh_arrays
    if arrays.block is not None:
        assert arrays.block_ptr is not None
        assert arrays.block_joint is not None
        return _numpy(arrays.block_ptr), _numpy(arrays.block_joint), _numpy(arrays.block)
    counts, joints, blocks = [], [], []
    for rows in torch.arange(len(model.v_template), device=model.device).split(_AT_ONCE):
        some = model.pose_response(rows).transpose(1, 2)  # (N, M, 3, C)
        moved = (some != 0).flatten(2).any(2)
        counts.append(_numpy(moved.sum(1)))
        joints.append(_numpy(moved.nonzero()[:, 1] + 1))
        blocks.append(_numpy(some[moved]))
    ptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return ptr.astype(np.int32), np.concatenate(joints).astype(np.int32), np.concatenate(blocks)
