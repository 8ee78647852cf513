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


class ShapeArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float


class ShapePrior(VariableResidual):
    """The betas as residuals."""

    name, group, blocks = "shape", "shape", ("betas",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.angles:shape", ShapeArrays)

    @classmethod
    def of(cls, setup: Setup) -> ShapePrior:
        """Make the residual, which is the same for every setup."""
        return cls()

    def applies(self, seen: Observations) -> bool:
        """Tell whether the shape is a variable: not if it is known."""
        return "betas" not in seen.fixed

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model."""
        betas = variables["betas"]
        return Quadratic(betas.square().sum(1), betas, torch.ones_like(betas))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the residual vector and its Jacobian."""
        betas = variables["betas"]
        eye = torch.eye(betas.shape[1], dtype=betas.dtype, device=betas.device)
        return Vector(betas, by_variables=eye.expand(len(betas), -1, -1))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> ShapeArrays:
        """Make the inputs of the compiled kernel."""
        return ShapeArrays(weight if self.applies(seen) else 0.0)
