"""The unit of a scan's coordinates, from the extents of what is in it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from bodyfit.errors import OptionError

__all__ = ["UNITS", "plausible_units"]

UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}
"""Metres in one unit, by name."""
_GUESSED = ("m", "cm", "mm")
_WHOLE_M = (0.9, 2.8)
"""Largest extent of a whole person, crouching to standing with arms up."""
_PART_M = (0.12, 0.9)
_STANDING_M, _BUST_M = 1.7, 0.4
"""Usual extents of a standing person, and of a head with shoulders."""


def plausible_units(points: Float[np.ndarray, "N 3"], unit: str | float | None = None) -> list[float]:
    """List the metres that one unit of a scan may have, the most probable first.

    unit: its name, or its metres, if it is known. Raises `OptionError` for other names, and where a
    person or a part of one is of no size that scans have.
    """
    if isinstance(unit, float | int):
        if not 1e-6 <= unit <= 1e3:
            raise OptionError(f"unit must be the metres of one unit of the scan, between 1e-6 and 1000, got {unit:g}")
        return [float(unit)]
    if unit is not None:
        if unit not in UNITS:
            raise OptionError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}")
        return [UNITS[unit]]
    low, high = np.quantile(points, (0.001, 0.999), axis=0)
    extent = float((high - low).max())
    if extent <= 0:
        raise OptionError("all points of the scan lie in one place")
    for least, most in (_WHOLE_M, _PART_M):
        found = [UNITS[name] for name in _GUESSED if least <= extent * UNITS[name] <= most]
        if found:
            return found
    raise OptionError(
        f"the scan is {extent:.4g} units wide, which is the size of no person in metres, centimetres or millimetres;"
        f" give its unit ({', '.join(UNITS)}, or how many metres it has: about {_STANDING_M / extent:.2g} for a"
        f" standing person, {_BUST_M / extent:.2g} for a head with shoulders), and one person alone"
    )
