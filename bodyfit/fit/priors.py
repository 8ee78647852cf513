"""Terms on pose and shape alone: the Gaussian mixture, the bending angles, the joint limits, the betas.

Each returns its cost and writes half its gradient and half its Hessian (or a Gauss-Newton stand-in) into the rows of
the variables it knows. The objective is a sum of squares without a half in front: E = |r|^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.pose_prior import PosePrior

__all__ = ["AnglePrior", "HeightTerm", "LimitPrior", "MixturePrior", "Quadratic"]


@dataclass(frozen=True)
class Quadratic:
    """A term about the current point."""

    cost: Float[Tensor, "B"]
    """Its value."""
    gradient: Float[Tensor, "B N"]
    """Half its gradient."""
    hessian: Float[Tensor, "B N N"] | Float[Tensor, "B N"]
    """Half its Hessian, or the diagonal where it is diagonal."""


class MixturePrior:
    """min_k ( 1/2 (theta - mu_k)^T P_k (theta - mu_k) + 1/2 log det Sigma_k - log w_k ), the max-mixture of SMPLify.

    The smallest of the components' constants is subtracted: it changes no minimum, and in float32 a constant of 1e7
    would leave steps of 1.
    """

    def __init__(self, prior: PosePrior, *, dtype: torch.dtype, device: torch.device) -> None:
        constant = 0.5 * np.linalg.slogdet(prior.covars)[1] - np.log(prior.weights)
        precision = np.linalg.inv(prior.covars)
        # With precision = A A^T the Mahalanobis distance is |A^T d|^2: one product for all components.
        root = np.linalg.cholesky(precision)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=dtype, device=device).contiguous()

        self.means = tensor(prior.means)
        self.precision = tensor(precision)
        self.root = tensor(np.concatenate(list(root), 1))  # (69, M 69)
        self.root_mean = tensor(np.concatenate([r.T @ mu for r, mu in zip(root, prior.means, strict=True)]))
        self.constant = tensor(constant - constant.min())

    def component_costs(self, pose: Float[Tensor, "B N"]) -> Float[Tensor, "B M"]:
        """The bracket for each component, unweighted."""
        white = pose @ self.root - self.root_mean
        return 0.5 * white.unflatten(1, (len(self.means), -1)).square().sum(2) + self.constant

    def __call__(self, pose: Float[Tensor, "B N"], tail: float = math.inf) -> Quadratic:
        """Cost, gradient and Hessian of the component that is lowest at `pose`.

        With a finite `tail` the cost m becomes tail log(1 + m / tail): heavy tails, as of Student's distribution, for
        people who do what the training clips do not.
        """
        cost, k = self.component_costs(pose).min(1)
        relative = cost / tail
        precision = self.precision[k] * (0.5 / (1 + relative))[:, None, None]
        gradient = (precision @ (pose - self.means[k])[..., None])[..., 0]
        return Quadratic(cost if math.isinf(tail) else tail * relative.log1p(), gradient, precision)


class AnglePrior:
    """Residuals 10 exp(s theta) at left elbow (+y), right elbow (-y), left and right knee (-x), which grow fast where
    the limb bends backwards (Bogo et al. 2016, E_a)."""

    def __init__(self, *, dtype: torch.dtype, device: torch.device) -> None:
        # Flat indices 55, 58, 12, 15 of the 72 angles, less the root's 3.
        self.index = torch.tensor([52, 55, 9, 12], device=device)
        self.sign = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=dtype, device=device)

    def __call__(self, pose: Float[Tensor, "B N"]) -> Quadratic:
        """The term; its Hessian is diagonal."""
        r = 10 * (self.sign * pose[:, self.index]).clamp(max=4.0).exp()
        squared = r.square()
        gradient = torch.zeros_like(pose).index_copy(1, self.index, self.sign * squared)
        return Quadratic(squared.sum(1), gradient, torch.zeros_like(pose).index_copy(1, self.index, squared))


class LimitPrior:
    """Residuals of the angles beyond the joint limits, in radians."""

    def __init__(self, prior: PosePrior, *, dtype: torch.dtype, device: torch.device) -> None:
        self.lower = torch.as_tensor(prior.limits_lower, dtype=dtype, device=device)
        self.upper = torch.as_tensor(prior.limits_upper, dtype=dtype, device=device)

    def __call__(self, pose: Float[Tensor, "B N"]) -> Quadratic:
        """The term; its Hessian is diagonal."""
        beyond = pose - pose.clamp(self.lower, self.upper)
        return Quadratic(beyond.square().sum(1), beyond, (beyond != 0).to(pose.dtype))


class HeightTerm:
    """Centimetres between the body's stature and a known one; stature is taken as linear in betas.

    The tape measures from the lowest to the highest vertex: linear as long as these stay the same, which on the shipped
    bodies holds to 5 mm.
    """

    def __init__(self, model: BodyModel) -> None:
        unit = torch.eye(model.num_betas, dtype=model.dtype, device=model.device)
        with torch.no_grad():
            y = model(betas=torch.cat([torch.zeros_like(unit[:1]), unit, -unit])).vertices[..., 1]
        height = y.amax(1) - y.amin(1)
        self.mean_m = height[0]
        self.slope_m = (height[1 : 1 + len(unit)] - height[1 + len(unit) :]) / 2

    def betas_for(self, height_m: Float[Tensor, "B"]) -> Float[Tensor, "B S"]:
        """The least betas of such a stature."""
        share = (height_m - self.mean_m) / self.slope_m.square().sum().clamp_min(1e-12)
        return share[:, None] * self.slope_m

    def __call__(self, betas: Float[Tensor, "B S"], height_m: Float[Tensor, "B"]) -> Quadratic:
        """The term by betas."""
        r = 100 * (self.mean_m + betas @ self.slope_m - height_m)
        row = 100 * self.slope_m
        return Quadratic(r.square(), r[:, None] * row, torch.outer(row, row).expand(len(r), -1, -1))
