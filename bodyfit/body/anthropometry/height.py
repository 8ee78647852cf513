"""Shapes of a wanted height, as likely as they are in the population."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import ndtr, ndtri

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError

__all__ = ["Stature", "check_heights"]

_STEP = 0.5
"""Betas, of the central difference; height is nearly linear in them (to 5 mm on the shipped bodies)."""
_TIMES = 10
_EXACT_M = 3e-7
"""What float32 can say of a height."""
_CHUNK = 256


class Stature:
    """How the height of a model's bodies follows from betas: the normal distribution of heights, and its condition.

    Height is nearly linear in betas, so that along its gradient they are standard normal and independent of what lies
    across it. A body is moved along the gradient alone, to the height of its own quantile among those that are wanted:
    that is the normal distribution of shapes, given that height lies in the range.
    """

    def __init__(self, model: BodyModel, columns: int, heights: tuple[float, float], max_sd: float) -> None:
        self._model = model
        mean, ends = np.zeros((1, columns)), _STEP * np.eye(columns)
        values = self.measured(np.concatenate([mean, ends, -ends]))
        slope = (values[1 : columns + 1] - values[columns + 1 :]) / (2 * _STEP)
        self._mean_m, self._sd_m = values[0], float(np.linalg.norm(slope))
        self._along = slope / max(self._sd_m, 1e-12)
        least, most = self.measured(np.outer((-max_sd, max_sd), self._along))
        low, high = max(heights[0], least), min(heights[1], most)
        if low > high:
            raise OptionError(
                f"no believable body is {heights[0]:g} to {heights[1]:g} m tall; this model reaches {least:.3f} to "
                f"{most:.3f} m (within max_sd={max_sd:g} standard deviations of its mean)"
            )
        edge = min(10 * _EXACT_M, (high - low) / 2)  # by so much a height may miss what is solved for
        self._low_m, self._high_m = low + edge, high - edge

    def measured(self, betas: Float[np.ndarray, "B S"]) -> Float[np.ndarray, " B"]:
        """Heights as the tape measures them, metres."""
        heights = [np.zeros(0)]
        for some in torch.from_numpy(betas).to(self._model.v_template).split(_CHUNK):
            with torch.no_grad():
                rest = self._model(betas=some)
            heights.append(self._model.tape.values(["height"], rest.vertices, rest.joints)[:, 0])
        return np.concatenate(heights)

    def conditioned(self, betas: Float[np.ndarray, "B S"]) -> tuple[Float[np.ndarray, "B S"], Bool[np.ndarray, " B"]]:
        """The same bodies at heights in the range, and which of them got there."""
        below, above = ((h - self._mean_m) / max(self._sd_m, 1e-12) for h in (self._low_m, self._high_m))
        quantile = ndtr(below) + ndtr((betas * self._along).sum(1)) * (ndtr(above) - ndtr(below))
        wanted = (self._mean_m + self._sd_m * ndtri(quantile)).clip(self._low_m, self._high_m)
        height = self.measured(betas)
        slope = np.full(len(betas), max(self._sd_m, 1e-12))
        for _ in range(_TIMES):  # secants; each body by itself, whoever is beside it
            step = np.where(np.abs(wanted - height) > _EXACT_M, (wanted - height) / slope, 0.0)
            if not step.any():
                break
            betas = betas + step[:, None] * self._along
            before, height = height, self.measured(betas)
            secant = (height - before) / np.where(step == 0, 1.0, step)
            slope = np.where(step == 0, slope, secant.clip(self._sd_m / 4, 4 * self._sd_m))
        return betas, (np.abs(height - wanted) <= 10 * _EXACT_M)


def check_heights(heights: Any) -> tuple[float, float]:
    """Two heights in metres, the lower first. Raises `OptionError`."""
    try:
        low, high = (float(h) for h in heights)
    except (TypeError, ValueError):
        raise OptionError(f"heights must be two numbers in metres, as (1.5, 1.9), got {heights!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low <= high):
        raise OptionError(f"heights must be two positive numbers, the lower first, got {low:g} and {high:g}")
    if low >= 3:
        hint = f"; give centimetres as {low / 100:g} and {high / 100:g}" if 30 <= low < 300 else ""
        raise OptionError(f"heights are in metres, got {low:g} to {high:g}{hint}")
    return low, high
