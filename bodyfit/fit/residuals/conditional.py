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

__all__ = ["ConditionalPose"]

_HALF = (FREEDOM + 3) / 2


class ConditionalArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    freedom: float
    expected: np.ndarray
    factor: np.ndarray


class ConditionalPose(VariableResidual):
    """Negative log likelihood of each joint's axis-angle, nats: Student's distribution, whose tails are robust.

    sum_j (n + 3) / 2 log(1 + |L_j^T (theta_j - mu_j)|^2 / n), with n degrees of freedom, mean mu_j and L_j L_j^T the
    precision that the network gives joint j of this person.
    """

    name, group, blocks = "conditional", "pose", ("body_pose",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.conditional:conditional", ConditionalArrays)
    # It would be 0.4 if expectations erred independently of the keypoints that they are made of.
    variance = 1.0
    record: ClassVar[Callable[..., Any]] = ConditionalArrays

    @staticmethod
    def expectation(seen: Observations) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B J 3 3"]] | None:
        """Return the expected pose and the factors of its precisions; None without expectations."""
        if seen.expected_pose is None or seen.expected_factor is None:
            return None
        return seen.expected_pose, seen.expected_factor

    @classmethod
    def of(cls, setup: Setup) -> ConditionalPose:
        """Make the residual, which is the same for every setup."""
        return cls()

    def applies(self, seen: Observations) -> bool:
        """Tell whether there are expectations."""
        return self.expectation(seen) is not None

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model, by iteratively reweighted least squares."""
        white, factor = _white(variables["body_pose"], self.expectation(seen))
        relative = white.square().sum(2) / FREEDOM
        share = (_HALF / FREEDOM / (1 + relative))[..., None]
        gradient = (factor @ (share * white)[..., None])[..., 0]
        blocks = share[..., None] * (factor @ factor.mT)
        return Quadratic(_HALF * relative.log1p().sum(1), gradient.flatten(1), _block_diagonal(blocks))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the whitened residuals, scaled so that |r|^2 is the cost, and their Jacobian."""
        white, factor = _white(variables["body_pose"], self.expectation(seen))
        m = white.square().sum(2).clamp_min(1e-9)
        cost = _HALF * (m / FREEDOM).log1p()
        scale = (cost / m).sqrt()
        r = scale[..., None] * white
        by_m = 0.5 / scale * (_HALF / (FREEDOM + m) - cost / m) / m
        rows = scale[..., None, None] * factor.mT + 2 * by_m[..., None, None] * (
            white[..., None] * (white[..., None, :] @ factor.mT)
        )
        return Vector(r.flatten(1), by_variables=_block_diagonal(rows))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> Any:
        """Make the inputs of the compiled kernel; empty without expectations."""
        expected, factor = seen.weight.new_empty(0, 0), seen.weight.new_empty(0, 0, 3, 3)
        if weight > 0 and (own := self.expectation(seen)) is not None:
            expected, factor = own
        expected, factor = (v.to(seen.weight.dtype).contiguous().numpy() for v in (expected, factor))
        return self.record(weight, FREEDOM, expected, factor)


def _white(
    pose: Float[Tensor, "B P"], expectation: tuple[Float[Tensor, "B A"], Float[Tensor, "B J 3 3"]] | None
) -> tuple[Float[Tensor, "B J 3"], Float[Tensor, "B J 3 3"]]:
    """Compute L^T (theta - mu) of each joint, and L."""
    assert expectation is not None
    mean, factor = expectation
    error = (pose - mean).unflatten(1, (-1, 3))
    return (factor.mT @ error[..., None])[..., 0], factor


def _block_diagonal(blocks: Float[Tensor, "B J 3 3"]) -> Float[Tensor, "B P P"]:
    """Arrange blocks on the diagonal of matrices."""
    n = blocks.shape[1]
    out = blocks.new_zeros(len(blocks), n, 3, n, 3)
    index = torch.arange(n, device=blocks.device)
    out[:, index, :, index] = blocks.transpose(0, 1)
    return out.flatten(3, 4).flatten(1, 2)
