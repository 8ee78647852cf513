"""Named points of a posed body with their derivatives in closed form, without the mesh.

A joint, or a surface point that linear blend skinning moves, is a sum of pieces that are each rigid to one bone b:
piece = R_b l_b + w_b p_b, with p_b the posed joint and l_b an offset in the bone's rest axes, linear in betas. Turning
joint i by a small world rotation omega moves every piece below it by omega x (piece - w_b p_i), and a change d of the
joint's axis-angle is the world rotation omega = R_parent(i) J_left(theta_i) d. So the Jacobian costs one matrix product
and a cross product. Pose blend shapes are left out: on the joints they are nil, on the face and the feet small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.lbs import forward_kinematics
from bodyfit.body.model import BodyModel
from bodyfit.rotation import exp_and_left_jacobian
from bodyfit.skeleton import SMPL

__all__ = ["Points", "PosedPoints", "PosedTree", "pose_tree"]


@dataclass(frozen=True)
class PosedTree:
    """A posed kinematic tree and the derivatives that every point on it shares. Positions leave `transl` out."""

    R_world: Float[Tensor, "B J 3 3"]
    """Rotation of each bone."""
    joints: Float[Tensor, "B J 3"]
    """Posed joints."""
    axes: Float[Tensor, "B J 3 3"]
    """Columns: the world rotation that a unit change of each axis-angle component makes."""
    bones_dbetas: Float[Tensor, "B J S3"]
    """Derivative by betas of each posed bone vector (the root's: of its position)."""


def pose_tree(model: BodyModel, betas: Float[Tensor, "B S"], rotvecs: Float[Tensor, "B J 3"]) -> PosedTree:
    """Forward kinematics with what derivatives need; `rotvecs` has the root first."""
    R_local, left = exp_and_left_jacobian(rotvecs)
    R_world, joints = forward_kinematics(R_local, model.rest_joints(betas), model.parents)
    up = [max(p, 0) for p in model.parents]
    R_parent = R_world[:, up].clone()
    R_parent[:, 0] = torch.eye(3, dtype=betas.dtype, device=betas.device)
    bones = model.joints_shapedirs - model.joints_shapedirs[up]
    bones[0] = model.joints_shapedirs[0]
    return PosedTree(R_world, joints, R_parent @ left, (R_parent @ bones).flatten(2))


def _ancestors(parents: tuple[int, ...]) -> np.ndarray:
    """(J, J), 1 where the column's joint is the row's joint or above it."""
    table = np.eye(len(parents))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            table[joint] += table[parent]
    return table


class Points:
    """A fixed list of points on one model; each is a weighted mean of named joints and surface keypoints.

    An empty entry, or one that names what the model lacks, gives a point at the root with `known` False.
    """

    def __init__(self, model: BodyModel, entries: Sequence[dict[str, float]]) -> None:
        self.model = model
        self.known = [bool(entry) and all(model.has_point(name) for name in entry) for entry in entries]
        pieces = [
            (k, bone, weight, offset, offset_shape)
            for k, entry in enumerate(entries)
            for bone, weight, offset, offset_shape in _pieces(model, entry if self.known[k] else {"pelvis": 1.0})
        ]
        n_k, n_j = len(entries), model.num_joints
        above = _ancestors(model.parents)
        weight = np.zeros((n_k, n_j))
        for k, bone, w, _, _ in pieces:
            weight[k, bone] += w
        soft = [piece for piece in pieces if np.abs(piece[3]).max() > 0 or np.abs(piece[4]).max() > 0]
        member = np.zeros((n_k, len(soft)))
        for q, piece in enumerate(soft):
            member[piece[0], q] = 1
        below = above[[piece[1] for piece in soft]].reshape(len(soft), n_j)  # (Q, J): joint i moves piece q
        self.has_soft = bool(soft)
        self.soft_bone = [piece[1] for piece in soft]

        def tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=model.dtype, device=model.device).contiguous()

        self.weight = tensor(weight)
        self.member = tensor(member)
        self.offset = tensor(np.array([piece[3] for piece in soft]).reshape(-1, 3))
        self.offset_shape = tensor(np.array([piece[4] for piece in soft]).reshape(-1, 3, model.num_betas))
        self.below = tensor(above.T)  # (J, J): what hangs on joint i
        self.below_soft = tensor(below.T)
        # Per point k and joint i: the total weight below i; and, to be multiplied from the right so that the product
        # is one large matrix, the sums of joint and soft positions below i.
        self.lever_weight = tensor(weight @ above)
        self.lever_joints = tensor((weight[:, None, :] * above.T[None]).reshape(n_k * n_j, n_j).T)
        self.lever_soft = tensor((member[:, None, :] * below.T[None]).reshape(n_k * n_j, len(soft)).T)

    def __len__(self) -> int:
        return len(self.known)

    def place(self, tree: PosedTree, betas: Float[Tensor, "B S"]) -> PosedPoints:
        """The points on a posed tree."""
        positions = self.weight @ tree.joints
        soft = None
        if self.has_soft:
            local = self.offset + (self.offset_shape @ betas.T).permute(2, 0, 1)
            soft = (tree.R_world[:, self.soft_bone] @ local[..., None])[..., 0]
            positions = positions + self.member @ soft
        return PosedPoints(self, tree, positions, soft)


@dataclass(frozen=True)
class PosedPoints:
    """Points on a posed body; positions leave `transl` out (its Jacobian is the identity)."""

    points: Points
    tree: PosedTree
    positions: Float[Tensor, "B K 3"]
    """Metres, about the origin that `transl` moves."""
    soft: Float[Tensor, "B Q 3"] | None
    """R_b l_b of the pieces that are no bare joints."""

    def levers(self) -> Float[Tensor, "B 3 K J"]:
        """From joint i to the part of point k that joint i moves."""
        p, n_j = self.points, self.tree.joints.shape[1]
        joints = self.tree.joints.mT
        sums = joints @ p.lever_joints
        if self.soft is not None:
            sums = sums + self.soft.mT @ p.lever_soft
        return sums.unflatten(2, (len(p), n_j)) - p.lever_weight * joints[:, :, None]

    def jacobian_pose(self) -> Float[Tensor, "B K 3 J3"]:
        """d position / d axis-angle of the joints, root first: the cross product axis x lever."""
        x, y, z = self.levers()[..., None].unbind(1)  # (B, K, J, 1)
        a, b, c = self.tree.axes[:, None].unbind(-2)  # (B, 1, J, 3)
        return torch.stack([b * z - c * y, c * x - a * z, a * y - b * x], 2).flatten(3)

    def jacobian_betas(self) -> Float[Tensor, "B K 3 S"]:
        """d position / d betas."""
        p = self.points
        jacobian = p.lever_weight @ self.tree.bones_dbetas
        if self.soft is not None:
            jacobian = jacobian + p.member @ (self.tree.R_world[:, p.soft_bone] @ p.offset_shape).flatten(2)
        return jacobian.unflatten(2, (3, -1))

    def pull_back(self, forces: Float[Tensor, "B *N K 3"]) -> Float[Tensor, "B *N J3"]:
        """jacobian_pose^T forces without the Jacobian: at each joint the torque of the forces below it."""
        p = self.points

        def over_n(value: Tensor) -> Tensor:
            return value.reshape(len(value), *[1] * (forces.ndim - 3), *value.shape[1:])

        joints, on_joints = over_n(self.tree.joints), p.weight.T @ forces
        torque = p.below @ torch.linalg.cross(joints, on_joints)
        torque = torque - torch.linalg.cross(joints, p.below @ on_joints)
        if self.soft is not None:
            torque = torque + p.below_soft @ torch.linalg.cross(over_n(self.soft), p.member.T @ forces)
        return (torque.unsqueeze(-2) @ over_n(self.tree.axes)).flatten(-3)


def _pieces(model: BodyModel, entry: dict[str, float]) -> list[tuple[int, float, np.ndarray, np.ndarray]]:
    """(bone, weight, offset, offset by betas) of one point, pieces of the same bone added up."""
    assets, n_s = model.assets, model.num_betas
    shapedirs = assets.shapedirs[..., :n_s]
    rest = model.joints_template.double().cpu().numpy()
    rest_shape = model.joints_shapedirs.double().cpu().numpy()
    total: dict[int, list] = {}
    for name, w in entry.items():
        if name in SMPL.names:
            held = total.setdefault(SMPL.index(name), [0.0, np.zeros(3), np.zeros((3, n_s))])
            held[0] += w
            continue
        regressor = assets.keypoints[name]
        rows = regressor.nonzero()[0]
        share = regressor[rows, None] * assets.weights[rows]  # (N, J)
        for bone in share.sum(0).nonzero()[0]:
            s = w * share[:, bone]
            held = total.setdefault(int(bone), [0.0, np.zeros(3), np.zeros((3, n_s))])
            held[0] += s.sum()
            held[1] = held[1] + s @ assets.v_template[rows] - s.sum() * rest[bone]
            held[2] = held[2] + np.einsum("n,ncs->cs", s, shapedirs[rows]) - s.sum() * rest_shape[bone]
    return [(bone, *held) for bone, held in total.items()]
