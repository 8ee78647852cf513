"""Where a fit starts: orientation and translation of a body in its mean pose, from several guesses at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.fit.residuals.reprojection import reprojected
from bodyfit.geometry.camera import FLIP_YZ
from bodyfit.geometry.rotation import exp_and_left_jacobian, hat, so3_exp
from bodyfit.solve import LMConfig, Normal, minimize

__all__ = ["Placement", "RigidPlacement", "Start", "placed_on", "starting_orientations", "translation_for", "uphill"]

_YAWS = (0.0, 0.5 * math.pi, math.pi, 1.5 * math.pi)


@dataclass(frozen=True)
class Start:
    """Starting orientations of each person, best first."""

    R: Float[Tensor, "B H 3 3"]
    """Root rotations."""
    t: Float[Tensor, "B H 3"]
    """Where the root joint lies, camera axes, metres."""
    cost: Float[Tensor, "B H"]
    """Of the robust reprojection error."""


@dataclass(frozen=True)
class Placement:
    """One start of each person."""

    R: Float[Tensor, "B 3 3"]
    """Root rotations."""
    t: Float[Tensor, "B 3"]
    """Where the root joint lies, camera axes, metres."""
    usable: Bool[Tensor, "B"]
    """Whether there was enough to find it by."""


@dataclass(frozen=True)
class RigidPlacement:
    """A rigid set of points seen by a camera: 6 variables a person, position (3) and axis-angle (3)."""

    points_m: Float[Tensor, "*B K 3"]
    """About the root; one set for all, or one a person."""
    target: Float[Tensor, "B K 2"]
    """Normalised picture coordinates."""
    weight: Float[Tensor, "B K"]
    """Squared in the sum."""
    sigma: Float[Tensor, "B"]
    """Where residuals saturate, normalised coordinates."""

    def select(self, index: Tensor) -> RigidPlacement:
        """Some of the people."""
        points = self.points_m if self.points_m.ndim == 2 else self.points_m[index]
        return RigidPlacement(points, self.target[index], self.weight[index], self.sigma[index])

    def normal(self, x: Float[Tensor, "B 6"]) -> Normal:
        """Normal equations of the robust reprojection error."""
        R, left = exp_and_left_jacobian(x[:, 3:])
        turned = self.points_m @ R.mT
        scale = self.sigma.reciprocal()[:, None]
        term = reprojected(turned + x[:, None, :3], self.target, self.weight, scale, 1.0)
        assert term.stiffness is not None
        by_angle = -hat(turned) @ left[:, None]  # (B, K, 3, 3)
        eye = torch.eye(3, dtype=x.dtype, device=x.device).expand_as(by_angle)
        J = torch.cat([eye, by_angle], -1).flatten(1, 2)  # (B, 3K, 6)
        pulled = (term.stiffness @ J.unflatten(1, (-1, 3))).flatten(1, 2)
        return Normal(term.cost, (J.mT @ term.force.flatten(1)[..., None])[..., 0], J.mT @ pulled)


def translation_for(
    points_m: Float[Tensor, "B K 3"], target: Float[Tensor, "B K 2"], weight: Float[Tensor, "B K"]
) -> Float[Tensor, "B 3"]:
    """Where turned points must be moved to be seen at `target`: linear least squares on x + tx = u (z + tz).

    Falls back to similar triangles (spread in metres over spread in the picture) where that gives no point well
    before the camera.
    """
    u, v = target.unbind(-1)
    w2 = weight.square()
    zero, one = torch.zeros_like(u), torch.ones_like(u)
    rows = torch.stack([torch.stack([one, zero, -u], -1), torch.stack([zero, one, -v], -1)], 2)  # (B, K, 2, 3)
    right = target * points_m[..., 2:] - points_m[..., :2]
    weighted = w2[..., None, None] * rows
    A = (weighted.unsqueeze(-1) * rows.unsqueeze(-2)).sum((1, 2))
    b = (weighted * right[..., None]).sum((1, 2))
    t = torch.linalg.solve_ex(A + 1e-9 * torch.eye(3).to(A), b)[0]
    share = (w2 / w2.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
    mean_2d, mean_3d = (share * target).sum(1), (share * points_m).sum(1)
    spread_2d = (share * (target - mean_2d[:, None]).square()).sum((1, 2)).sqrt()
    spread_3d = (share * (points_m - mean_3d[:, None])[..., :2].square()).sum((1, 2)).sqrt()
    depth = (spread_3d / spread_2d.clamp_min(1e-6)).clamp(0.3, 1e3)
    similar = torch.cat([mean_2d * depth[:, None] - mean_3d[:, :2], (depth - mean_3d[:, 2])[:, None]], 1)
    ahead = torch.isfinite(t).all(1) & (t[:, 2] > 0.5 * depth) & (t[:, 2] < 2 * depth)
    return torch.where(ahead[:, None], t, similar)


def placed_on(
    points_m: Float[Tensor, "B K 3"], where_m: Float[Tensor, "B K 3"], weight: Float[Tensor, "B K"]
) -> Placement:
    """The rotation and position that bring a body's points (about its root) nearest to where they are known to be."""
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
    R = _procrustes(points_m, where_m, weight)
    t = (share * (where_m - points_m @ R.mT)).sum(1)
    return Placement(R, t, (weight > 0).sum(1) >= 4)


def uphill(
    height_m: Float[Tensor, "#B K"], target: Float[Tensor, "B K 2"], weight: Float[Tensor, "B K"]
) -> Float[Tensor, "B 2"]:
    """The way in the picture in which points lie higher on the upright body, by regression of their places on their
    heights; straight up where these differ by less than keypoints err."""
    share = weight / weight.sum(1, keepdim=True).clamp_min(1e-12)
    above = height_m - (share * height_m).sum(1, keepdim=True)
    up = ((share * above)[..., None] * target).sum(1)  # what is centred once is centred
    level = (share * above.square()).sum(1) < 0.02**2
    return torch.where(level[:, None], up.new_tensor([0.0, -1.0]), up)


def starting_orientations(
    points_m: Float[Tensor, "#B K 3"],
    target: Float[Tensor, "B K 2"],
    weight: Float[Tensor, "B K"],
    up_2d: Float[Tensor, "B 2"],
    *,
    lift_m: Float[Tensor, "B K 3"] | None = None,
    lift_weight: Float[Tensor, "B K"] | None = None,
    keep: int,
) -> Start:
    """The `keep` best orientations and positions of the rigid points.

    Guesses face the camera, away and to both sides, each leaning as `up_2d` (from hips to shoulders in the picture)
    does, so that people who lie are found too; a 3D lift adds its own by Procrustes. Each guess is refined on the
    robust reprojection error. The second of the best is at least 0.6 rad away from the first, where there is one.
    """
    batch, n_k = weight.shape
    flip = torch.diag(points_m.new_tensor(FLIP_YZ))
    lean = torch.atan2(up_2d[:, 0], -up_2d[:, 1])
    axis_z, axis_y = points_m.new_tensor([0.0, 0.0, 1.0]), points_m.new_tensor([0.0, 1.0, 0.0])
    yaws = so3_exp(points_m.new_tensor(_YAWS)[:, None] * axis_y)
    guesses = so3_exp(lean[:, None] * axis_z)[:, None] @ (flip @ yaws)  # (B, 4, 3, 3)
    if lift_m is not None and lift_weight is not None:
        lifted = (lift_weight > 0).sum(1) >= 4
        by_lift = _procrustes(points_m.expand(batch, n_k, 3), lift_m, lift_weight)
        by_lift = torch.where(lifted[:, None, None], by_lift, guesses[:, 0])
        guesses = torch.cat([by_lift[:, None], guesses], 1)
    n_g = guesses.shape[1]

    def each(value: Tensor) -> Tensor:
        return value.repeat_interleave(n_g, 0)

    R = guesses.flatten(0, 1)
    points_m = points_m[0] if len(points_m) == 1 else each(points_m)
    t = translation_for(points_m @ R.mT, each(target), each(weight))
    # Of the guesses that everybody has: nobody's depends on whether others in the batch have a lift.
    depth = t[:, 2].unflatten(0, (batch, n_g))[:, -len(_YAWS) :].median(1).values
    problem = RigidPlacement(points_m, each(target), each(weight), 0.5 / each(depth))
    x = torch.cat([t, roma.rotmat_to_rotvec(R)], 1)
    x, summary = minimize(problem, x, LMConfig(max_iterations=8, cost_tolerance=1e-2, check_every=4))
    cost = torch.nan_to_num(summary.cost, nan=torch.inf).unflatten(0, (batch, n_g))
    R = so3_exp(x[:, 3:]).unflatten(0, (batch, n_g))
    t = x[:, :3].unflatten(0, (batch, n_g))
    order = _best_first(cost, R)[:, :keep]
    rows = torch.arange(batch, device=order.device)[:, None]
    return Start(R[rows, order], t[rows, order], cost[rows, order])


def _best_first(cost: Float[Tensor, "B G"], R: Float[Tensor, "B G 3 3"]) -> Tensor:
    """Guesses by cost, those that ended where the best did behind the others."""
    best = cost.argmin(1)
    rows = torch.arange(len(cost), device=cost.device)
    trace = (R[rows, best][:, None] * R).sum((2, 3))
    same = trace > 1 + 2 * math.cos(0.6)
    rank = cost.argsort(1).argsort(1).to(cost.dtype) + same * cost.shape[1]
    rank[rows, best] = -1
    return rank.argsort(1)


def _procrustes(
    source: Float[Tensor, "B K 3"], target: Float[Tensor, "B K 3"], weight: Float[Tensor, "B K"]
) -> Float[Tensor, "B 3 3"]:
    """The rotations that turn `source` onto `target` best after centring both."""
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
    a = source - (share * source).sum(1, keepdim=True)
    b = target - (share * target).sum(1, keepdim=True)
    covariance = (share * b).mT @ a + 1e-9 * torch.eye(3).to(a)
    rotation = roma.special_procrustes(covariance)
    assert isinstance(rotation, Tensor)  # it gives the singular values too only where it is asked to
    return rotation
