"""A hand by itself: the wrist's place and turn and 15 finger joints, and its 21 points with their derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.geometry.rotation import exp_and_left_jacobian

__all__ = ["FINGER_BLOCK", "HAND_SIZE", "PosedHand", "pose_hand"]

HAND_SIZE = 6 + 45
"""Variables of a hand: the wrist's place and axis-angle, then the fingers' axis-angles, from the flat hand."""
FINGER_BLOCK = (4, 0, 1, 3, 2)
"""Where the joints of thumb, index, middle, ring and little finger, the order of the points, stand in a hand's pose."""


@dataclass(frozen=True)
class PosedHand:
    """Posed points and what their derivatives need."""

    points: Float[Tensor, "N 21 3"]
    """Camera axes, metres."""
    left: Float[Tensor, "N 3 3"]
    """The world rotation that a change of the wrist's axis-angle makes."""
    axes: Float[Tensor, "N 5 3 3 3"]
    """Of each finger's joints: columns, the world rotation that a unit change of the axis-angle makes."""

    def jacobian(self) -> Float[Tensor, "N 21 3 51"]:
        """By the variables."""
        n, p = len(self.points), self.points
        J = p.new_zeros(n, 21, 3, HAND_SIZE)
        J[..., :3] = torch.eye(3, dtype=p.dtype, device=p.device)
        J[..., 3:6] = _turned(self.left[:, None], p - p[:, :1])
        fingers = p[:, 1:].unflatten(1, (5, 4))
        for finger, block in enumerate(FINGER_BLOCK):
            for joint in range(3):
                arm = fingers[:, finger, joint + 1 :] - fingers[:, finger, joint, None]
                first, at = 1 + 4 * finger + joint + 1, 6 + 9 * block + 3 * joint
                J[:, first : 5 + 4 * finger, :, at : at + 3] = _turned(self.axes[:, finger, joint, None], arm)
        return J


def _turned(axes: Float[Tensor, "N #K 3 3"], arm: Float[Tensor, "N K 3"]) -> Float[Tensor, "N K 3 3"]:
    """axis x arm for each column."""
    return torch.linalg.cross(axes.expand(*arm.shape, 3), arm[..., None].expand(*arm.shape, 3), dim=-2)


def pose_hand(rest: Float[Tensor, "N 21 3"], x: Float[Tensor, "N 51"]) -> PosedHand:
    """The points of hands with variables x; `rest` are those of the flat hand in the body's T-pose, metres."""
    R, left = exp_and_left_jacobian(x[:, 3:6])
    turns, lefts = exp_and_left_jacobian(x[:, 6:].view(-1, 5, 3, 3)[:, list(FINGER_BLOCK)])
    bones = torch.cat([rest[:, 1:].unflatten(1, (5, 4))[:, :, :1] - rest[:, None, :1], _bones(rest)], 2)
    at, world = x[:, None, :3] + (R[:, None] @ bones[:, :, 0, :, None])[..., 0], R[:, None]
    points, axes = [at], []
    for joint in range(3):
        axes.append(world @ lefts[:, :, joint])
        world = world @ turns[:, :, joint]
        at = at + (world @ bones[:, :, joint + 1, :, None])[..., 0]
        points.append(at)
    placed = torch.cat([x[:, None, :3], torch.stack(points, 2).flatten(1, 2)], 1)
    return PosedHand(placed, left, torch.stack(axes, 2))


def _bones(rest: Float[Tensor, "N 21 3"]) -> Float[Tensor, "N 5 3 3"]:
    return rest[:, 1:].unflatten(1, (5, 4)).diff(dim=2)
