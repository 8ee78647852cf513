"""Measured 3D positions of keypoints, in camera axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.posed import Points
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, PointResidual, PointTerm, Vector
from bodyfit.fit.residuals.common.robust import geman_mcclure
from bodyfit.fit.setup import Setup

__all__ = ["MeasuredPoints", "distance"]


def distance(
    points_m: Float[Tensor, "B P 3"], target_m: Float[Tensor, "B P 3"], weight: Float[Tensor, "B P"], sigma_cm: float
) -> PointTerm:
    """Compute the robust cost of distances to measured positions, centimetres.

    The robustifier acts on the whole distance; `weight` is squared in the cost.
    """
    r, w2 = 100 * (points_m - target_m), weight.square()
    rho, robust = geman_mcclure(r.norm(dim=2), sigma_cm)
    pull = (100 * w2 * robust)[..., None]
    eye = torch.eye(3, dtype=r.dtype, device=r.device)
    return PointTerm((w2 * rho).sum(1), pull * r, 100 * pull[..., None] * eye)


class MeasuredArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    target_m: np.ndarray
    confidence: np.ndarray
    sigma: float


class MeasuredPoints(PointResidual):
    """Distances to measured points."""

    name, group, weight = "points", "seen", 1.0
    loop = Loop("points3d", "bodyfit.fit.residuals.loops.measured:measure", MeasuredArrays)

    @classmethod
    def of(cls, setup: Setup) -> MeasuredPoints:
        """Make the residual, which is the same for every setup."""
        return cls()

    def points(self, setup: Setup) -> Points:
        """Return the points of the layout of measured points."""
        return setup.points3d

    def applies(self, seen: Observations) -> bool:
        """Tell whether there are measured points."""
        return seen.points_m is not None and seen.points_weight is not None

    def at(
        self, points_m: Float[Tensor, "B P 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """Compute the unweighted quadratic model."""
        assert seen.points_m is not None
        assert seen.points_weight is not None
        return distance(points_m, seen.points_m, seen.points_weight, stage.points_sigma_cm)

    def vector(
        self,
        points_m: Float[Tensor, "B P 3"],
        variables: Mapping[str, Tensor],
        seen: Observations,
        stage: StageConfig,
        *,
        derive: bool = True,
    ) -> Vector:
        """Compute the residual vector r / sqrt(1 + |r|^2 / sigma^2) and its Jacobian."""
        assert seen.points_m is not None
        assert seen.points_weight is not None
        r, n_k = 100 * (points_m - seen.points_m) / stage.points_sigma_cm, points_m.shape[1]
        inverse = (1 + r.square().sum(2, keepdim=True)).rsqrt()
        weight = (stage.points_sigma_cm * seen.points_weight)[..., None]
        if not derive:
            return Vector((weight * inverse * r).flatten(1))
        eye = torch.eye(3, dtype=r.dtype, device=r.device)
        by_own = 100 * inverse[..., None] * (eye - inverse[..., None].square() * r[..., None] * r[..., None, :])
        by_own = (weight / stage.points_sigma_cm)[..., None] * by_own
        one = torch.eye(n_k, dtype=r.dtype, device=r.device)
        rows = by_own[:, :, :, None] * one[:, None, :, None]
        return Vector((weight * inverse * r).flatten(1), by_points=rows.flatten(1, 2))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> MeasuredArrays:
        """Make the inputs of the compiled kernel; empty without measured points."""
        there = weight > 0 and self.applies(seen)
        target = seen.points_m if there else seen.weight.new_empty(0, 0, 3)
        confidence = seen.points_weight if there else seen.weight.new_empty(0, 0)
        assert target is not None
        assert confidence is not None
        kind = seen.weight.dtype
        target, confidence = (v.to(kind).contiguous().numpy() for v in (target, confidence))
        return MeasuredArrays(weight, target, confidence, float(stage.points_sigma_cm))
