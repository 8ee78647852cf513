"""A known height of the body."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["HeightTerm"]


class HeightTerm(VariableResidual):
    """Difference of the body's height from a known one, centimetres, linear in betas.

    Height is measured from the lowest to the highest vertex, which is linear while these stay the same; on the shipped
    bodies the error is at most 5 mm.
    """

    name, group, weight, blocks = "height", "seen", 10.0, ("betas",)

    def __init__(self, model: BodyModel) -> None:
        unit = torch.eye(model.num_betas, dtype=model.dtype, device=model.device)
        with torch.no_grad():
            y = model(betas=torch.cat([torch.zeros_like(unit[:1]), unit, -unit])).vertices[..., 1]
        height = y.amax(1) - y.amin(1)
        self.mean_m = height[0]
        self.slope_m = (height[1 : 1 + len(unit)] - height[1 + len(unit) :]) / 2

    @classmethod
    def of(cls, setup: Setup) -> HeightTerm:
        """Make the residual from the body model of the fit."""
        return cls(setup.model)

    def applies(self, seen: Observations) -> bool:
        """Tell whether a height is known and the shape is not."""
        return seen.height_m is not None and "betas" not in seen.fixed

    def betas_for(self, height_m: Float[Tensor, "B"]) -> Float[Tensor, "B S"]:
        """Compute the smallest betas (least squares) of a given height."""
        share = (height_m - self.mean_m) / self.slope_m.square().sum().clamp_min(1e-12)
        return share[:, None] * self.slope_m

    def __call__(self, betas: Float[Tensor, "B S"], height_m: Float[Tensor, "B"]) -> Quadratic:
        """Compute the unweighted quadratic model by betas."""
        r = 100 * (self.mean_m + betas @ self.slope_m - height_m)
        row = 100 * self.slope_m
        return Quadratic(r.square(), r[:, None] * row, torch.outer(row, row).expand(len(r), -1, -1))

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model."""
        assert seen.height_m is not None
        return self(variables["betas"], seen.height_m)

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the one residual and its derivative."""
        assert seen.height_m is not None
        r = 100 * (self.mean_m + variables["betas"] @ self.slope_m - seen.height_m)
        return Vector(r[:, None], by_variables=(100 * self.slope_m).expand(len(r), 1, -1))
