"""Read YOLO's text files of poses, a line a person: class, box and keypoints as fractions of the picture's sides.

Ultralytics writes them with `save_txt` (predictions; optionally with a confidence and a track's number at the end) and
reads them as labels of data sets (visibility 0, 1 or 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.content import Lines
from bodyfit.io.keypoints.entry import Entry, attempt, gather, person
from bodyfit.io.keypoints.layouts import OTHER_COUNTS, layout_of_count
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import LAYOUTS

__all__ = ["is_yolo_labels", "read_yolo_labels"]

_PIXELS = "give the picture that the labels were made from"
_BOX = 5
"""Count of numbers before the keypoints: class, centre and sides."""


def is_yolo_labels(content: object) -> bool:
    """Tell whether content is lines of a class and at least four numbers, with the box within the picture."""
    if not isinstance(content, Lines) or content.suffix != ".txt":
        return False
    rows = [line.split() for line in content.lines if line.strip()]
    return bool(rows) and all(map(_is_row, rows))


def read_yolo_labels(content: Lines, path: Path, layout: str | None) -> list[Entry]:
    """Read one entry, named after the file; for frames of a clip the name ends with the number, from 1.

    Raises `KeypointFileError` for a file of boxes.
    """
    rows = [line.split() for line in content.lines if line.strip()]
    if all(len(row) <= _BOX + 2 for row in rows):
        raise KeypointFileError(f"{path}: has boxes and no keypoints; run a pose model (yolo11n-pose, say)")
    graded = any(_is_graded(row, layout) for row in rows)
    name = path.stem
    people = ((name, attempt(_person, row, f"{path}: line {i + 1}", layout, graded)) for i, row in enumerate(rows))
    (entry,) = gather(path, people, _PIXELS)
    return [replace(entry, relative=True, first_frame=1)]


@dataclass(frozen=True)
class _RowLayout:
    """The layout of a row's numbers."""

    keypoints: int
    """Number of keypoints."""
    dims: int
    """Numbers of a keypoint: 2, or 3 with a visibility or confidence."""
    extra: int
    """Count of numbers after the keypoints."""


def _row_layout(count: int, where: str, layout: str | None) -> _RowLayout:
    """Return the most likely layout of a row of so many numbers. Raises `KeypointFileError`."""
    counts = sorted(OTHER_COUNTS) if layout is None else [len(LAYOUTS[layout])]
    for dims in (3, 2):
        for extra in (0, 1, 2):
            n, rest = divmod(count - _BOX - extra, dims)
            if rest == 0 and n in counts:
                return _RowLayout(n, dims, extra)
    guess = (count - _BOX) // 3
    layout_of_count(guess, where, layout)  # says what is possible
    raise KeypointFileError(f"{where}: {count} numbers are no class, box and keypoints of {guess} points")


def _is_graded(row: Sequence[str], layout: str | None) -> bool:
    """Tell whether the third numbers are labels' visibilities 0, 1 and 2, not confidences."""
    form = attempt(_row_layout, len(row), "", layout)
    if isinstance(form, KeypointFileError) or form.dims != 3:
        return False
    values = {float(value) for value in row[_BOX + 2 : _BOX + 3 * form.keypoints : 3]}
    return 2.0 in values and values <= {0.0, 1.0, 2.0}


def _person(row: Sequence[str], where: str, layout: str | None, graded: bool) -> Keypoints2D | None:
    """Make a person. Raises `KeypointFileError`."""
    form = _row_layout(len(row), where, layout)
    values = np.array([float(value) for value in row])
    xyc = values[_BOX : _BOX + form.keypoints * form.dims].reshape(-1, form.dims)
    if form.dims == 2:
        xyc = np.concatenate([xyc, np.ones((len(xyc), 1))], 1)
    xyc = xyc * ((1, 1, 0.5) if graded else 1)
    score, track = _score_and_track(values[len(values) - form.extra :])
    kind = layout_of_count(len(xyc), where, layout)
    return person(kind, xyc, where, shift=0.0, score=score, track=track, relative=True)


def _score_and_track(extra: Float[np.ndarray, "E"]) -> tuple[float, int | None]:
    """Parse the numbers after the keypoints: a confidence, a track's number (from 1), or both in this order."""
    track = int(extra[-1]) if len(extra) and extra[-1] >= 1 and extra[-1] == int(extra[-1]) else None
    score = extra[0] if len(extra) == 2 or (len(extra) and track is None) else 1.0
    return float(np.clip(np.nan_to_num(score, nan=1.0), 0, 1)), track


def _is_row(row: Sequence[str]) -> bool:
    """Tell whether a row is a class and at least a box in fractions of a picture."""
    if len(row) < _BOX or not row[0].isdecimal():
        return False
    try:
        values = [float(value) for value in row]
    except ValueError:
        return False
    return all(-0.5 <= value <= 1.5 for value in values[1:_BOX] if value == value)
