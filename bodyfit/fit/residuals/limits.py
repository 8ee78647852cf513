"""Joint limits."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.pose_prior import PosePrior
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["LimitPrior"]


class LimitArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    lower: np.ndarray
    upper: np.ndarray


class LimitPrior(VariableResidual):
    """Angles beyond the joint limits as residuals, radians."""

    name, group, blocks = "limits", "contact", ("body_pose",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.angles:limit", LimitArrays)

    def __init__(self, prior: PosePrior, *, dtype: torch.dtype, device: torch.device) -> None:
        self.lower = torch.as_tensor(prior.limits_lower, dtype=dtype, device=device)
        self.upper = torch.as_tensor(prior.limits_upper, dtype=dtype, device=device)

    @classmethod
    def of(cls, setup: Setup) -> LimitPrior:
        """Make the residual from the pose prior of the fit."""
        return cls(setup.prior, dtype=setup.model.dtype, device=setup.model.device)

    def __call__(self, pose: Float[Tensor, "B N"]) -> Quadratic:
        """Compute the unweighted quadratic model, whose Hessian is diagonal."""
        beyond = pose - pose.clamp(self.lower, self.upper)
        return Quadratic(beyond.square().sum(1), beyond, (beyond != 0).to(pose.dtype))

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model."""
        return self(variables["body_pose"])

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the residual vector and its Jacobian."""
        pose = variables["body_pose"]
        beyond = pose - pose.clamp(self.lower, self.upper)
        return Vector(beyond, by_variables=(beyond != 0).to(pose).diag_embed())

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> LimitArrays:
        """Make the inputs of the compiled kernel."""
        return LimitArrays(weight, *self._tables)

    @cached_property
    def _tables(self) -> tuple[np.ndarray, ...]:
        return self.lower.numpy(), self.upper.numpy()
