"""Even the exposure and the white balance of pictures of one surface."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from bodyfit.avatars.bake import Sight, bake, vertex_chart
from bodyfit.avatars.posed import PosedView

__all__ = ["solve_gains", "view_gains"]

_GAIN_SD = 0.1
"""Deviation of the logarithm of a gain before anything is seen."""
_NOISE_SD = 0.15
"""Deviation of the logarithm of a place's colour: light that falls from elsewhere, cloth that has moved."""
_INDEPENDENT = 40
"""As many places of a view count as independent."""
_DARK, _BRIGHT = 0.06, 0.97
"""Colours darker or brighter than this say nothing of gains."""


def view_gains(views: Sequence[tuple[PosedView, Sight]], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "N 3"]:
    """Find the gain of each view and channel, by the colours of vertices that several views see."""
    if len(views) < 2:
        return np.ones((len(views), 3))
    chart = vertex_chart(faces)
    found = [bake(chart, faces, [one], np.ones((1, 3)), rounds=1) for one in views]
    return solve_gains(np.stack([one.values for one in found]), np.stack([one.best for one in found]))


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
