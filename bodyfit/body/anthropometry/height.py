"""Sample shapes conditioned on a range of heights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import ndtr, ndtri

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError

__all__ = ["HeightDistribution", "check_heights"]

_STEP = 0.5
"""Step of the central difference, in betas; height is nearly linear in them (to 5 mm on the shipped bodies)."""
_ITERATIONS = 10
_EXACT_M = 3e-7
"""Resolution of a height in float32."""
_CHUNK = 256


class HeightDistribution:
    """The distribution of a model's heights, and the distribution of betas conditioned on a range of heights.

    Height is nearly linear in betas, so that their component along its gradient is standard normal and independent of
    the components orthogonal to it. Conditioning moves a body along the gradient only, to the height at its own
    quantile of the truncated normal distribution. Raises `OptionError` where no believable body has such a height.
    """

    def __init__(self, model: BodyModel, columns: int, heights: tuple[float, float], max_sd: float) -> None:
        self._model = model
        mean, ends = np.zeros((1, columns)), _STEP * np.eye(columns)
        values = self.heights_m(np.concatenate([mean, ends, -ends]))
        slope = (values[1 : columns + 1] - values[columns + 1 :]) / (2 * _STEP)
        self._mean_m, self._sd_m = values[0], float(np.linalg.norm(slope))
        self._gradient = slope / max(self._sd_m, 1e-12)
        least, most = self.heights_m(np.outer((-max_sd, max_sd), self._gradient))
        low, high = max(heights[0], least), min(heights[1], most)
        if low > high:
            raise OptionError(
                f"no believable body is {heights[0]:g} to {heights[1]:g} m tall; this model reaches {least:.3f} to "
                f"{most:.3f} m (within max_sd={max_sd:g} standard deviations of its mean)"
            )
        edge = min(10 * _EXACT_M, (high - low) / 2)  # tolerance of the solved height
        self._low_m, self._high_m = low + edge, high - edge

    def heights_m(self, betas: Float[np.ndarray, "B S"]) -> Float[np.ndarray, " B"]:
        """Measure the heights of bodies, metres."""
        heights = [np.zeros(0)]
        for some in torch.from_numpy(betas).to(self._model.v_template).split(_CHUNK):
            with torch.no_grad():
                rest = self._model(betas=some)
            heights.append(self._model.tape.values(["height"], rest.vertices, rest.joints)[:, 0])
        return np.concatenate(heights)

    def condition(self, betas: Float[np.ndarray, "B S"]) -> tuple[Float[np.ndarray, "B S"], Bool[np.ndarray, " B"]]:
        """Move bodies to heights in the range along the gradient of height.

        Returns the betas, and which of the bodies have converged to their height.
        """
        below, above = ((h - self._mean_m) / max(self._sd_m, 1e-12) for h in (self._low_m, self._high_m))
        quantile = ndtr(below) + ndtr((betas * self._gradient).sum(1)) * (ndtr(above) - ndtr(below))
        target = (self._mean_m + self._sd_m * ndtri(quantile)).clip(self._low_m, self._high_m)
        height = self.heights_m(betas)
        slope = np.full(len(betas), max(self._sd_m, 1e-12))
        for _ in range(_ITERATIONS):  # the secant method, each body independent of the others in the batch
            step = np.where(np.abs(target - height) > _EXACT_M, (target - height) / slope, 0.0)
            if not step.any():
                break
            betas = betas + step[:, None] * self._gradient
            before, height = height, self.heights_m(betas)
            secant = (height - before) / np.where(step == 0, 1.0, step)
            slope = np.where(step == 0, slope, secant.clip(self._sd_m / 4, 4 * self._sd_m))
        return betas, (np.abs(height - target) <= 10 * _EXACT_M)


def check_heights(heights: Any) -> tuple[float, float]:
    """Return two heights in metres, the lower first, checked. Raises `OptionError`."""
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
