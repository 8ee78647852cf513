"""Continuity with the pose of the previous frame."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["PreviousPose"]


class PreviousPose(VariableResidual):
    """Change of the body pose since the previous frame, radians."""

    name, group, weight, blocks = "previous", "motion", 20.0, ("body_pose",)

    @classmethod
    def of(cls, setup: Setup) -> PreviousPose:
        """Make the residual, which is the same for every setup."""
        return cls()

    def applies(self, seen: Observations) -> bool:
        """Tell whether there is a previous frame."""
        return seen.previous_pose is not None

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model."""
        assert seen.previous_pose is not None
        moved = variables["body_pose"] - seen.previous_pose
        return Quadratic(moved.square().sum(1), moved, torch.ones_like(moved))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the residual vector and its Jacobian."""
        assert seen.previous_pose is not None
        moved = variables["body_pose"] - seen.previous_pose
        eye = torch.eye(moved.shape[1], dtype=moved.dtype, device=moved.device)
        return Vector(moved, by_variables=eye.expand(len(moved), -1, -1))
