"""The pose prior: the lowest component of a Gaussian mixture over the body's angles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.hand_prior import HandPrior
from bodyfit.body.pose_prior import PosePrior
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["MixturePrior"]


class MixtureArrays(NamedTuple):
    """What the loops read; the roots' rows are as long as `point_loops.wide` says."""

    weight: float
    tail: float
    means: np.ndarray
    root: np.ndarray
    precision: np.ndarray
    constant: np.ndarray


class MixturePrior(VariableResidual):
    """min_k ( 1/2 (theta - mu_k)^T P_k (theta - mu_k) + 1/2 log det Sigma_k - log w_k ), the max-mixture of SMPLify.

    The smallest of the components' constants is subtracted: it changes no minimum, and in float32 a constant of 1e7
    would leave steps of 1.
    """

    name, group, blocks = "pose", "pose", ("body_pose",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.mixture:mixture", MixtureArrays)
    variance = 0.5  # its cost is half a Mahalanobis distance

    def __init__(self, prior: PosePrior | HandPrior, *, dtype: torch.dtype, device: torch.device) -> None:
        constant = 0.5 * np.linalg.slogdet(prior.covars)[1] - np.log(prior.weights)
        precision = np.linalg.inv(prior.covars)
        # With precision = A A^T the Mahalanobis distance is |A^T d|^2: one product for all components.
        root = np.linalg.cholesky(precision)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=dtype, device=device).contiguous()

        self.means = tensor(prior.means)
        self.precision, self.half_precision = tensor(precision), tensor(0.5 * precision)
        self.root = tensor(np.concatenate(list(root), 1))  # (69, M 69)
        self.root_mean = tensor(np.concatenate([r.T @ mu for r, mu in zip(root, prior.means, strict=True)]))
        self.constant = tensor(constant - constant.min())

    @classmethod
    def of(cls, setup: Setup) -> MixturePrior:
        """Make the residual from the pose prior of the fit."""
        return cls(setup.prior, dtype=setup.model.dtype, device=setup.model.device)

    def component_costs(self, pose: Float[Tensor, "B N"]) -> Float[Tensor, "B M"]:
        """Compute the unweighted cost of each component (the bracket above)."""
        white = torch.addmm(self.root_mean, pose, self.root, beta=-1)
        return torch.add(self.constant, white.unflatten(1, (len(self.means), -1)).square().sum(2), alpha=0.5)

    def __call__(self, pose: Float[Tensor, "B N"], tail: float = math.inf) -> Quadratic:
        """Compute cost, gradient and Hessian of the component of lowest cost at `pose`.

        With a finite `tail` the cost m becomes tail log(1 + m / tail): heavy tails, as of Student's distribution, for
        people who do what the training clips do not.
        """
        cost, k = self.component_costs(pose).min(1)
        relative = cost / tail
        precision = self.half_precision[k] * (1 + relative).reciprocal()[:, None, None]
        gradient = (precision @ (pose - self.means[k])[..., None])[..., 0]
        return Quadratic(cost if math.isinf(tail) else tail * relative.log1p(), gradient, precision)

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model, with the stage's tail."""
        return self(variables["body_pose"], stage.pose_tail)

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the whitened residual of the lowest component and its constant, and their Jacobian.

        With a tail they are scaled so that |r|^2 is the cost.
        """
        pose, tail = variables["body_pose"], stage.pose_tail
        best = self.component_costs(pose).argmin(1)
        n_m, n = self.means.shape
        root = math.sqrt(0.5) * self.root.view(n, n_m, n).permute(1, 2, 0)[best]  # (B, N, N)
        u = (root @ (pose - self.means[best])[..., None])[..., 0]
        u = torch.cat([u, self.constant[best, None].sqrt()], 1)
        rows = torch.nn.functional.pad(root, (0, 0, 0, 1))
        if math.isinf(tail):
            return Vector(u, by_variables=rows)
        m = u.square().sum(1).clamp_min(1e-9)
        cost = tail * (m / tail).log1p()
        scale = (cost / m).sqrt()
        by_m = 0.5 / scale * (1 / (1 + m / tail) - cost / m) / m
        rows = scale[:, None, None] * rows + 2 * by_m[:, None, None] * u[..., None] * (u[:, None] @ rows)
        return Vector(scale[:, None] * u, by_variables=rows)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> MixtureArrays:
        """Make the inputs of the compiled kernel."""
        return MixtureArrays(weight, float(stage.pose_tail), *self.tables)

    @cached_property
    def tables(self) -> tuple[np.ndarray, ...]:
        """Means, roots, precisions and constants for the loops."""
        n_m, n = self.means.shape
        root = self.root.unflatten(1, (n_m, n)).transpose(0, 1)
        root = torch.nn.functional.pad(root, (0, -n % 16)).contiguous()
        return self.means.numpy(), root.numpy(), self.precision.numpy(), self.constant.numpy()
