"""3D keypoints of a detector (lift), in camera axes, about any origin and of roughly the body's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.posed import Points
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, PointResidual, PointTerm, Vector
from bodyfit.fit.residuals.common.robust import geman_mcclure, saturated
from bodyfit.fit.setup import Setup

__all__ = ["SIZES", "Lift", "centred_distance"]

SIZES = 1.5
"""Largest factor between the sizes of a body and its lift, up or down."""


@dataclass(frozen=True)
class _Centred:
    """Residuals r = (p - mean(p)) / s - (q - mean(q)) in centimetres, and the factors of their Jacobian.

    Both sides are centred about their weighted mean, and the body's points p are divided by s = <p, q> / <q, q>, by
    which they are larger than the keypoints q, clamped to `SIZES`. No size of the body costs less than another then:
    where q were scaled to p, a small body would be near to any keypoints that err, in every frame of a clip. The
    Jacobian is 100 / s (p_kc - sum of share_m p_mc - (p / s)_kc sum of dual_md p_md).
    """

    r: Float[Tensor, "B K 3"]
    share: Float[Tensor, "B K 1"]
    q: Float[Tensor, "B K 3"]
    """Points about their mean by the size; 0 where that is clamped."""
    size: Float[Tensor, "B 1 1"]
    dual: Float[Tensor, "B K 3"]

    @classmethod
    def of(
        cls, points_m: Float[Tensor, "B K 3"], target_m: Float[Tensor, "B K 3"], weight: Float[Tensor, "B K"]
    ) -> _Centred:
        w2 = weight.square()[..., None]
        share = w2 / w2.sum(1, keepdim=True).clamp_min(1e-12)
        both = torch.stack([points_m, target_m])
        p, q = both - (share * both).sum(2, keepdim=True)
        dual = share * q
        dual = dual / (dual * q).sum((1, 2), keepdim=True).clamp_min(1e-12)
        size = (dual * p).sum((1, 2), keepdim=True)
        clamped = size.clamp(1 / SIZES, SIZES)
        free = (clamped == size).to(p.dtype)
        p = p / clamped
        return cls(100 * (p - q), share, free * p, clamped, free * dual)

    def shared(self) -> Float[Tensor, "B 4 K 3"]:
        """Compute derivatives by points of the four sums that all residuals share: the mean (3) and the size."""
        mean = self.share[:, None] * torch.eye(3, dtype=self.r.dtype, device=self.r.device)[:, None]
        return torch.cat([mean, self.dual[:, None]], 1)

    def removed(self) -> Float[Tensor, "B K 3 4"]:
        """Compute the coefficients by which residuals subtract these sums."""
        eye = torch.eye(3, dtype=self.r.dtype, device=self.r.device).expand(*self.r.shape, 3)
        return torch.cat([eye, self.q[..., None]], 3)


def centred_distance(
    points_m: Float[Tensor, "B K 3"],
    target_m: Float[Tensor, "B K 3"],
    weight: Float[Tensor, "B K"],
    sigma_cm: float,
) -> PointTerm:
    """Compute the robust cost of distances (centimetres) to 3D keypoints of any origin and size.

    `weight` is the confidence, squared in the cost.
    """
    c, w2 = _Centred.of(points_m, target_m, weight), weight.square()[..., None]
    rho, robust = geman_mcclure(c.r, sigma_cm)
    stiff = 1e4 * w2 * robust / c.size.square()  # of each coordinate by itself
    shared, removed = c.shared().flatten(2), c.removed().flatten(1, 2)  # (B, 4, 3K), (B, 3K, 4)
    weighted = (stiff.flatten(1)[..., None] * removed).mT
    push = (0.01 * c.size * stiff * c.r).flatten(1)[:, None]
    force = torch.baddbmm(push, push @ removed, shared, alpha=-1)
    left = torch.baddbmm(weighted, weighted @ removed, shared, alpha=-0.5)
    coupling = left.unflatten(2, (-1, 3)), shared.unflatten(2, (-1, 3))
    cost = (w2 * rho).sum((1, 2))
    return PointTerm(cost, force.view_as(points_m), stiff.diag_embed(), coupling=coupling)


class LiftArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    target_m: np.ndarray
    confidence: np.ndarray
    sigma: float


class Lift(PointResidual):
    """Distances to the lift after both are centred and the body is divided by how much larger it is."""

    name, group, centred = "lift", "seen", True
    loop = Loop("centred", "bodyfit.fit.residuals.loops.lift:lift", LiftArrays)

    @classmethod
    def of(cls, setup: Setup) -> Lift:
        """Make the residual, which is the same for every setup."""
        return cls()

    def points(self, setup: Setup) -> Points:
        """Return the points of the keypoint layout."""
        return setup.points

    def applies(self, seen: Observations) -> bool:
        """Tell whether there is a lift."""
        return seen.lift_m is not None and seen.lift_weight is not None

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """Compute the unweighted quadratic model."""
        assert seen.lift_m is not None
        assert seen.lift_weight is not None
        return centred_distance(points_m, seen.lift_m, seen.lift_weight, stage.lift_sigma_cm)

    def vector(
        self,
        points_m: Float[Tensor, "B K 3"],
        variables: Mapping[str, Tensor],
        seen: Observations,
        stage: StageConfig,
        *,
        derive: bool = True,
    ) -> Vector:
        """Compute the residual vector, each coordinate saturated, and its Jacobian."""
        assert seen.lift_m is not None
        assert seen.lift_weight is not None
        c = _Centred.of(points_m, seen.lift_m, seen.lift_weight)
        r, slope = saturated(c.r, stage.lift_sigma_cm)
        weight, n_k = seen.lift_weight[..., None], points_m.shape[1]
        if not derive:
            return Vector((weight * r).flatten(1))
        one = torch.eye(3 * n_k, dtype=r.dtype, device=r.device).view(3 * n_k, n_k, 3)
        rows = one - torch.einsum("brm,bmkc->brkc", c.removed().flatten(1, 2), c.shared())
        by = 100 * (weight * slope / c.size).flatten(1)[..., None, None]
        return Vector((weight * r).flatten(1), by_points=by * rows)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> LiftArrays:
        """Make the inputs of the compiled kernel; empty without a lift."""
        there = weight > 0 and seen.lift_m is not None and seen.lift_weight is not None
        target = seen.lift_m if there else seen.weight.new_empty(0, 0, 3)
        confidence = seen.lift_weight if there else seen.weight.new_empty(0, 0)
        assert target is not None
        assert confidence is not None
        kind = seen.weight.dtype
        target, confidence = (v.to(kind).contiguous().numpy() for v in (target, confidence))
        return LiftArrays(weight, target, confidence, float(stage.lift_sigma_cm))
