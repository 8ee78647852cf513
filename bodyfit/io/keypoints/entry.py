"""What a keypoint file says of one picture, and how readers make it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.values import present, printable
from bodyfit.keypoints import Keypoints2D

__all__ = ["Entry", "Found", "attempt", "gather", "join", "person", "relative_sides"]

_T = TypeVar("_T")
_UNIT = 1.0 + 1e-3
"""Coordinates up to here are parts of a picture and not pixels, with room for what a network puts beyond its edge."""
_FAR = 3.0
"""Parts of a picture beyond which nothing can be meant as one."""
_STRETCH = 0.1
"""How far the proportions of a canvas may be from the picture's: programs round its sides to multiples of 64."""

Found: TypeAlias = "Keypoints2D | KeypointFileError | None"
"""What a reader makes of one item: a person, what is wrong with it, or nobody."""


@dataclass(frozen=True)
class Entry:
    """What a file says of one picture."""

    name: str
    """The picture's name as the file has it: with or without folders and suffix, or the digits of COCO's image id."""
    path: Path
    """The file."""
    people: tuple[Keypoints2D, ...] = ()
    """In the file's order."""
    faults: tuple[str, ...] = ()
    """Why some of its people, or the whole file, could not be read; each names the file and the item."""
    notes: tuple[str, ...] = ()
    """What was taken for granted or left aside in reading, for the user to know."""
    image_size: tuple[int, int] | None = None
    """Width and height of the picture, where the file says so."""
    canvas: tuple[int, int] | None = None
    """Width and height of a picture of these proportions, of `relative` keypoints, where the file says so."""
    relative: bool = False
    """Whether coordinates are parts of the picture's width and height; `sized` makes them pixels."""
    pixels: str | None = None
    """What to do if the keypoints turn out not to lie in the picture; None for files of our own, which may say so."""
    frame: int | None = None
    """The frame's number in a clip, where the file says it otherwise than by the name."""
    first_frame: int = 0
    """What number programs that write such files give to the first frame."""

    def sized(self, size: tuple[int, int]) -> Entry:
        """The same in pixels of a picture of this width and height.

        Raises `KeypointFileError` where relative keypoints are of a canvas of other proportions.
        """
        if not self.relative:
            return self
        (w, h), canvas = size, self.canvas or size
        stretch = w * canvas[1] / (h * canvas[0])
        if abs(np.log(stretch)) > _STRETCH:
            raise KeypointFileError(
                f"{self.path}: {printable(self.name)} is of a canvas of {canvas[0]}x{canvas[1]}, but the picture is "
                f"{w}x{h}, which is of another shape; give the picture that the keypoints were made from"
            )
        scale = np.array((w, h, 1), np.float32)
        people = tuple(replace(one, xyc=(one.xyc * scale).astype(np.float32)) for one in self.people)
        return replace(self, people=people, relative=False)


def gather(path: Path, items: Iterable[tuple[str, Found]], pixels: str) -> list[Entry]:
    """Entries of the people that a file lists one by one, in the order in which their pictures first come."""
    entries: dict[str, Entry] = {}
    for name, item in items:
        entry = entries.setdefault(name, Entry(name, path, pixels=pixels))
        if isinstance(item, KeypointFileError):
            entries[name] = replace(entry, faults=(*entry.faults, str(item)))
        elif item is not None:
            entries[name] = replace(entry, people=(*entry.people, item))
    return list(entries.values())


def attempt(read: Callable[..., _T], *args: Any) -> _T | KeypointFileError:
    """What a reader of one person or file returns, or what it raises: a fault costs that one and no other."""
    try:
        return read(*args)
    except KeypointFileError as fault:
        return fault


def person(
    layout: str,
    xyc: Float[np.ndarray, "K 3"],
    where: str,
    *,
    shift: float,
    score: float = 1.0,
    track: int | None = None,
    relative: bool = False,
    advice: str = "multiply x by the picture's width and y by its height",
) -> Keypoints2D | None:
    """One person of a file; None where no keypoint is there (`present`).

    `shift` brings the file's pixels to ours: 0.5 where it counts from the middle of the first pixel. Confidences are
    cut to [0, 1], for some networks give more. Raises `KeypointFileError` for coordinates that are parts of the picture
    and not pixels, or with `relative` for those that are not.
    """
    there = present(xyc)
    if not there.any():
        return None
    if relative and np.abs(xyc[there, :2]).max() > _FAR:
        raise KeypointFileError(f"{where}: coordinates must be parts of the picture's sides, some are beyond {_FAR:g}")
    if not relative and relative_sides(xyc):
        low = 0 if xyc[there, :2].min() >= 0 else -1
        raise KeypointFileError(f"{where}: all coordinates lie between {low} and 1, so they are no pixels; {advice}")
    ours = np.where(there[:, None], xyc + np.array((shift, shift, 0)), 0)
    ours[:, 2] = np.minimum(ours[:, 2], 1)
    return Keypoints2D(layout, ours.astype(np.float32), score=score, track=track)


def relative_sides(xyc: Float[np.ndarray, "*B K 3"]) -> bool:
    """Whether keypoints are parts of the picture's sides: more than two are there, and none lies beyond 1."""
    there = present(xyc)
    return int(there.sum()) > 2 and float(np.abs(xyc[there][:, :2]).max()) <= _UNIT


def join(names: Sequence[str], most: int = 5) -> str:
    """Some names and how many more."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def listed(entries: Sequence[Entry]) -> str:
    """Name entries with their files, for a message; of many the first and how many more."""
    return join([f"{printable(entry.name)} ({printable(entry.path.name)})" for entry in entries])
