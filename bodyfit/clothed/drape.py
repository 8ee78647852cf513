"""Take the body's details out of a surface where clothes and hair cover it: cloth does not follow navel and toes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from bodyfit.geometry.neighbours import neighbour_means

__all__ = ["Drape"]

_ROUNDS = 40
_IN, _OUT = 0.5, -0.53
"""A step that shrinks details, and one that takes back what it shrank of the rest (Taubin 1995)."""
_FADED = 3
"""Rings of vertices over which smoothing begins."""


class Drape:
    """Smooths the covered parts of surfaces of one topology."""

    def __init__(self, faces: Int[np.ndarray, "F 3"], count: int) -> None:
        self.faces = faces
        """The triangles."""
        self._means = neighbour_means(faces, count)

    def __call__(self, surface: Float[np.ndarray, "V 3"], covered: Float[np.ndarray, "V"]) -> Float[np.ndarray, "V 3"]:
        """Smooth a surface, metres, as far as its vertices are covered (0 to 1)."""
        for _ in range(_FADED):
            covered = self._means @ covered
        for _ in range(_ROUNDS):
            for step in (_IN, _OUT):
                surface = surface + step * covered[:, None] * (self._means @ surface - surface)
        return surface
