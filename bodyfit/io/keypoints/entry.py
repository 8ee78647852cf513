"""Define the content of a keypoint file for one picture, and helpers to make it."""

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

__all__ = ["Entry", "Outcome", "attempt", "gather", "join", "person", "relative_sides"]

_T = TypeVar("_T")
_UNIT = 1.0 + 1e-3
"""Coordinates up to this are fractions of a picture's sides, with a margin for keypoints beyond the edge."""
_MAX_FRACTION = 3.0
"""Largest plausible fraction of a picture's side."""
_MAX_STRETCH = 0.1
"""Largest log ratio of the aspect ratios of canvas and picture: programs round the sides to multiples of 64."""

Outcome: TypeAlias = "Keypoints2D | KeypointFileError | None"
"""The outcome of reading one item: a person, an error, or nobody."""


@dataclass(frozen=True)
class Entry:
    """The keypoints of one picture in a file."""

    name: str
    """The picture's name as the file has it: with or without folders and suffix, or the digits of COCO's image id."""
    path: Path
    """The file."""
    people: tuple[Keypoints2D, ...] = ()
    """People, in the file's order."""
    faults: tuple[str, ...] = ()
    """Errors of people, or of the whole file, that could not be read; each names file and item."""
    notes: tuple[str, ...] = ()
    """Sentences for the user on what was assumed or ignored."""
    image_size: tuple[int, int] | None = None
    """Width and height of the picture, where the file has them."""
    canvas: tuple[int, int] | None = None
    """Width and height of the canvas of `relative` keypoints, where the file has them; the aspect ratio is the
    picture's."""
    relative: bool = False
    """Whether coordinates are fractions of the picture's width and height; `sized` converts them to pixels."""
    pixels: str | None = None
    """Advice where the keypoints do not lie in the picture; None for bodyfit's files, which may have such points."""
    frame: int | None = None
    """Frame number in a clip, where it is not in the name."""
    first_frame: int = 0
    """The usual number of the first frame in such files."""

    def sized(self, size: tuple[int, int]) -> Entry:
        """Convert relative keypoints to pixels of a picture of this width and height.

        Raises `KeypointFileError` where relative keypoints are of a canvas of another aspect ratio.
        """
        if not self.relative:
            return self
        (w, h), canvas = size, self.canvas or size
        stretch = w * canvas[1] / (h * canvas[0])
        if abs(np.log(stretch)) > _MAX_STRETCH:
            raise KeypointFileError(
                f"{self.path}: {printable(self.name)} is of a canvas of {canvas[0]}x{canvas[1]}, but the picture is "
                f"{w}x{h}, which is of another shape; give the picture that the keypoints were made from"
            )
        scale = np.array((w, h, 1), np.float32)
        people = tuple(replace(one, xyc=(one.xyc * scale).astype(np.float32)) for one in self.people)
        return replace(self, people=people, relative=False)


def gather(path: Path, items: Iterable[tuple[str, Outcome]], pixels: str) -> list[Entry]:
    """Group people that a file lists one by one into entries, in order of the pictures' first appearance."""
    entries: dict[str, Entry] = {}
    for name, item in items:
        entry = entries.setdefault(name, Entry(name, path, pixels=pixels))
        if isinstance(item, KeypointFileError):
            entries[name] = replace(entry, faults=(*entry.faults, str(item)))
        elif item is not None:
            entries[name] = replace(entry, people=(*entry.people, item))
    return list(entries.values())


def attempt(read: Callable[..., _T], *args: Any) -> _T | KeypointFileError:
    """Call a reader of one person or file, and return its `KeypointFileError` instead of raising it."""
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
    """Make one person of a file; None where no keypoint is `present`.

    `shift` converts the file's pixels to ours: 0.5 where its origin is the first pixel's centre. Confidences are
    clamped to [0, 1], for some networks give more. Raises `KeypointFileError` for coordinates that are fractions of the
    picture instead of pixels, or the reverse with `relative`.
    """
    valid = present(xyc)
    if not valid.any():
        return None
    if relative and np.abs(xyc[valid, :2]).max() > _MAX_FRACTION:
        raise KeypointFileError(
            f"{where}: coordinates must be parts of the picture's sides, some are beyond {_MAX_FRACTION:g}"
        )
    if not relative and relative_sides(xyc):
        low = 0 if xyc[valid, :2].min() >= 0 else -1
        raise KeypointFileError(f"{where}: all coordinates lie between {low} and 1, so they are no pixels; {advice}")
    ours = np.where(valid[:, None], xyc + np.array((shift, shift, 0)), 0)
    ours[:, 2] = np.minimum(ours[:, 2], 1)
    return Keypoints2D(layout, ours.astype(np.float32), score=score, track=track)


def relative_sides(xyc: Float[np.ndarray, "*B K 3"]) -> bool:
    """Tell whether keypoints are fractions of the picture's sides: more than two are present, none beyond 1."""
    valid = present(xyc)
    return int(valid.sum()) > 2 and float(np.abs(xyc[valid][:, :2]).max()) <= _UNIT


def join(names: Sequence[str], most: int = 5) -> str:
    """Join names, at most `most` of them, and the number of others."""
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"


def listed(entries: Sequence[Entry]) -> str:
    """Name entries with their files, for a message; of many the first and how many more."""
    return join([f"{printable(entry.name)} ({printable(entry.path.name)})" for entry in entries])
