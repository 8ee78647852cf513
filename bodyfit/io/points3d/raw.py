"""Define the content of a marker file, in the file's units and axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

__all__ = ["Axis", "RawPoints"]

Axis = tuple[int, int]
"""An axis, x, y or z (0, 1, 2), and its sign."""


@dataclass(frozen=True)
class RawPoints:
    """The markers of a file."""

    path: Path
    """The file."""
    names: tuple[str, ...]
    """Names of the markers."""
    xyz: Float[np.ndarray, "T P 3"]
    """Positions in the file's unit and axes; NaN where a marker is missing."""
    times_s: Float[np.ndarray, "T"]
    """Times from the first frame, seconds."""
    fps: float
    """Frame rate, 1/s."""
    unit: str
    """The file's unit of length; empty where it names none."""
    up: Axis
    """The up axis: the file's, else the usual one of the format."""
    up_in_file: bool
    """Whether the file names the up axis."""
    right: Axis | None = None
    """The axis that points right on the screen, where the file names it."""
    notes: tuple[str, ...] = ()
    """Sentences for the user about the file."""
