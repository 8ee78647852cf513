"""The Geman-McClure robustifier of residuals of positions, which saturates at sigma squared."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["geman_mcclure", "saturated"]


def geman_mcclure(residual: Float[Tensor, "*B"], sigma: float) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """Compute rho = sigma^2 r^2 / (sigma^2 + r^2) and its derivative by r^2, the weight of iterative reweighting."""
    squared = residual.square()
    ratio = sigma**2 / (sigma**2 + squared)
    return ratio * squared, ratio.square()


def saturated(residual: Float[Tensor, "*B"], sigma: float) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """Compute r / sqrt(1 + r^2 / sigma^2), whose square is rho, and its derivative by r."""
    inverse = (1 + (residual / sigma).square()).rsqrt()
    return residual * inverse, inverse**3
