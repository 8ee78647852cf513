"""Motion on a body: what every reader of motion files returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bodyfit.body.model import BodyParams

__all__ = ["Motion"]


@dataclass(frozen=True)
class Motion:
    """One person over time."""

    params: BodyParams
    """In the model's own axes: y up, metres."""
    fps: float
    """Frames a second; 0 where the file does not say."""
    gender: str
    """Of the file: neutral, male or female."""
    path: Path
    """The file."""
    start_s: float = 0.0
    """When the first body is shown, seconds on the clock that files of one clip share; 0 where the file does not
    say."""
    person: str = "0"
    """Who it is, by the file's own number or name."""
    program: str = "AMASS"
    """Which program's or data set's layout the file is in."""
    frames: Int[np.ndarray, "T"] | None = None
    """The clip's frame of each body; None where the file does not say."""
    notes: tuple[str, ...] = ()
    """What had to be assumed, was filled in or had to be left out, in words."""
