"""Define the source of a clip's frames: a container, a folder of pictures, or an animated picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

__all__ = ["Damage", "FrameSource", "RawFrame"]


class RawFrame(NamedTuple):
    """A frame of a clip that is not converted to RGB yet."""

    number: int
    """Index in the clip, from 0."""
    time_s: float | None
    """Presentation time, seconds from the clip's first frame; None where unknown."""
    rgb: Callable[[tuple[int, int]], UInt8[np.ndarray, "h w 3"]]
    """Convert to an upright picture of a size (width, height), before the next frame is requested; raises `ImageError`
    for a damaged picture."""
    path: Path
    """The file that contains it."""


@dataclass
class Damage:
    """The parts of a clip that could not be read in a pass over it."""

    skipped: int = 0
    """Packets and frames that could not be decoded."""
    cut_short: bool = False
    """Whether the file is truncated."""
    files: list[str] = field(default_factory=list)
    """Errors of a folder's frames that could not be decoded."""


@runtime_checkable
class FrameSource(Protocol):
    """A clip whose frames can be read repeatedly."""

    full_size: tuple[int, int]
    """Displayed width and height of the frames, pixels."""
    rate: Fraction
    """Mean frame rate, 1/s."""
    clip_s: float
    """Duration of the whole clip, seconds; 0 where unknown."""
    has_sound: bool
    """Whether there is a sound track."""
    notes: tuple[str, ...]
    """Sentences for the user on how the clip is read."""

    def frames(self, start_s: float, damage: Damage) -> Iterator[RawFrame]:
        """Yield the frames in display order, from `start_s` or an earlier frame on; add faults to `damage`."""
        ...
