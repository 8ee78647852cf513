"""The compositional operator: densities of several objects add, features mix by density, and light passes through.

Niemeyer and Geiger, GIRAFFE (2021), equations 8 to 10. Samples of all objects lie at multiples of one step along each
ray, so that samples of two objects are at the same place or apart by a step or more.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["LEVELS", "Composited", "composite"]

LEVELS = 1 << 16
"""More steps than a ray has."""


@dataclass(frozen=True, eq=False)
class Composited:
    """What rays see."""

    features: Float[Tensor, "R F"]
    """Sum over samples of weight times feature; the background's share, 1 - alpha, is not in it."""
    alpha: Float[Tensor, "R"]
    """How much of the background is hidden."""
    weights: Float[Tensor, "N"]
    """How much of each sample a ray sees, in the order in which samples were given."""


def composite(
    optical: Float[Tensor, "N"],
    features: Float[Tensor, "N F"],
    ray: Int[Tensor, "N"],
    level: Int[Tensor, "N"],
    rays: int,
) -> Composited:
    """Render samples of any number of objects along rays.

    optical: density times step, at least 0. ray: which of the `rays` rays. level: how many steps from the eye, below
    65,536. Samples may come in any order; those of the same ray and level are at one place, where their densities add
    and their features mix by density. Transmittance is one running sum over all samples in float64. Differentiable.
    """
    if len(optical) == 0:
        return Composited(features.new_zeros(rays, features.shape[1]), features.new_zeros(rays), optical)
    key = ray * LEVELS + level
    if bool((key[1:] > key[:-1]).all()):  # one object, as it was cast
        owner, total, inverse = ray, optical.double(), None
    else:
        place, inverse = torch.unique(key, return_inverse=True)
        owner = place // LEVELS
        total = torch.zeros(len(place), dtype=torch.float64, device=optical.device)
        total = total.index_add(0, inverse, optical.double())
    before = total.cumsum(0) - total
    first = torch.searchsorted(owner, owner)  # the first place of each place's ray
    clear = torch.exp(before[first] - before)
    # (1 - exp(-x)) / x of the light is stopped at a place, shared by density.
    small = total < 1e-6
    safe = torch.where(small, torch.ones_like(total), total)
    part = clear * torch.where(small, 1 - total / 2, -torch.expm1(-safe) / safe)
    part = part if inverse is None else part[inverse]
    weights = optical * part.to(optical.dtype)
    out = features.new_zeros(rays, features.shape[1]).index_add(0, ray, weights[:, None] * features)
    thickness = torch.zeros(rays, dtype=torch.float64, device=optical.device).index_add(0, owner, total)
    return Composited(out, -torch.expm1(-thickness).to(optical.dtype), weights)
