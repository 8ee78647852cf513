"""Where up is in a file, and how long its unit: the options that all formats of bodies share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from bodyfit.errors import OptionError
from bodyfit.geometry.camera import y_up_from

__all__ = ["UNITS", "Placing"]

UNITS = {"m": 1.0, "cm": 100.0}
"""Of each unit, how many a metre has."""
_WORDS = {"m": "metres", "cm": "centimetres"}
_UPS = ("y", "z")


@dataclass(frozen=True)
class Placing:
    """The axes and the unit of a file. Raises `OptionError` where they are none."""

    up: str = "y"
    """Axis that points up: "y" (z towards the viewer) or "z" (y away from the viewer)."""
    unit: str = "m"
    """Unit of length: "m" or "cm"."""

    def __post_init__(self) -> None:
        if self.up not in _UPS:
            raise OptionError(f"up must be y or z, got {self.up!r}")
        if self.unit not in UNITS:
            raise OptionError(f"unit must be one of {', '.join(UNITS)}, got {self.unit!r}")

    def __str__(self) -> str:
        return f"{_WORDS[self.unit]}, {self.up} up"

    @property
    def per_metre(self) -> float:
        """The file's units in a metre."""
        return UNITS[self.unit]

    @property
    def from_y_up(self) -> Float[np.ndarray, "3 3"]:
        """The rotation from y-up axes to the file's."""
        return y_up_from(f"{self.up}_up").T

    def points(self, points_m: Float[np.ndarray, "*B 3"], axes: str) -> Float[np.ndarray, "*B 3"]:
        """Points in metres and the named axes (`y_up_from`) in the file's axes and unit."""
        return points_m @ (self.per_metre * self.from_y_up @ y_up_from(axes)).T
