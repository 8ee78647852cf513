"""A known stature."""

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
    """Centimetres between the body's stature and a known one; stature is taken as linear in betas.

    The tape measures from the lowest to the highest vertex: linear as long as these stay the same, which on the shipped
    bodies holds to 5 mm.
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
        """Whether a stature is known and the shape is not."""
        return seen.height_m is not None and "betas" not in seen.fixed

    def betas_for(self, height_m: Float[Tensor, "B"]) -> Float[Tensor, "B S"]:
        """The least betas of such a stature."""
        share = (height_m - self.mean_m) / self.slope_m.square().sum().clamp_min(1e-12)
        return share[:, None] * self.slope_m

    def __call__(self, betas: Float[Tensor, "B S"], height_m: Float[Tensor, "B"]) -> Quadratic:
        """The term by betas."""
        r = 100 * (self.mean_m + betas @ self.slope_m - height_m)
        row = 100 * self.slope_m
        return Quadratic(r.square(), r[:, None] * row, torch.outer(row, row).expand(len(r), -1, -1))

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """The term."""
        assert seen.height_m is not None
        return self(variables["betas"], seen.height_m)

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """The one residual."""
        assert seen.height_m is not None
        r = 100 * (self.mean_m + variables["betas"] @ self.slope_m - seen.height_m)
        return Vector(r[:, None], by_variables=(100 * self.slope_m).expand(len(r), 1, -1))
