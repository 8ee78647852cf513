"""What a keypoint file says of one picture, and the checks that all formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = [
    "Entry",
    "attempt",
    "gather",
    "join",
    "layout_of_count",
    "numbers",
    "person",
    "printable",
    "track_of",
    "triples",
]

_BY_COUNT = {16: "mpii16", 17: "coco17", 26: "halpe26", 133: "wholebody133", 136: "halpe136"}
"""What programs of COCO's kind mean by so many keypoints."""
NAME_IT = "name the layout with layout= if it is another"
"""What to do where a file does not tell."""
_MOST = 1e7
"""Beyond it float32 has no room for parts of a pixel, and no picture is so wide."""
_UNIT = 1.0 + 1e-3
"""Coordinates up to here are parts of a picture and not pixels, with room for what a network puts beyond its edge."""


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
    image_size: tuple[int, int] | None = None
    """Width and height of the picture, where the file says so."""
    pixels: str | None = None
    """What to do if the keypoints turn out not to lie in the picture; None for files of our own, which may say so."""
    frame: int | None = None
    """The frame's number in a clip, where the file says it otherwise than by the name."""
    first_frame: int = 0
    """What number programs that write such files give to the first frame."""


def gather(path: Path, items: Iterable[tuple[str, Keypoints2D | KeypointFileError]], pixels: str) -> list[Entry]:
    """Entries of the people that a file lists one by one, in the order in which their pictures first come."""
    entries: dict[str, Entry] = {}
    for name, item in items:
        entry = entries.get(name, Entry(name, path, pixels=pixels))
        if isinstance(item, KeypointFileError):
            entries[name] = replace(entry, faults=(*entry.faults, str(item)))
        else:
            entries[name] = replace(entry, people=(*entry.people, item))
    return list(entries.values())


def attempt(read: Callable[..., Keypoints2D], *args: Any) -> Keypoints2D | KeypointFileError:
    """What a reader of one person returns, or what it raises: a fault costs that person and no other."""
    try:
        return read(*args)
    except KeypointFileError as fault:
        return fault


def numbers(values: Any, where: str) -> Float[np.ndarray, "N"]:
    """A flat list of finite numbers, float64. Raises `KeypointFileError`, which begins with `where`."""
    if not isinstance(values, list):
        raise KeypointFileError(f"{where}: expected a list of numbers, found {_kind(values)}")
    odd = next((i for i, value in enumerate(values) if type(value) not in (int, float)), None)
    if odd is not None:
        raise KeypointFileError(f"{where}: value {odd} is {_kind(values[odd])}, not a number")
    try:
        array = np.array(values, np.float64)
    except OverflowError:
        raise KeypointFileError(f"{where}: a number is too large for a pixel") from None
    if not np.isfinite(array).all():
        odd = int(np.flatnonzero(~np.isfinite(array))[0])
        raise KeypointFileError(f"{where}: value {odd} is {array[odd]}; write (0, 0, 0) for a keypoint that is missing")
    if np.abs(array).max(initial=0.0) > _MOST:
        raise KeypointFileError(f"{where}: a number is too large for a pixel")
    return array


def triples(values: Any, where: str) -> Float[np.ndarray, "K 3"]:
    """x, y, confidence out of a flat list x0, y0, c0, x1, ... Raises `KeypointFileError`."""
    array = numbers(values, where)
    if len(array) % 3:
        raise KeypointFileError(f"{where}: {len(array)} values are no list of x, y, confidence")
    return array.reshape(-1, 3)


def layout_of_count(count: int, where: str, layout: str | None, by_count: dict[int, str] | None = None) -> str:
    """The layout that so many keypoints have, or the one that the user says, checked. Raises `KeypointFileError`."""
    by_count = _BY_COUNT if by_count is None else by_count
    if layout is None:
        if count not in by_count:
            known = ", ".join(f"{k} ({name})" for k, name in by_count.items())
            raise KeypointFileError(f"{where}: {count} keypoints, expected {known}; {NAME_IT}")
        return by_count[count]
    if len(layout_names(layout)) != count:
        raise KeypointFileError(
            f"{where}: {count} keypoints, but the layout {layout} that was asked for has {len(layout_names(layout))}"
        )
    return layout


def person(
    layout: str,
    xyc: Float[np.ndarray, "K 3"],
    where: str,
    *,
    shift: float,
    score: float = 1.0,
    track: int | None = None,
    advice: str = "multiply x by the picture's width and y by its height",
) -> Keypoints2D:
    """One person of a file, in our pixels: `shift` is 0.5 where the file counts from the middle of the first pixel.

    Confidences are cut to [0, 1], for some networks give more. Raises `KeypointFileError` for coordinates that are
    parts of the picture and not pixels.
    """
    known = xyc[:, 2] > 0
    if known.sum() > 2 and np.abs(xyc[known, :2]).max() <= _UNIT:
        low = 0 if xyc[known, :2].min() >= 0 else -1
        raise KeypointFileError(f"{where}: all coordinates lie between {low} and 1, so they are no pixels; {advice}")
    ours = np.where(known[:, None], xyc + np.array((shift, shift, 0)), 0)
    ours[:, 2] = np.minimum(ours[:, 2], 1)
    return Keypoints2D(layout, ours.astype(np.float32), score=min(1.0, max(0.0, score)), track=track)


def track_of(value: Any) -> int | None:
    """The number of a person through a clip: a whole number from 0 on, alone or in a list; None for anything else."""
    number = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < 2**53:
        return None
    return int(number) if number == int(number) else None


def printable(value: Any) -> str:
    """Text of a file for a message, without the control characters that it may carry."""
    return ascii(str(value)[:120])[1:-1]


def join(names: Sequence[str], most: int = 5) -> str:
    """Some names and how many more."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _kind(value: Any) -> str:
    """JSON's word for what a value is."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return kinds.get(type(value), "something else")
