"""Guess the up axis of a file that does not name it, from the fact that people mostly stand."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

__all__ = ["stands_along"]

_UPS = {"y_up": (0.0, 1.0, 0.0), "z_up": (0.0, 0.0, 1.0), "camera": (0.0, -1.0, 0.0)}
"""The up direction in each kind of axes."""
_MIN_COMPONENT = 0.7
"""Least component of the mean trunk direction along an axis for the body to stand along it: it may lean by 45 degrees
all the time, or lie for a third of it."""


def stands_along(orient: Float[np.ndarray, "T 3"]) -> str | None:
    """Return the axes in which a body with these root orientations stands upright, or None.

    orient: axis-angles of the root, radians.
    """
    trunk = Rotation.from_rotvec(orient).apply((0.0, 1.0, 0.0)).mean(0)
    best = max(_UPS, key=lambda axes: float(trunk @ np.array(_UPS[axes])))
    return best if trunk @ np.array(_UPS[best]) > _MIN_COMPONENT else None
