"""What hands are like: the lowest component of a mixture over their poses, and the limits of their joints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.hand_prior import HandPrior, load_hand_prior
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual
from bodyfit.fit.residuals.mixture import MixturePrior
from bodyfit.fit.residuals.parts.arrays import HandLimitArrays, HandPriorArrays

if TYPE_CHECKING:
    from bodyfit.fit.setup import Setup
    from bodyfit.fit.variables import Variables

__all__ = ["HAND_BLOCKS", "HandLimits", "HandPosePrior", "hand_limits"]

HAND_BLOCKS = ("left_hand_pose", "right_hand_pose")


def _of_both(terms: list[Quadratic]) -> Quadratic:
    """The sum of terms on the left and on the right hand's pose, by the columns of both."""
    left, right = terms
    cost, gradient = left.cost + right.cost, torch.cat([left.gradient, right.gradient], 1)
    if left.hessian.ndim == 2:
        return Quadratic(cost, gradient, torch.cat([left.hessian, right.hessian], 1))
    n = left.gradient.shape[1]
    hessian = gradient.new_zeros(len(cost), 2 * n, 2 * n)
    hessian[:, :n, :n], hessian[:, n:, n:] = left.hessian, right.hessian
    return Quadratic(cost, gradient, hessian)


class HandPosePrior(VariableResidual):
    """Half the Mahalanobis distance of each hand's pose from the nearest component of the hand prior."""

    name, group, blocks = "hand_pose", "pose", HAND_BLOCKS
    weight, variance = 3.0, 0.5
    loop = Loop("variables", "bodyfit.fit.residuals.loops.part_priors:hands", HandPriorArrays, whole=True)

    def __init__(self, priors: tuple[HandPrior, HandPrior], means: Float[Tensor, "2 45"], layout: Variables) -> None:
        self.first = np.array([layout[name].start for name in self.blocks])
        # Variables are about the model's mean hand, the prior is about the flat one.
        self.mixtures = [
            MixturePrior(replace(p, means=p.means - about), dtype=means.dtype, device=means.device)
            for p, about in zip(priors, means.double().cpu().numpy(), strict=True)
        ]

    @classmethod
    def of(cls, setup: Setup) -> HandPosePrior:
        """Build it from the shipped hand prior; the model gives the mean hand poses only."""
        return cls(load_hand_prior(), setup.model.hand_means, setup.layout)

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """The term of both hands."""
        return _of_both([mixture(variables[name]) for mixture, name in zip(self.mixtures, HAND_BLOCKS, strict=True)])

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> HandPriorArrays:
        """Make the inputs of the compiled kernel; the mixtures have no heavy tails."""
        plain = replace(stage, pose_tail=math.inf)
        left, right = (mixture.arrays(seen, plain, weight) for mixture in self.mixtures)
        return HandPriorArrays(weight, self.first, left, right)


class HandLimits(VariableResidual):
    """Radians beyond the range of motion of finger joints, along their axes of flexion, abduction and twist."""

    name, group, blocks = "hand_limits", "contact", HAND_BLOCKS
    weight = 50.0
    loop = Loop("variables", "bodyfit.fit.residuals.loops.part_priors:hand_limits", HandLimitArrays, whole=True)

    def __init__(self, priors: tuple[HandPrior, HandPrior], means: Float[Tensor, "2 45"], layout: Variables) -> None:
        self.means, self.first = means, np.array([layout[name].start for name in self.blocks])

        def tensor(arrays: list[np.ndarray]) -> Tensor:
            return torch.as_tensor(np.stack(arrays), dtype=means.dtype, device=means.device)

        self.axes = tensor([prior.axes for prior in priors])  # (2, 15, 3, 3)
        self.limits = tensor([prior.limits for prior in priors])

    @classmethod
    def of(cls, setup: Setup) -> HandLimits:
        """Build it from the joint limits of the shipped hand prior; the model gives the mean hand poses only."""
        return cls(load_hand_prior(), setup.model.hand_means, setup.layout)

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """The term of both hands."""
        rows = zip(HAND_BLOCKS, self.means, self.axes, self.limits, strict=True)
        return _of_both([hand_limits(variables[name] + mean, axes, limits) for name, mean, axes, limits in rows])

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> HandLimitArrays:
        """Make the inputs of the compiled kernel."""
        return HandLimitArrays(weight, self.first, *self._tables)

    @cached_property
    def _tables(self) -> tuple[np.ndarray, ...]:
        return tuple(v.contiguous().numpy() for v in (self.means, self.axes, self.limits))


def hand_limits(
    pose: Float[Tensor, "B 45"], axes: Float[Tensor, "15 3 3"], limits: Float[Tensor, "15 3 2"]
) -> Quadratic:
    """Squared radians that projections of a hand's axis-angles (from the flat hand) on their axes are beyond limits."""
    along = (axes @ pose.unflatten(1, (-1, 3))[..., None])[..., 0]
    beyond = along - along.clamp(limits[..., 0], limits[..., 1])
    gradient = (axes.mT @ beyond[..., None])[..., 0]
    blocks = (axes.mT * (beyond != 0).to(pose)[:, :, None]) @ axes  # (B, 15, 3, 3)
    n = pose.shape[1]
    hessian = pose.new_zeros(len(pose), n, n)
    diagonal = hessian.unflatten(2, (-1, 3)).unflatten(1, (-1, 3)).diagonal(dim1=1, dim2=3)  # (B, 3, 3, 15)
    diagonal.copy_(blocks.permute(0, 2, 3, 1))
    return Quadratic(beyond.square().sum((1, 2)), gradient.flatten(1), hessian)
