"""Read DeepLabCut's tables: a row a frame, of one or several individuals, and its labelled pictures.

See DeepLabCut's "What you need": header rows scorer, (individuals,) bodyparts, coords; Lightning Pose and SLEAP's
export write the same.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.content import Lines
from bodyfit.io.keypoints.entry import Entry, attempt, join, person
from bodyfit.io.keypoints.values import numbers, printable
from bodyfit.io.point_names import keypoint_name, layout_of_names
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = ["is_deeplabcut", "read_deeplabcut"]

_PIXELS = "give the clip that DeepLabCut analysed"
_MIN_PARTS = 4
"""Fewest recognised body parts of a person."""


def is_deeplabcut(content: object) -> bool:
    """Tell whether content is a table whose first column has scorer, bodyparts, coords, and perhaps individuals."""
    if not isinstance(content, Lines) or content.suffix != ".csv":
        return False
    heads = [line.partition(",")[0].strip().lower() for line in content.lines[:4]]
    return heads[:1] == ["scorer"] and "bodyparts" in heads and "coords" in heads


def read_deeplabcut(content: Lines, path: Path, layout: str | None) -> list[Entry]:
    """Read an entry for each frame, or for each picture of a table of labels; individuals keep their numbers.

    Body parts are matched by name to the layout that contains most of them; others are ignored, with a note.
    Raises `KeypointFileError`.
    """
    rows = [_cells(line, path) for line in content.lines]
    heads = [row[0].strip().lower() for row in rows[:4] if row]
    body = rows[heads.index("coords") + 1 :]
    table = _Table.of(dict(zip(heads, rows, strict=False)), path, layout)
    clip = re.split(r"DLC_", path.stem)[0]
    entries = []
    for row in body:
        if not any(cell.strip() for cell in row):
            continue
        picture = "/".join(cell.strip() for cell in row[: table.first] if cell.strip())
        frame = int(picture) if picture.isdecimal() and len(picture) < 16 else None
        name = f"{clip}, frame {frame}" if frame is not None else picture
        where = f"{path}: {'frame' if frame is not None else 'row'} {printable(picture)}"
        people = list(table.people(row, where))
        entries.append(
            Entry(
                name,
                path,
                tuple(one for one in people if isinstance(one, Keypoints2D)),
                tuple(str(one) for one in people if isinstance(one, KeypointFileError)),
                table.notes if not entries else (),
                pixels=_PIXELS,
                frame=frame,
            )
        )
    return entries


@dataclass(frozen=True)
class _Table:
    """The meaning of a table's columns."""

    layout: str
    """The layout of the keypoints."""
    columns: dict[str, dict[int, dict[str, int]]]
    """Columns by individual, keypoint (row of the layout) and coordinate."""
    first: int
    """The first column of numbers; those before name the frame or picture."""
    notes: tuple[str, ...]
    """Sentences for the user."""

    @classmethod
    def of(cls, header: dict[str, list[str]], path: Path, layout: str | None) -> _Table:
        """Interpret the header rows, by their first cells. Raises `KeypointFileError`."""
        parts, coords = header["bodyparts"], [cell.strip().lower() for cell in header["coords"]]
        who = header.get("individuals", [""] * len(parts))
        first = next((i for i, cell in enumerate(coords) if cell in ("x", "y", "likelihood")), len(coords))
        if len(parts) != len(coords) or len(who) != len(coords) or first == len(coords):
            raise KeypointFileError(f"{path}: its header rows do not belong together")
        if "z" in coords:
            raise KeypointFileError(f"{path}: 3D points of DeepLabCut, expected x, y and likelihood of one camera")
        names = list(dict.fromkeys(parts[first:]))
        keypoints = [keypoint_name(name, names) for name in names]
        kind, rows = layout_of_names(keypoints)
        if layout is not None:
            kind, ours = layout, layout_names(layout)
            rows = {i: ours.index(name) for i, name in enumerate(keypoints) if name in ours}
        if len(rows) < _MIN_PARTS:
            raise KeypointFileError(
                f"{path}: {len(rows)} of its body parts are keypoints of a person ({join([*map(printable, names)])}); "
                "name them as left_knee, RKnee or knee_l"
            )
        columns: dict[str, dict[int, dict[str, int]]] = {}
        for i in range(first, len(coords)):
            if (row := rows.get(names.index(parts[i]))) is not None:
                columns.setdefault(who[i], {}).setdefault(row, {})[coords[i]] = i
        ignored = [printable(name) for i, name in enumerate(names) if i not in rows]
        note = f"{path}: left aside, as no keypoints of {kind}: {join(ignored)}"
        people = {name: points for name, points in columns.items() if len(points) >= _MIN_PARTS}  # no unique body parts
        return cls(kind, people, first, (note,) if ignored else ())

    def people(self, row: Sequence[str], where: str) -> Iterator[Keypoints2D | KeypointFileError | None]:
        """Yield the individuals of a row, None for absent ones."""
        for number, (name, points) in enumerate(self.columns.items()):
            track = number if len(self.columns) > 1 else None
            yield attempt(self._person, row, points, f"{where}: {printable(name)}" if name else where, track)

    def _person(
        self, row: Sequence[str], points: dict[int, dict[str, int]], where: str, track: int | None
    ) -> Keypoints2D | None:
        """Make an individual from a row. Raises `KeypointFileError`."""
        xyc: Float[np.ndarray, "K 3"] = np.full((len(layout_names(self.layout)), 3), np.nan)
        for k, columns in points.items():
            cells = [_cell(row, columns.get(axis)) for axis in ("x", "y")]
            confidence = _cell(row, columns["likelihood"]) if "likelihood" in columns else 1.0
            xyc[k] = numbers([*cells, confidence], where)
        return person(self.layout, xyc, where, shift=0.5, track=track)


def _cells(line: str, path: Path) -> list[str]:
    """Split a line into cells. Raises `KeypointFileError`."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error as error:
        raise KeypointFileError(f"{path}: is no table ({error})") from None


def _cell(row: Sequence[str], column: int | None) -> float | str | None:
    """Return a cell's number, None where it is empty or missing, else its text."""
    text = row[column].strip() if column is not None and column < len(row) else ""
    try:
        return float(text) if text else None
    except ValueError:
        return text
