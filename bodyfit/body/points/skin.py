"""Points anywhere on the skin of one posed body, with their derivatives along given directions in closed form.

`posed.py` has the same mathematics for few fixed points. Here points are thousands, barycentric on faces and new after
each search for correspondences, so nothing is prepared for a point: what all share is computed once for a pose, and
only derivatives along one direction a point (a row of a least-squares problem) are formed, in a compiled loop.

A vertex is v = sum_b w_b (R_b (s - j_b) + p_b), with s the vertex of the blended rest body, j_b the rest joint and p_b
the posed one. A small world rotation omega at joint i moves it by omega x l_i, where l_i sums w_b (T_b s - p_i) over
the bones b at or below i; along a direction d that is omega . (l_i x d).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.kernels.skinning import posed_mesh
from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import PosedTree, ancestors, pose_tree

__all__ = ["PosedSkin", "Skin", "SkinRows"]


@dataclass(frozen=True)
class SkinRows:
    """Derivatives of the coordinates of points along one direction each."""

    by_transl: Float[Tensor, "P 3"]
    by_pose: Float[Tensor, "P J 3"]
    """By the axis-angle of each joint of the model, root first."""
    by_coefficients: Float[Tensor, "P S"]
    """By betas and, where the surface has it, expression."""


class Skin:
    """The skin of a model on a CPU, with what its points need in any pose."""

    def __init__(self, model: BodyModel, *, expression: bool = False) -> None:
        self.model = model
        every = torch.arange(len(model.v_template))
        self.shape: Float[np.ndarray, "V 3 S"] = model.shape_response(every, expression=expression).contiguous().numpy()
        self.above: Float[Tensor, "J J"] = torch.as_tensor(ancestors(model.parents), dtype=model.dtype)
        """1 where the column's joint is the row's joint or an ancestor of it."""
        dense = np.empty((0, 0), self.shape.dtype)
        if model.posedirs is not None:
            dense = model.posedirs[: (model.num_joints - 1) * model.feature_columns].numpy()
        empty = np.zeros(len(every) + 1, np.int32), np.empty(0, np.int32), np.empty((0, 3, 9), self.shape.dtype)
        arrays = model.mesh_arrays
        sparse = empty if arrays.block is None else arrays.surface[2:5]
        skinning = arrays.weight_ptr.numpy(), arrays.weight_joint.numpy(), arrays.weight_value.numpy()
        self.arrays = (*skinning, *sparse, dense)
        """Skinning weights and pose blend shapes, for the loop."""

    def pose(
        self, coefficients: Float[Tensor, "S"], rotvecs: Float[Tensor, "J 3"], transl: Float[Tensor, "3"]
    ) -> PosedSkin:
        """Pose the body by the axis-angles (radians) of all its joints."""
        model = self.model
        tree = pose_tree(model, coefficients[None], rotvecs[None])
        if model.is_star:
            pose = {"global_orient": rotvecs[None, 0], "body_pose": rotvecs[None, 1:].flatten(1)}
            vertices = model(betas=coefficients[None], transl=transl[None], **pose).vertices
        else:
            vertices, _ = posed_mesh(model.mesh_arrays, coefficients[None], rotvecs[None], transl[None])
        return PosedSkin(self, tree, vertices[0], transl)


@dataclass(frozen=True)
class PosedSkin:
    """The skin of one posed body."""

    skin: Skin
    tree: PosedTree
    vertices: Float[Tensor, "V 3"]
    """Metres, with the translation."""
    transl: Float[Tensor, "3"]

    def at(self, corners: Int[Tensor, "P 3"], weights: Float[Tensor, "P 3"]) -> Float[Tensor, "P 3"]:
        """Compute points with barycentric weights of three vertices each, metres."""
        return (weights[..., None] * self.vertices[corners]).sum(1)

    def rows(
        self, corners: Int[Tensor, "P 3"], weights: Float[Tensor, "P 3"], directions: Float[Tensor, "P 3"]
    ) -> SkinRows:
        """Compute derivatives of the points of `at` along one direction each."""
        from bodyfit.body.points.skin_loops import direction_rows

        skin, tree, model = self.skin, self.tree, self.skin.model
        by_pose = directions.new_empty(len(corners), model.num_joints, 3)
        by = directions.new_empty(len(corners), skin.shape.shape[2])
        direction_rows(
            corners.contiguous().numpy(),
            weights.contiguous().numpy(),
            directions.contiguous().numpy(),
            (self.vertices - self.transl).numpy(),
            tree.R_world[0].numpy(),
            tree.joints[0].numpy(),
            tree.axes[0].contiguous().numpy(),
            *(array.numpy() for array in self._bones),
            np.array(model.parents, np.int64),
            skin.shape,
            *skin.arrays,
            tree.features_dpose[0].contiguous().numpy(),
            by_pose.numpy(),
            by.numpy(),
        )
        return SkinRows(directions, by_pose, by)

    @cached_property
    def _bones(self) -> tuple[Float[Tensor, "J 3"], Float[Tensor, "J 3 S"]]:
        """Translation of each bone's rigid transform, p_b - R_b j_b, and its derivative by the coefficients."""
        R, joints, model = self.tree.R_world[0], self.tree.joints[0], self.skin.model
        n_s = self.skin.shape.shape[2]
        rest: list[Tensor] = []  # from the posed joints: along each bone R_parent^T (p_i - p_parent)
        for joint, parent in enumerate(model.parents):
            bone = joints[joint] if parent < 0 else rest[parent] + R[parent].T @ (joints[joint] - joints[parent])
            rest.append(bone)
        by_bones = self.tree.bones_dbetas[0].unflatten(1, (3, -1))[..., :n_s]
        by = (self.skin.above @ by_bones.flatten(1)).unflatten(1, (3, -1))  # the posed joints'
        offsets = joints - (R @ torch.stack(rest)[..., None])[..., 0]
        return offsets.contiguous(), (by - R @ model.joints_shapedirs[..., :n_s]).contiguous()
