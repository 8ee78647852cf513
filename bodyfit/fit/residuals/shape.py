"""The prior of the shape: betas are standard deviations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["ShapePrior"]


class Arrays(NamedTuple):
    """What the loops read."""

    weight: float


class ShapePrior(VariableResidual):
    """The betas as residuals."""

    name, group, blocks = "shape", "shape", ("betas",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.angles:shape", Arrays)

    @classmethod
    def of(cls, setup: Setup) -> ShapePrior:
        """Nothing of its own."""
        return cls()

    def applies(self, seen: Observations) -> bool:
        """Not where the shape is known."""
        return "betas" not in seen.fixed

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """The term."""
        betas = variables["betas"]
        return Quadratic(betas.square().sum(1), betas, torch.ones_like(betas))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """The residuals."""
        betas = variables["betas"]
        eye = torch.eye(betas.shape[1], dtype=betas.dtype, device=betas.device)
        return Vector(betas, by_variables=eye.expand(len(betas), -1, -1))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> Arrays:
        """For the loops."""
        return Arrays(weight if self.applies(seen) else 0.0)
