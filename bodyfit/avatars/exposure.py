"""Even the exposure and the white balance of pictures of one surface."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

__all__ = ["solve_gains"]

_GAIN_SD = 0.1
"""Deviation of the logarithm of a gain before anything is seen."""
_NOISE_SD = 0.15
"""Deviation of the logarithm of a place's colour: light that falls from elsewhere, cloth that has moved."""
_INDEPENDENT = 40
"""As many places of a view count as independent."""
_DARK, _BRIGHT = 0.06, 0.97
"""Colours darker or brighter than this say nothing of gains."""


def solve_gains(colors: Float[np.ndarray, "N V 3"], weights: Float[np.ndarray, "N V"]) -> Float[np.ndarray, "N 3"]:
    """Solve colours = gain of the view x colour of the place, in logarithms, gains near 1; their mean is 1.

    Least squares with the places eliminated; places that fit badly count less in a second solve.
    """
    gains = np.ones((len(colors), 3))
    for k in range(3):
        value = colors[..., k].astype(np.float64)
        weight = np.where((value > _DARK) & (value < _BRIGHT), weights, 0.0).astype(np.float64)
        logs = np.log(np.maximum(value, 1e-6))
        gain, fits = np.zeros(len(colors)), np.ones_like(weight)
        for _ in range(3):
            own = weight * fits
            own *= _INDEPENDENT / _NOISE_SD**2 / np.maximum(own.sum(1, keepdims=True), 1e-12)
            total = np.maximum(own.sum(0), 1e-12)
            normal = np.diag(own.sum(1)) - (own / total) @ own.T
            right = (own * (logs - (own * logs).sum(0) / total)).sum(1)
            gain = np.linalg.solve(normal + np.eye(len(gain)) / _GAIN_SD**2, right)
            left = logs - gain[:, None]
            fits = 1 / (1 + ((left - (own * left).sum(0) / total) / _NOISE_SD) ** 2)
        gains[:, k] = np.exp(gain - gain.mean())
    return gains
