"""What a clip's frames come from, whatever holds them: a container, a folder of pictures, an animated picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

__all__ = ["Damage", "Shot", "Source"]


class Shot(NamedTuple):
    """A frame of a clip that is not converted yet."""

    number: int
    """In the clip, from 0."""
    time_s: float | None
    """When it is shown, seconds from the clip's first frame; None where nothing says."""
    rgb: Callable[[tuple[int, int]], UInt8[np.ndarray, "h w 3"]]
    """Makes the upright picture of a size (width, height), before the next shot is asked for; raises `ImageError` for a
    picture that is damaged."""
    path: Path
    """The file that holds it."""


@dataclass
class Damage:
    """What could not be read in a pass over a clip."""

    skipped: int = 0
    """Packets and frames that could not be decoded."""
    cut_short: bool = False
    """Whether the file ended in the middle of its data."""
    files: list[str] = field(default_factory=list)
    """Of a folder's frames those that could not be decoded, and why."""


@runtime_checkable
class Source(Protocol):
    """A clip whose frames can be read again and again."""

    full_size: tuple[int, int]
    """Width and height of the frames as they are shown, pixels."""
    rate: Fraction
    """Frames a second on average."""
    clip_s: float
    """Length of the whole clip, seconds; 0 where nothing says."""
    has_sound: bool
    """Whether there is a sound track."""
    notes: tuple[str, ...]
    """What the user should know of how the clip was taken, in sentences."""

    def shots(self, start_s: float, damage: Damage) -> Iterator[Shot]:
        """The frames in the order of showing, from `start_s` or any earlier frame on; faults go into `damage`."""
        ...
