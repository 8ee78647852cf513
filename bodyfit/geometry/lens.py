"""Radial distortion of lenses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bodyfit.errors import OptionError

__all__ = ["RadialLens"]

_STEPS = 12
"""Newton's steps from a point in the picture to its ray."""
_GRID = 256


@dataclass(frozen=True)
class RadialLens:
    """OpenCV's radial distortion by k1 and k2, continued along its tangent beyond a radius so that it never folds.

    Points are x / z, y / z of rays. A point at radius r lies at r (1 + k1 r^2 + k2 r^4) in the picture.
    """

    k1: float
    """Below 0 for a barrel, above for a cushion."""
    k2: float
    """As OpenCV's."""
    radius: float
    """Beyond this radius the distortion goes on along its tangent."""

    def __post_init__(self) -> None:
        r = np.linspace(0, self.radius, _GRID)
        if not (self.radius > 0 and self._slope(r).min() > 0.05):
            raise OptionError(f"a lens of k1={self.k1:g}, k2={self.k2:g} folds within a radius of {self.radius:g}")

    def distorted(self, rays: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N 2"]:
        """Where rays meet the picture, in focal lengths."""
        r = np.linalg.norm(rays, axis=-1, keepdims=True)
        return rays * (self._moved(r) / np.maximum(r, 1e-12))

    def rays(self, points: Float[np.ndarray, "*N 2"]) -> Float[np.ndarray, "*N 2"]:
        """The rays of points in the picture: the inverse of `distorted`."""
        goal = np.linalg.norm(points, axis=-1, keepdims=True)
        r = goal
        for _ in range(_STEPS):
            r = r - (self._moved(r) - goal) / self._slope(np.minimum(r, self.radius))
        return points * (r / np.maximum(goal, 1e-12))

    def _moved(self, r: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
        inside = np.minimum(r, self.radius)
        squared = inside * inside
        moved = inside * (1 + self.k1 * squared + self.k2 * squared * squared)
        return moved + (r - inside) * float(self._slope(np.array([self.radius]))[0])

    def _slope(self, r: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
        squared = r * r
        return 1 + 3 * self.k1 * squared + 5 * self.k2 * squared * squared
