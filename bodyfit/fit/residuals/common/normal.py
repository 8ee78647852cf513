"""The prior of a block of variables that are normally distributed about zero, independent of each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual
from bodyfit.fit.setup import Setup

__all__ = ["NormalPrior"]


class NormalArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    deviation: float


class NormalPrior(VariableResidual):
    """The squares of the variables of one block in units of their standard deviation."""

    loop: ClassVar[Loop | None] = Loop(
        "variables", "bodyfit.fit.residuals.loops.part_priors:normal", NormalArrays, whole=True
    )
    deviation: ClassVar[float] = 1.0
    """Standard deviation of each variable, in the variables' unit."""

    @classmethod
    def of(cls, setup: Setup) -> NormalPrior:
        """Make the prior, which is the same for every setup."""
        return cls()

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model; its Hessian is diagonal."""
        r = variables[self.blocks[0]] / self.deviation
        return Quadratic(r.square().sum(1), r / self.deviation, torch.full_like(r, self.deviation**-2))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> NormalArrays:
        """Make the inputs of the compiled kernel."""
        return NormalArrays(weight, self.deviation)
