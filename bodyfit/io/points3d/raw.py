"""What a file of markers holds, before its units and axes are understood."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

__all__ = ["Axis", "RawPoints"]

Axis = tuple[int, int]
"""Which of x, y, z (0, 1, 2), and its sign."""


@dataclass(frozen=True)
class RawPoints:
    """Markers as a file has them."""

    path: Path
    names: tuple[str, ...]
    xyz: Float[np.ndarray, "T P 3"]
    """In the file's unit and axes; NaN where a marker was not seen."""
    times_s: Float[np.ndarray, "T"]
    """From the first frame."""
    fps: float
    """Frames a second."""
    unit: str
    """As the file has it; empty where it does not say."""
    up: Axis
    """The axis that points up: what the file says, else what its format is used with."""
    up_in_file: bool
    """Whether the file says so."""
    right: Axis | None = None
    """The axis that points to the right on a screen, where the file says so."""
    notes: tuple[str, ...] = ()
    """What the user should know of the file."""
