"""Which way is up in a file that does not say: people stand, for the most part."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

__all__ = ["stands_along"]

_UPS = {"y_up": (0.0, 1.0, 0.0), "z_up": (0.0, 0.0, 1.0), "camera": (0.0, -1.0, 0.0)}
"""Where up is in each of the axes that files have."""
_MOSTLY = 0.7
"""Of the mean direction of a body's trunk, how much must be along an axis for the body to stand along it: it may lean
by 45 degrees all the time, or lie for a third of it."""


def stands_along(orient: Float[np.ndarray, "T 3"]) -> str | None:
    """The axes in which a body that is turned so stands upright; None where it does not stand along any of them.

    orient: axis-angle of the root, radians.
    """
    trunk = Rotation.from_rotvec(orient).apply((0.0, 1.0, 0.0)).mean(0)
    best = max(_UPS, key=lambda axes: float(trunk @ np.array(_UPS[axes])))
    return best if trunk @ np.array(_UPS[best]) > _MOSTLY else None
