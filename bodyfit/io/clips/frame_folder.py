"""Read a folder of pictures as the frames of a clip: their order and, by their numbers, their times."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bodyfit.errors import ImageError, VideoError
from bodyfit.images.files import Listing, list_folder, no_pictures
from bodyfit.images.frame import image_size, is_animation

__all__ = ["FrameFolder", "clips_in_folder", "natural_order"]

_SPARSE = 10
"""Numbers that span more than this multiple of the count of pictures (times of day, say) are not frame numbers."""


@dataclass(frozen=True)
class FrameFolder:
    """The frames of a clip, each a picture."""

    files: tuple[Path, ...]
    """Files in display order, without those that cannot be opened."""
    ticks: tuple[int, ...]
    """Frame number of each file from the first, by the numbers in the names, so that gaps are gaps in time; 0, 1, 2,
    ... where names have no numbers."""
    size: tuple[int, int]
    """Displayed width and height, pixels."""
    notes: tuple[str, ...]
    """Sentences for the user: gaps, pictures that cannot be opened, omitted files."""

    @classmethod
    def read(cls, folder: Path) -> FrameFolder:
        """Read every picture's size and order them.

        Raises `VideoError` for a folder that is not one clip: without pictures, with two sequences or several sizes.
        """
        listing = _listing(folder)
        if not listing.pictures:
            raise VideoError(no_pictures(listing))
        files = natural_order(listing.pictures)
        ticks, notes = _ticks(folder, files)
        sizes: dict[Path, tuple[int, int]] = {}
        for file in files:
            size = _size(file)
            if isinstance(size, str):
                notes.append(f"left out: {size}")
            else:
                sizes[file] = size
        if not sizes:
            raise VideoError(f"none of the {len(files)} pictures in {folder} can be opened; {notes[-1]}")
        size = Counter(sizes.values()).most_common(1)[0][0]
        for file, other in sizes.items():
            if other != size:
                raise VideoError(
                    f"{file} is {other[0]}x{other[1]} and other frames of {folder} are {size[0]}x{size[1]}; the frames "
                    "of a clip have one size"
                )
        if (rest := listing.describe_unused(listing.pictures)) is not None:
            notes.append(rest)
        readable = [k for k, file in enumerate(files) if file in sizes]
        return cls(tuple(files[k] for k in readable), tuple(ticks[k] for k in readable), size, tuple(notes))


def clips_in_folder(folder: Path) -> Listing | None:
    """List a folder of clips, with animated pictures among `clips`; None for a folder of frames.

    Raises `VideoError` for a folder of both, and of neither.
    """
    listing = _listing(folder)
    moving = {path for path in listing.pictures if path.suffix.lower() in _MAY_MOVE and is_animation(path)}
    still = tuple(path for path in listing.pictures if path not in moving)
    clips = tuple(sorted((*listing.clips, *moving)))
    if clips and still:
        raise VideoError(
            f"{folder} holds {_counted(len(still), 'picture')} ({still[0].name}) and {_counted(len(clips), 'clip')} "
            f"({clips[0].name}); give the clips by name, or a folder of the frames of one clip alone"
        )
    if not clips and not still:
        raise VideoError(f"the folder {folder} holds neither clips nor pictures")
    return Listing(folder, still, clips, listing.others, listing.folders) if clips else None


_MAY_MOVE = (".gif", ".png", ".apng", ".webp", ".avif", ".avifs")


def natural_order(paths: Sequence[Path]) -> list[Path]:
    """Sort paths by name in natural order: frame2 before frame10."""

    def key(path: Path) -> tuple[list[str | int], str]:
        parts = re.split(r"([0-9]+)", path.name.casefold())
        return [int(part) if k % 2 else part for k, part in enumerate(parts)], path.name

    return sorted(paths, key=key)


def _size(file: Path) -> tuple[int, int] | str:
    """Return width and height, or the reason why they cannot be read."""
    try:
        return image_size(file)
    except ImageError as fault:
        return str(fault)


def _ticks(folder: Path, files: Sequence[Path]) -> tuple[list[int], list[str]]:
    """Return each file's frame number, and notes for the user. Raises `VideoError` for two sequences in one folder."""
    numbers = _numbers(folder, files)
    in_order, notes = list(range(len(files))), []
    if numbers is None:
        return in_order, notes
    for (one, a), (other, b) in pairwise(zip(files, numbers, strict=True)):
        if a == b:
            raise VideoError(f"{one} and {other} have the same number; a folder of frames is one clip")
    step = math.gcd(*(b - a for a, b in pairwise(numbers))) or 1
    ticks = [(number - numbers[0]) // step for number in numbers]
    missing = ticks[-1] + 1 - len(ticks)
    if missing == 0:
        return ticks, notes
    if ticks[-1] > _SPARSE * len(ticks):
        notes.append(f"{folder}: the numbers of its pictures count no frames; they are taken one after the other")
        return in_order, notes
    before = next(k for k, (a, b) in enumerate(pairwise(ticks)) if b > a + 1)
    notes.append(
        f"{folder}: {_counted(missing, 'frame')} missing by the numbers in the names (the first after "
        f"{files[before].name}); their time is left empty"
    )
    return ticks, notes


def _numbers(folder: Path, files: Sequence[Path]) -> list[int] | None:
    """Return the one number in which the names differ, None where they differ otherwise. Raises `VideoError`."""
    split = {file: re.split(r"([0-9]+)", file.stem) for file in files}
    groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for file, parts in split.items():
        groups[tuple(parts[::2])].append(file)
    if len(groups) == 1:
        columns = list(zip(*(split[file][1::2] for file in files), strict=True))
        varying = [column for column in columns if len(set(column)) > 1]
        same_names = len({file.stem for file in files}) < len(files)
        if len(varying) == 1 or (same_names and columns):
            return [int(digits) for digits in (varying or columns[-1:])[0]]
        return None
    several = [group for group in groups.values() if len(group) > 1]
    counted = [{tuple(split[file][1::2]) for file in group} for group in several]
    for k, one in enumerate(counted):
        for other, numbers in zip(several[:k], counted[:k], strict=True):
            if one & numbers:
                raise VideoError(
                    f"{folder} holds two sequences, {other[0].name} and so on and {several[k][0].name} and so on; a "
                    "folder of frames is one clip"
                )
    return None


def _listing(folder: Path) -> Listing:
    """List a folder. Raises `VideoError`."""
    try:
        return list_folder(folder)
    except ImageError as fault:
        raise VideoError(str(fault)) from None


def _counted(count: int, what: str) -> str:
    """Return a count with its noun."""
    return f"1 {what}" if count == 1 else f"{count} {what}s"
