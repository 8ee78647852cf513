"""Shapes of a wanted height, as likely as they are in the population."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError

__all__ = ["Stature", "check_heights"]

_STEP = 0.5
"""Betas, of the central difference; height is nearly linear in them (to 5 mm on the shipped bodies)."""
_TIMES = 5
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
        edge = min(1e-6, (high - low) / 2)  # what is solved for is met to a micrometre or so
        self._low_m, self._high_m = low + edge, high - edge

    def measured(self, betas: Float[np.ndarray, "B S"]) -> Float[np.ndarray, " B"]:
        """Heights as the tape measures them, metres."""
        heights = [np.zeros(0)]
        for some in torch.from_numpy(betas).to(self._model.v_template).split(_CHUNK):
            with torch.no_grad():
                rest = self._model(betas=some)
            heights.append(self._model.tape.values(["height"], rest.vertices, rest.joints)[:, 0])
        return np.concatenate(heights)

    def conditioned(self, betas: Float[np.ndarray, "B S"]) -> Float[np.ndarray, "B S"]:
        """The same bodies, of heights in the range."""
        if self._sd_m == 0:  # no shape, or none that makes anybody taller
            return betas
        below, above = ((h - self._mean_m) / self._sd_m for h in (self._low_m, self._high_m))
        quantile = ndtr(below) + ndtr(betas @ self._along) * (ndtr(above) - ndtr(below))
        wanted = (self._mean_m + self._sd_m * ndtri(quantile)).clip(self._low_m, self._high_m)
        for _ in range(_TIMES):
            missing = wanted - self.measured(betas)
            betas = betas + (missing / self._sd_m)[:, None] * self._along
            if np.abs(missing).max(initial=0.0) < 1e-7:
                break
        return betas


def check_heights(heights: tuple[float, float]) -> tuple[float, float]:
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
