"""Prior of the focal length, if it is a variable: a normal distribution of its logarithm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Vector
from bodyfit.fit.residuals.common.normal import NormalPrior
from bodyfit.fit.variables import Block

__all__ = ["FOCAL", "FocalPrior"]

FOCAL = Block("focal", 1, shared=True)
"""Logarithm of the ratio of the focal length to that of the observations."""


class FocalPrior(NormalPrior):
    """Logarithm of the ratio as a residual; its weight is the root of the precision."""

    name, group, blocks = "focal", "seen", (FOCAL.name,)

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the residual and its derivative."""
        phi = variables[FOCAL.name]
        return Vector(phi, by_variables=torch.ones_like(phi)[..., None])
