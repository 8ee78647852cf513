"""Nearness to the pose that another program estimated."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop
from bodyfit.fit.residuals.conditional import ConditionalPose, Expectation

__all__ = ["EstimatedPose"]


class EstimateArrays(NamedTuple):
    """Inputs of the compiled kernel: those of the conditional prior, of a type of their own."""

    weight: float
    freedom: float
    expected: np.ndarray
    factor: np.ndarray
    share: np.ndarray


class EstimatedPose(ConditionalPose):
    """Negative log likelihood of each joint's axis-angle about the estimate's, nats; see `ConditionalPose`."""

    name, weight, variance = "estimate", 2.0, 0.5
    loop = Loop("variables", "bodyfit.fit.residuals.loops.conditional:conditional", EstimateArrays)
    record = EstimateArrays

    @staticmethod
    def expectation(seen: Observations) -> Expectation | None:
        """Return the estimated pose and the factors of its precisions."""
        if seen.estimate_pose is None or seen.estimate_factor is None:
            return None
        return Expectation(seen.estimate_pose, seen.estimate_factor, torch.ones_like(seen.estimate_pose[:, 0]))
