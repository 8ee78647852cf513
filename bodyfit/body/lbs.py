"""Evaluate forward kinematics and linear blend skinning by tensor operations (Loper et al. 2015, eq. 2 to 10)."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["forward_kinematics", "rigid_transforms", "skin", "tree_levels"]


@lru_cache(maxsize=32)
def tree_levels(parents: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Group joints by their depth in the tree, so that chains are evaluated level by level and not joint by joint."""
    depth = [0] * len(parents)
    for joint, parent in enumerate(parents):
        depth[joint] = 0 if parent < 0 else depth[parent] + 1
    return tuple(tuple(j for j, d in enumerate(depth) if d == level) for level in range(max(depth) + 1))


def forward_kinematics(
    R_local: Float[Tensor, "B J 3 3"], joints_rest: Float[Tensor, "B J 3"], parents: tuple[int, ...]
) -> tuple[Float[Tensor, "B J 3 3"], Float[Tensor, "B J 3"]]:
    """Compute the world rotation and position of every joint; the root turns about its own rest position."""
    order: list[int] = []
    rotations: list[Tensor] = []
    positions: list[Tensor] = []
    position_of: dict[int, tuple[int, int]] = {}
    for level, members in enumerate(tree_levels(parents)):
        if level == 0:
            rotations.append(R_local[:, list(members)])
            positions.append(joints_rest[:, list(members)])
        else:
            up = [position_of[parents[j]][1] for j in members]
            R_up, p_up = rotations[-1][:, up], positions[-1][:, up]
            bones = joints_rest[:, list(members)] - joints_rest[:, [parents[j] for j in members]]
            rotations.append(R_up @ R_local[:, list(members)])
            positions.append(p_up + (R_up @ bones[..., None])[..., 0])
        position_of |= {j: (level, i) for i, j in enumerate(members)}
        order += members
    back = sorted(range(len(order)), key=order.__getitem__)
    return torch.cat(rotations, 1)[:, back], torch.cat(positions, 1)[:, back]


def rigid_transforms(
    R_world: Float[Tensor, "B J 3 3"], joints_posed: Float[Tensor, "B J 3"], joints_rest: Float[Tensor, "B J 3"]
) -> Float[Tensor, "B J 3 4"]:
    """Compute the transforms of rest points by each bone, x -> R (x - j_rest) + j_posed, as (R | t)."""
    t = joints_posed - (R_world @ joints_rest[..., None])[..., 0]
    return torch.cat([R_world, t[..., None]], -1)


def skin(
    rest: Float[Tensor, "B V 3"], transforms: Float[Tensor, "B J 3 4"], weights: Float[Tensor, "V J"]
) -> Float[Tensor, "B V 3"]:
    """Transform vertices by the weighted means of their bones' transforms."""
    rows = (
        weights @ transforms[:, :, r] for r in range(3)
    )  # one at a time: together they take the memory of four meshes
    return torch.stack([(row[..., :3] * rest).sum(-1) + row[..., 3] for row in rows], -1)
