"""What is believed of the focal length, where it is a variable: its logarithm is normally distributed."""

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
"""The logarithm of the focal length in parts of that which the observations were made with."""


class FocalPrior(VariableResidual):
    """The logarithm as a residual; it weighs the root of the precision."""

    name, group, blocks = "focal", "seen", (FOCAL.name,)

    @classmethod
    def of(cls, setup: Setup) -> FocalPrior:
        """Nothing of its own."""
        return cls()

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """The term."""
        phi = variables[FOCAL.name]
        return Quadratic(phi.square().sum(1), phi, torch.ones_like(phi))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """The residual."""
        phi = variables[FOCAL.name]
        return Vector(phi, by_variables=torch.ones_like(phi)[..., None])
