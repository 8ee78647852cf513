"""Visibility of a person's legs over a clip, and how far they are at rest in the frames that do not show them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, uniform_filter1d
from torch import Tensor

__all__ = ["resting_share", "steadily_visible"]

_STEADY_S = 1.0
"""Legs are visible in a frame where most of the frames within this time show them: detectors guess now and then."""
_MOVING_S, _SETTLED_S = 0.5, 1.5
"""Times since legs were last visible, or until they are next, at which they begin to come to rest, and rest."""


def steadily_visible(legs: Bool[Tensor, "T"], present: Bool[Tensor, "T"], fps: float) -> Bool[Tensor, "T"]:
    """Tell whether legs are visible at a frame, by the majority of the frames around it with the person `present`."""
    width = max(1, 2 * round(0.5 * _STEADY_S * fps) + 1)
    visible, people = (
        uniform_filter1d(mask.cpu().numpy().astype(np.float64), width, mode="constant") for mask in (legs, present)
    )
    return torch.from_numpy(visible >= 0.5 * people - 1e-9).to(legs.device) & present


def resting_share(legs: Bool[Tensor, "T"], present: Bool[Tensor, "T"], fps: float) -> Float[Tensor, "T"]:
    """Compute how far the legs are at rest in each frame: 0 near frames that show them, 1 far from those.

    Without such frames it is 1. Frames without the person are interpolated.
    """
    visible, there = (legs & present).cpu().numpy(), present.cpu().numpy()
    if not there.any():
        return torch.zeros(len(legs), device=legs.device)
    share = np.ones(len(visible))
    if visible.any():
        away_s = np.asarray(distance_transform_edt(~visible)) / fps
        share = np.clip((away_s - _MOVING_S) / (_SETTLED_S - _MOVING_S), 0, 1)
    rows = np.arange(len(share))
    return torch.from_numpy(np.interp(rows, rows[there], share[there])).to(legs.device)
