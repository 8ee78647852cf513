"""The conditional pose prior: what a network expects of each joint, given the keypoints, and how surely."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.conditional.network import FREEDOM
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["ConditionalPose", "Expectation"]

_HALF = (FREEDOM + 3) / 2


class Expectation(NamedTuple):
    """What is expected of B people."""

    pose: Float[Tensor, "B A"]
    """Axis-angles, radians."""
    factor: Float[Tensor, "B J 3 3"]
    """Lower Cholesky factors of the precisions of each joint's axis-angle."""
    share: Float[Tensor, "B"]
    """Factor of the cost."""


class ConditionalArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    freedom: float
    expected: np.ndarray
    factor: np.ndarray
    share: np.ndarray


class ConditionalPose(VariableResidual):
    """Negative log likelihood of each joint's axis-angle, nats: Student's distribution, whose tails are robust.

    w^2 sum_j (n + 3) / 2 log(1 + |L_j^T (theta_j - mu_j)|^2 / n), with n degrees of freedom, mean mu_j and L_j L_j^T
    the precision that the network gives joint j of this person, and w the noise of this person's keypoints: residuals
    of keypoints are centimetres and not nats, so that a nat is worth as many of them squared as they err by.
    """

    name, group, blocks = "conditional", "pose", ("body_pose",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.conditional:conditional", ConditionalArrays)
    # The mean square of the noise that it is weighed by, centimetres, and some more, for it errs as keypoints do.
    variance = 8.0
    record: ClassVar[Callable[..., Any]] = ConditionalArrays

    @staticmethod
    def expectation(seen: Observations) -> Expectation | None:
        """Return what is expected; None without expectations."""
        if seen.expected_pose is None or seen.expected_factor is None or seen.expected_weight is None:
            return None
        return Expectation(seen.expected_pose, seen.expected_factor, seen.expected_weight.square())

    @classmethod
    def of(cls, setup: Setup) -> ConditionalPose:
        """Make the residual, which is the same for every setup."""
        return cls()

    def applies(self, seen: Observations) -> bool:
        """Tell whether there are expectations."""
        return self.expectation(seen) is not None

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model, by iteratively reweighted least squares."""
        white, factor, times = _white(variables["body_pose"], self.expectation(seen))
        relative = white.square().sum(2) / FREEDOM
        share = (times[:, None] * _HALF / FREEDOM / (1 + relative))[..., None]
        gradient = (factor @ (share * white)[..., None])[..., 0]
        blocks = share[..., None] * (factor @ factor.mT)
        return Quadratic(times * _HALF * relative.log1p().sum(1), gradient.flatten(1), _block_diagonal(blocks))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the whitened residuals, scaled so that |r|^2 is the cost, and their Jacobian."""
        white, factor, times = _white(variables["body_pose"], self.expectation(seen))
        m = white.square().sum(2).clamp_min(1e-9)
        cost = _HALF * (m / FREEDOM).log1p()
        scale = (cost / m).sqrt()
        root = times.sqrt()[:, None, None]
        r = root * scale[..., None] * white
        by_m = 0.5 / scale * (_HALF / (FREEDOM + m) - cost / m) / m
        rows = scale[..., None, None] * factor.mT + 2 * by_m[..., None, None] * (
            white[..., None] * (white[..., None, :] @ factor.mT)
        )
        return Vector(r.flatten(1), by_variables=_block_diagonal(root[..., None] * rows))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> Any:
        """Make the inputs of the compiled kernel; empty without expectations."""
        like = seen.weight
        values = Expectation(like.new_empty(0, 0), like.new_empty(0, 0, 3, 3), like.new_empty(0))
        if weight > 0 and (own := self.expectation(seen)) is not None:
            values = own
        return self.record(weight, FREEDOM, *(v.to(like.dtype).contiguous().numpy() for v in values))


def _white(
    pose: Float[Tensor, "B P"], expectation: Expectation | None
) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B J 3 3"], Float[Tensor, "B"]]:
    """Compute L^T (theta - mu) of each joint, L, and the factor of the cost."""
    assert expectation is not None
    error = (pose - expectation.pose).unflatten(1, (-1, 3))
    return (expectation.factor.mT @ error[..., None])[..., 0], expectation.factor, expectation.share


def _block_diagonal(blocks: Float[Tensor, "B J 3 3"]) -> Float[Tensor, "B P P"]:
    """Arrange blocks on the diagonal of matrices."""
    n = blocks.shape[1]
    out = blocks.new_zeros(len(blocks), n, 3, n, 3)
    index = torch.arange(n, device=blocks.device)
    out[:, index, :, index] = blocks.transpose(0, 1)
    return out.flatten(3, 4).flatten(1, 2)
