"""Prior of the focal length, if it is a variable: a normal distribution of its logarithm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup
from bodyfit.fit.variables import Block

__all__ = ["FOCAL", "FocalPrior"]

FOCAL = Block("focal", 1, shared=True)
"""Logarithm of the ratio of the focal length to that of the observations."""


class FocalPrior(VariableResidual):
    """Logarithm of the ratio as a residual; its weight is the root of the precision."""

    name, group, blocks = "focal", "seen", (FOCAL.name,)

    @classmethod
    def of(cls, setup: Setup) -> FocalPrior:
        """Make the residual, which is the same for every setup."""
        return cls()

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model."""
        phi = variables[FOCAL.name]
        return Quadratic(phi.square().sum(1), phi, torch.ones_like(phi))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the residual and its derivative."""
        phi = variables[FOCAL.name]
        return Vector(phi, by_variables=torch.ones_like(phi)[..., None])
