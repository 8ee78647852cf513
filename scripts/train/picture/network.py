"""The network that lifts landmarks by what a picture shows about them, and its loss.

It reads the landmark network's own maps about each landmark and between them, its last map, and its landmarks and lift.
Its lift is the landmark network's, corrected, with a scale of each landmark's error across and along the view. Training
asks for the pose as well (root orientation and joints, each with a precision); what ships is the lift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bodyfit.body.conditional.network import student
from bodyfit.detect.networks.lift import CHANNELS, LANDMARKS, POOLED, SPOTS
from bodyfit.geometry.rotation import so3_exp
from bodyfit.skeleton import SMPL
from scripts.train.pose_prior import _half_log

__all__ = ["JOINTS", "LiftNetwork", "Lifted", "Truth", "losses"]

JOINTS = 22
"""Joints of the body without hands."""
_PARENTS = [max(parent, 0) for parent in SMPL.parents[:JOINTS]]
WEIGHTS = {"points": 0.2, "points_dm": 1.0, "pose": 0.5, "root": 0.2, "joints_dm": 1.5}


@dataclass(frozen=True)
class Truth:
    """Truth about B people in the axes of a camera that looks straight at the region, metres."""

    points: Float[Tensor, "B 33 3"]
    """Landmarks about the middle of the hips."""
    root: Float[Tensor, "B 3 3"]
    """Orientation of the root."""
    pose: Float[Tensor, "B 21 3"]
    """Axis-angles of the other joints, radians."""
    rest: Float[Tensor, "B 22 3"]
    """Joints of the person's body at rest."""
    joints: Float[Tensor, "B 22 3"]
    """Joints about the root joint."""


@dataclass(frozen=True)
class Lifted:
    """Distributions of B people, in the same axes (Student's, as in the conditional pose prior)."""

    points: Float[Tensor, "B 33 3"]
    """Landmarks about the middle of the hips, metres."""
    scale: Float[Tensor, "B 33 2"]
    """Scale of their errors across the view and along it, metres."""
    root: Float[Tensor, "B 3 3"]
    root_factor: Float[Tensor, "B 3 3"]
    pose: Float[Tensor, "B 21 3"]
    pose_factor: Float[Tensor, "B 21 3 3"]


class _Block(nn.Module):
    """x + two layers of its normalised value."""

    def __init__(self, width: int, dropped: float) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(dropped)
        self.into, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        return x + self.out(nn.functional.gelu(self.into(self.norm(self.drop(x))), approximate="tanh"))


class LiftNetwork(nn.Module):
    """Residual perceptron on a projection of the features at each spot."""

    mean_pose: Tensor

    def __init__(self, *, width: int = 512, blocks: int = 2, each: int = 32, dropped: float = 0.2) -> None:
        super().__init__()
        sizes = {"geometry": (LANDMARKS, 8), "features": (SPOTS, CHANNELS), "pooled": (POOLED,)}
        for name, size in sizes.items():
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_sd", torch.ones(size))
        self.spots = nn.Parameter(torch.randn(SPOTS, CHANNELS, each) / math.sqrt(CHANNELS))
        self.spots_bias = nn.Parameter(torch.zeros(SPOTS, 1, each))
        self.whole = nn.Linear(POOLED, 128)
        self.drop = nn.Dropout(dropped)
        self.into = nn.Linear(LANDMARKS * 8 + SPOTS * each + 128, width)
        self.blocks = nn.ModuleList(_Block(width, dropped) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.lift = nn.Linear(width, LANDMARKS * 5)
        self.sizes = [6, 6, 3 * (JOINTS - 1), 6 * (JOINTS - 1)]
        self.posture = nn.Linear(width, sum(self.sizes))
        self.register_buffer("mean_pose", torch.zeros(JOINTS - 1, 3))
        for last in (self.lift, self.posture):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def standardise(self, name: str, values: Float[Tensor, "N ..."], least: float) -> None:
        """Set the mean and the deviation, `least` added, by which an input is standardised."""
        getattr(self, f"{name}_mean").copy_(values.float().mean(0))
        getattr(self, f"{name}_sd").copy_(values.float().std(0) + least)

    def _standard(self, name: str, values: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        return ((values - getattr(self, f"{name}_mean")) / getattr(self, f"{name}_sd")).clamp(-5, 5)

    def _hidden(
        self, geometry: Float[Tensor, "B 33 8"], features: Float[Tensor, "B S C"], pooled: Float[Tensor, "B P"]
    ) -> Float[Tensor, "B W"]:
        about = self.drop(self._standard("features", features)).transpose(0, 1)
        each = nn.functional.gelu(torch.bmm(about, self.spots) + self.spots_bias, approximate="tanh")
        whole = self.whole(self.drop(self._standard("pooled", pooled)))
        whole = nn.functional.gelu(whole, approximate="tanh")
        parts = [self._standard("geometry", geometry).flatten(1), each.transpose(0, 1).flatten(1), whole]
        x = self.into(torch.cat(parts, 1))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def _lifted(self, geometry: Float[Tensor, "B 33 8"], hidden: Float[Tensor, "B W"]) -> tuple[Tensor, Tensor]:
        world = geometry[:, :, 5:8]
        world = world - 0.5 * (world[:, 23:24] + world[:, 24:25])
        out = self.lift(hidden).unflatten(1, (LANDMARKS, 5))
        return world + out[..., :3], 0.1 * out[..., 3:].clamp(-5, 3).exp()

    def forward(
        self, geometry: Float[Tensor, "B 33 8"], features: Float[Tensor, "B S C"], pooled: Float[Tensor, "B P"]
    ) -> tuple[Float[Tensor, "B 33 3"], Float[Tensor, "B 33 2"]]:
        """Compute the lift and the scales of its errors, which is what ships."""
        return self._lifted(geometry, self._hidden(geometry, features, pooled))

    def distributions(
        self, geometry: Float[Tensor, "B 33 8"], features: Float[Tensor, "B S C"], pooled: Float[Tensor, "B P"]
    ) -> Lifted:
        """Compute the lift and the pose."""
        hidden = self._hidden(geometry, features, pooled)
        points, scale = self._lifted(geometry, hidden)
        root, root_factor, pose, pose_factor = self.posture(hidden).split(self.sizes, 1)
        upright = root.new_tensor([1.0, 0.0, 0.0, 0.0, -1.0, 0.0])
        return Lifted(
            points,
            scale,
            _rotation(upright + root),
            _factor(root_factor),
            self.mean_pose + pose.unflatten(1, (-1, 3)),
            _factor(pose_factor.unflatten(1, (-1, 6))),
        )


def losses(out: Lifted, truth: Truth) -> dict[str, Tensor]:
    """Compute the terms of the loss (`WEIGHTS`): negative log likelihoods, and distances in decimetres."""
    white = (truth.points - out.points) / torch.cat([out.scale[..., :1], out.scale], 2)
    spread = 2 * out.scale[..., 0].log() + out.scale[..., 1].log()
    joints = joints_of(out.root, out.pose, truth.rest)
    return {
        "points": (3.5 * (white.square().sum(2) / 4).log1p() + spread).mean(),
        "points_dm": 10 * (out.points - truth.points).norm(dim=2).mean(),
        "pose": student(truth.pose - out.pose, out.pose_factor).mean(),
        "root": student(_half_log(out.root.mT @ truth.root), out.root_factor).mean(),
        "joints_dm": 10 * (joints - truth.joints).norm(dim=2).mean(),
    }


def joints_of(
    root: Float[Tensor, "B 3 3"], pose: Float[Tensor, "B 21 3"], rest: Float[Tensor, "B 22 3"]
) -> Float[Tensor, "B 22 3"]:
    """Compute the joints about the root joint of bodies with these joints at rest, metres."""
    R, bones = so3_exp(pose), rest - rest[:, _PARENTS]
    R_cam: list[Tensor] = [root]
    place: list[Tensor] = [torch.zeros_like(bones[:, 0])]
    for joint, parent in enumerate(_PARENTS[1:], 1):
        place.append(place[parent] + (R_cam[parent] @ bones[:, joint, :, None])[..., 0])
        R_cam.append(R_cam[parent] @ R[:, joint - 1])
    return torch.stack(place, 1)


def _rotation(six: Float[Tensor, "B 6"]) -> Float[Tensor, "B 3 3"]:
    """Make rotations whose first two columns are nearest to the given ones (Gram-Schmidt; Zhou et al. 2019)."""
    a, b = six.split(3, 1)
    x = nn.functional.normalize(a, dim=1)
    y = nn.functional.normalize(b - (x * b).sum(1, keepdim=True) * x, dim=1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], 2)


def _factor(six: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 3 3"]:
    """Make lower triangles with a positive diagonal: of six numbers three logarithms and three below."""
    x, y, z = (1.2 + six[..., :3]).clamp(-1.0, 3.0).exp().unbind(-1)
    d, e, f = six[..., 3:].unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([x, zero, zero, d * x, y, zero, e * x, f * y, z], -1).unflatten(-1, (3, 3))
