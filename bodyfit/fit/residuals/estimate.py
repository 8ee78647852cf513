"""Nearness to the pose that another program estimated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.conditional.network import FREEDOM
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["EstimatedPose"]

_HALF = (FREEDOM + 3) / 2


class EstimateArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    freedom: float
    expected: np.ndarray
    factor: np.ndarray


class EstimatedPose(VariableResidual):
    """Negative log likelihood of each joint's axis-angle about the estimate's, nats: Student's, whose tails are robust.

    sum_j (n + 3) / 2 log(1 + |L_j^T (theta_j - mu_j)|^2 / n), with n degrees of freedom, mean mu_j and L_j L_j^T the
    precision of joint j.
    """

    name, group, weight, blocks = "estimate", "pose", 2.0, ("body_pose",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.conditional:estimate", EstimateArrays)
    variance = 0.5

    @classmethod
    def of(cls, setup: Setup) -> EstimatedPose:
        """Make the residual, which is the same for every setup."""
        return cls()

    def applies(self, seen: Observations) -> bool:
        """Tell whether there is an estimate."""
        return seen.estimate_pose is not None

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model, by iteratively reweighted least squares."""
        white, factor = _white(variables["body_pose"], seen)
        relative = white.square().sum(2) / FREEDOM
        share = (_HALF / FREEDOM / (1 + relative))[..., None]
        gradient = (factor @ (share * white)[..., None])[..., 0]
        blocks = share[..., None] * (factor @ factor.mT)
        return Quadratic(_HALF * relative.log1p().sum(1), gradient.flatten(1), _block_diagonal(blocks))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the whitened residuals, scaled so that |r|^2 is the cost, and their Jacobian."""
        white, factor = _white(variables["body_pose"], seen)
        m = white.square().sum(2).clamp_min(1e-9)
        cost = _HALF * (m / FREEDOM).log1p()
        scale = (cost / m).sqrt()
        by_m = 0.5 / scale * (_HALF / (FREEDOM + m) - cost / m) / m
        rows = scale[..., None, None] * factor.mT + 2 * by_m[..., None, None] * (
            white[..., None] * (white[..., None, :] @ factor.mT)
        )
        return Vector((scale[..., None] * white).flatten(1), by_variables=_block_diagonal(rows))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> EstimateArrays:
        """Make the inputs of the compiled kernel; empty without an estimate."""
        like = seen.weight
        values = like.new_empty(0, 0), like.new_empty(0, 0, 3, 3)
        if weight > 0 and seen.estimate_pose is not None and seen.estimate_factor is not None:
            values = seen.estimate_pose, seen.estimate_factor
        return EstimateArrays(weight, FREEDOM, *(v.to(like.dtype).contiguous().numpy() for v in values))


def _white(pose: Float[Tensor, "B P"], seen: Observations) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B J 3 3"]]:
    """Compute L^T (theta - mu) of each joint, and L."""
    assert seen.estimate_pose is not None
    assert seen.estimate_factor is not None
    error = (pose - seen.estimate_pose).unflatten(1, (-1, 3))
    return (seen.estimate_factor.mT @ error[..., None])[..., 0], seen.estimate_factor


def _block_diagonal(blocks: Float[Tensor, "B J 3 3"]) -> Float[Tensor, "B P P"]:
    """Arrange blocks on the diagonal of matrices."""
    n = blocks.shape[1]
    out = blocks.new_zeros(len(blocks), n, 3, n, 3)
    index = torch.arange(n, device=blocks.device)
    out[:, index, :, index] = blocks.transpose(0, 1)
    return out.flatten(3, 4).flatten(1, 2)
