"""When in a clip the legs of a person are visible, and how far they are put at rest in the frames that do not show
them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_edt, uniform_filter1d
from torch import Tensor

__all__ = ["resting_share", "steadily_visible"]

_STEADY_S = 1.0
"""Legs are visible in a frame where most of the frames within this time show them: detectors guess now and then."""
_KEPT_S, _SETTLED_S = 0.5, 1.5
"""How long after they were last visible, and before they are next, legs go on as they moved; from when on they rest."""


def steadily_visible(legs: Bool[Tensor, "T"], present: Bool[Tensor, "T"], fps: float) -> Bool[Tensor, "T"]:
    """Whether legs are visible at a frame, by most of the frames around it that show the person at all (`present`)."""
    width = max(1, 2 * round(0.5 * _STEADY_S * fps) + 1)
    shown, seen = (
        uniform_filter1d(mask.cpu().numpy().astype(np.float64), width, mode="constant") for mask in (legs, present)
    )
    return torch.from_numpy(shown >= 0.5 * seen - 1e-9).to(legs.device) & present


def resting_share(legs: Bool[Tensor, "T"], present: Bool[Tensor, "T"], fps: float) -> Float[Tensor, "T"]:
    """How far the legs are at rest in each frame: 0 near frames that show them, 1 far from those or without any.

    Frames that show nothing of the person are between the ones before and after them.
    """
    visible, there = (legs & present).cpu().numpy(), present.cpu().numpy()
    if not there.any():
        return torch.zeros(len(legs), device=legs.device)
    share = np.ones(len(visible))
    if visible.any():
        away_s = np.asarray(distance_transform_edt(~visible)) / fps
        share = np.clip((away_s - _KEPT_S) / (_SETTLED_S - _KEPT_S), 0, 1)
    rows = np.arange(len(share))
    return torch.from_numpy(np.interp(rows, rows[there], share[there])).to(legs.device)
