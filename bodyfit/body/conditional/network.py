"""The network of the conditional pose prior: a residual perceptron from keypoints to distributions.

Each quantity has a multivariate Student distribution with `FREEDOM` degrees of freedom: a mean and the Cholesky factor
of a precision P, with -log p = (FREEDOM + n) / 2 log(1 + d^T P d / FREEDOM) - 1/2 log det P + constant. Heavy tails
stand for those whom the detector, or the network, mistakes altogether. Orientation and joints have one together, too,
for their errors correlate: what a picture tells of a leg's direction binds the root to the hip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import roma
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bodyfit.body.conditional.inputs import features_of

__all__ = ["FREEDOM", "JOINT_FREEDOM", "PoseNetwork", "Predicted", "student"]

FREEDOM = 4.0
"""Degrees of freedom of the predicted Student distributions of single quantities."""
JOINT_FREEDOM = 20.0
"""Degrees of freedom of that of orientation and joints together."""


@dataclass(frozen=True)
class Predicted:
    """Distributions of B people, in the axes of a camera that looks straight at the person."""

    root: Float[Tensor, "B 3 3"]
    """Orientation of the root."""
    root_factor: Float[Tensor, "B 3 3"]
    """Lower Cholesky factor of the precision of the root's error log(root^T R), per radian."""
    pose: Float[Tensor, "B J 3"]
    """Axis-angles of the body's joints, radians."""
    pose_factor: Float[Tensor, "B J 3 3"]
    """Lower Cholesky factor of the precision of each joint's axis-angle, per radian."""
    betas: Float[Tensor, "B S"]
    """Shape."""
    betas_scale: Float[Tensor, "B S"]
    """Standard scale of the betas' errors."""
    precision: Float[Tensor, "B P P"]
    """Precision of the errors of orientation and joints together, P = 3 + 3 J."""
    points: Float[Tensor, "B K 3"]
    """Slots about the root joint, metres."""
    points_scale: Float[Tensor, "B K 2"]
    """Scale of their errors across the view and along it, metres."""

    def select(self, index: Tensor | slice) -> Predicted:
        """Select people by index or mask."""
        return Predicted(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @classmethod
    def cat(cls, parts: Sequence[Predicted]) -> Predicted:
        """Concatenate the people of several predictions."""
        return cls(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def mirrored(self, joints: Sequence[int], slots: Sequence[int]) -> Predicted:
        """Return the distributions of the people in a mirror; `joints`, `slots`: counterparts on the other side."""
        across, about = self.pose.new_tensor([-1.0, 1.0, 1.0]), self.pose.new_tensor([1.0, -1.0, -1.0])
        both = about[:, None] * about
        together = about.repeat(1 + len(joints))
        order = [0, 1, 2, *(3 + 3 * j + axis for j in joints for axis in range(3))]
        return Predicted(
            root=across[:, None] * self.root * across,
            root_factor=both * self.root_factor,
            pose=about * self.pose[:, joints],
            pose_factor=both * self.pose_factor[:, joints],
            betas=self.betas,
            betas_scale=self.betas_scale,
            precision=(together[:, None] * together * self.precision)[:, order][:, :, order],
            points=across * self.points[:, slots],
            points_scale=self.points_scale[:, slots],
        )

    def averaged(self, other: Predicted) -> Predicted:
        """Return the means of two predictions; of rotations the rotation nearest to their mean."""
        mean = {f.name: 0.5 * (getattr(self, f.name) + getattr(other, f.name)) for f in fields(self)}
        root = roma.special_procrustes(mean["root"])
        assert isinstance(root, Tensor)
        return Predicted(**(mean | {"root": root}))


class _Block(nn.Module):
    """x + two layers of its normalised value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B W"]) -> Float[Tensor, "B W"]:
        """Compute the block."""
        return x + self.out(nn.functional.gelu(self.into(self.norm(x)), approximate="tanh"))


class PoseNetwork(nn.Module):
    """Residual perceptron from the features of `straighten` to `Predicted`."""

    mean_pose: Tensor
    mean_points: Tensor
    heights: Tensor
    """Height of each slot on a standing body, metres (`straighten`)."""
    below: Tensor
    """(2, N) rows and columns below the diagonal of the factor of `Predicted.precision`."""

    def __init__(self, *, slots: int, joints: int = 23, betas: int = 10, width: int = 640, blocks: int = 4) -> None:
        super().__init__()
        self.sizes = [6, 6, 3 * joints, 6 * joints, betas, betas, 3 * slots, 2 * slots]
        self.slots, self.joints, self.betas, self.width, self.depth = slots, joints, betas, width, blocks
        self.into = nn.Linear(features_of(slots), width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, sum(self.sizes))
        n = 3 + 3 * joints
        self.correlations = nn.Linear(width, n * (n + 1) // 2)
        self.register_buffer("below", torch.tril_indices(n, n, -1), persistent=False)
        self.register_buffer("mean_pose", torch.zeros(joints, 3))
        self.register_buffer("mean_points", torch.zeros(slots, 3))
        self.register_buffer("heights", torch.zeros(slots))
        for layer in (self.head, self.correlations):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Float[Tensor, "B F"]) -> Predicted:
        """Compute the distributions of the people of these features."""
        found, factor = self.predicted(features)
        return replace(found, precision=factor @ factor.mT)

    def predicted(self, features: Float[Tensor, "B F"]) -> tuple[Predicted, Float[Tensor, "B P P"]]:
        """Compute the distributions, and in place of their precision its lower Cholesky factor."""
        x = self.into(features)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        out, together = self.head(x).float().split(self.sizes, 1), self.correlations(x).float()
        root, root_factor, pose, pose_factor, betas, spread, points, scales = out
        upright = torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0, 0.0], device=root.device)  # and facing the camera
        found = Predicted(
            _rotation(upright + root),
            _factor(root_factor),
            self.mean_pose + pose.unflatten(1, (-1, 3)),
            _factor(pose_factor.unflatten(1, (-1, 6))),
            betas,
            spread.clamp(-5, 2).exp(),
            together.new_zeros(len(together), 0, 0),
            self.mean_points + points.unflatten(1, (-1, 3)),
            0.1 * scales.clamp(-5, 3).exp().unflatten(1, (-1, 2)),
        )
        return found, self._together(found, together)

    def _together(self, found: Predicted, raw: Float[Tensor, "B N"]) -> Float[Tensor, "B P P"]:
        """Make the factor of the precision: that of each quantity alone, times a lower triangle near 1."""
        alone = torch.cat([found.root_factor[:, None], found.pose_factor], 1)
        n = 3 * alone.shape[1]
        below, scale = (0.3 * raw).split([n * (n - 1) // 2, n], 1)
        triangle = torch.eye(n, device=raw.device).repeat(len(raw), 1, 1)
        triangle[:, self.below[0], self.below[1]] = below
        return _rows(alone, triangle) * scale.clamp(-2, 2).exp()[:, None]


def _rows(blocks: Float[Tensor, "B J 3 3"], matrix: Float[Tensor, "B P P"]) -> Float[Tensor, "B P P"]:
    """Multiply a matrix by blocks on a diagonal from the left."""
    return (blocks @ matrix.unflatten(1, (-1, 3))).flatten(1, 2)


def _rotation(six: Float[Tensor, "B 6"]) -> Float[Tensor, "B 3 3"]:
    """Make rotations whose first two columns are nearest to the given ones (Gram-Schmidt; Zhou et al. 2019)."""
    a, b = six.split(3, 1)
    x = nn.functional.normalize(a, dim=1)
    y = nn.functional.normalize(b - (x * b).sum(1, keepdim=True) * x, dim=1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], 2)


def _factor(six: Float[Tensor, "*B 6"]) -> Float[Tensor, "*B 3 3"]:
    """Make lower triangles with a positive diagonal: of six numbers three logarithms and three below."""
    a, b, c, d, e, f = (six[..., i] for i in range(6))
    diagonal = (1.2 + torch.stack([a, b, c], -1)).clamp(-1.0, 3.0).exp()
    zero = torch.zeros_like(a)
    x, y, z = diagonal.unbind(-1)
    return torch.stack([x, zero, zero, d * x, y, zero, e * x, f * y, z], -1).unflatten(-1, (3, 3))


def student(
    error: Float[Tensor, "*B N"], factor: Float[Tensor, "*B N N"], freedom: float = FREEDOM
) -> Float[Tensor, "*B"]:
    """Compute the negative log likelihood of errors, up to a constant; `factor`: Cholesky factor of the precision."""
    n = error.shape[-1]
    white = (factor * error[..., None]).sum(-2)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (freedom + n) / 2 * (white.square().sum(-1) / freedom).log1p() - log_det
