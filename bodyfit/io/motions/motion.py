"""Define motion on a body, the result of all readers of motion files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bodyfit.body.model import BodyParams

__all__ = ["Motion"]


@dataclass(frozen=True)
class Motion:
    """One person's motion."""

    params: BodyParams
    """Body parameters in the model's axes: y up, metres."""
    fps: float
    """Frame rate, 1/s; 0 where unknown."""
    gender: str
    """Gender in the file: neutral, male or female."""
    path: Path
    """The file."""
    start_s: float = 0.0
    """Time of the first body, seconds on the clock that files of one clip share; 0 where unknown."""
    person: str = "0"
    """The person's number or name in the file."""
    program: str = "AMASS"
    """The program or data set whose layout the file has."""
    frames: Int[np.ndarray, "T"] | None = None
    """Frame of the clip of each body; None where unknown."""
    notes: tuple[str, ...] = ()
    """Sentences on what was assumed, interpolated or omitted."""
