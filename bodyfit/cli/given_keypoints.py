"""`--keypoints`: keypoint files in the place of a detector, and what the user is told of what they lack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bodyfit.cli import common
from bodyfit.errors import OptionError

if TYPE_CHECKING:
    from bodyfit.io import KeypointFiles

__all__ = ["given_keypoints"]


def given_keypoints(path: Path, layout: str | None, pictures: Sequence[Path]) -> KeypointFiles:
    """The keypoint files, once they are seen to be of these pictures; entries of other pictures are told.

    Raises `KeypointFileError` for files that cannot be read and `OptionError` where none is of any of the pictures.
    """
    from bodyfit.io import load_keypoints
    from bodyfit.io.keypoints.entry import join, printable

    files = load_keypoints(path, layout=layout)
    match = files.match(pictures)
    unused = [f"{printable(entry.name)} ({printable(entry.path.name)})" for entry in match.unused]
    if not match.found:
        raise OptionError(
            f"--keypoints {path} has nothing of the pictures {join([printable(p.name) for p in match.missing])}; "
            f"it has {join(unused) or 'none'}; its names must be the pictures'"
        )
    if match.missing:
        lacking = join([printable(p.name) for p in match.missing])
        common.error(f"{len(match.missing)} of {len(pictures)} pictures have no keypoints in {path}: {lacking}")
    if unused:
        what = "entry matches" if len(unused) == 1 else "entries match"
        common.error(f"{len(unused)} {what} no picture: {join(unused)}", label="note")
    return files
