"""Read TRC (track row column), the text tables of markers of Motion Analysis, OpenSim, Pose2Sim and OpenCap.

Five header lines: the path type, names of metadata, metadata, names of markers over three columns each, X1 Y1 Z1 ...;
then a row a frame: number, time in seconds, coordinates. OpenSim's are y up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.points3d.raw import RawPoints

__all__ = ["read_trc"]

_ROUNDING = 0.02
"""Largest relative deviation of times from the file's rate: at 240 Hz times are often rounded to milliseconds."""
_MAX_BYTES = 1 << 28
"""Largest file: an hour of 100 markers at 100 frames a second."""


def read_trc(path: Path) -> RawPoints:
    """Read the markers of a TRC file; empty cells, NaN and (0, 0, 0) count as missing. Raises `KeypointFileError`."""
    lines = _lines(path)
    heads = [line.split("\t") if "\t" in line else line.split() for line in lines[:5]]
    at = next((i for i, cells in enumerate(heads) if cells and cells[0].strip().lower().startswith("frame")), None)
    if at is None or at < 2:
        raise KeypointFileError(f"{path}: no TRC file; its header must have facts and a line from Frame# and Time on")
    facts = dict(zip(map(str.strip, heads[at - 2]), map(str.strip, heads[at - 1]), strict=False))
    names = [name for cell in heads[at][2:] if (name := cell.strip())]
    rows = list(_rows(lines[at + 1 :], len(names), path))
    if not names or not rows:
        raise KeypointFileError(f"{path}: has {len(names)} markers in {len(rows)} frames; it needs some of both")
    table = np.array(rows)
    xyz = table[:, 2:].reshape(len(rows), -1, 3)
    xyz[~np.isfinite(xyz).all(2) | (xyz == 0).all(2)] = np.nan
    times, fps = _times(table[:, 1], _number(facts.get("DataRate")), path)
    return RawPoints(path, tuple(names), xyz, times, fps, facts.get("Units", ""), up=(1, 1), up_in_file=False)


def _lines(path: Path) -> list[str]:
    """Read the lines of a file. Raises `KeypointFileError`."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise KeypointFileError(f"{path}: refused, it is larger than {_MAX_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise KeypointFileError(f"{path}: cannot be read: {error.strerror or error}") from None


def _rows(lines: Sequence[str], markers: int, path: Path) -> Iterator[list[float]]:
    """Yield number, time and coordinates of each frame, NaN where missing. Raises `KeypointFileError`."""
    for line in lines:
        cells = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        if not cells or not cells[0].strip() or not _is_number(cells[0]):
            continue  # X1 Y1 Z1, and the empty line that some programs leave after it
        values = [_number(cell) for cell in itertools.islice(cells, 2 + 3 * markers)]
        if any(cell.strip() for cell in cells[2 + 3 * markers :]):
            raise KeypointFileError(f"{path}: frame {cells[0].strip()[:20]} has more numbers than {markers} markers")
        yield values + [np.nan] * (2 + 3 * markers - len(values))


def _times(seconds: Float[np.ndarray, "T"], rate: float, path: Path) -> tuple[Float[np.ndarray, "T"], float]:
    """Return times from the first frame, and the frame rate; a file may lack either. Raises `KeypointFileError`."""
    steps, has_rate = np.diff(seconds), np.isfinite(rate) and rate > 0
    if len(steps) and np.isfinite(steps).all() and (steps > 0).all():
        fps = float(1 / np.median(steps))
        return seconds - seconds[0], rate if has_rate and abs(fps / rate - 1) < _ROUNDING else fps
    if not has_rate:
        raise KeypointFileError(f"{path}: has neither ascending times nor a DataRate")
    return np.arange(len(seconds)) / rate, rate


def _is_number(cell: str) -> bool:
    """Tell whether a cell is a finite number."""
    return math.isfinite(_number(cell))


def _number(cell: str | None) -> float:
    """Parse a cell, NaN where it is not a number."""
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return math.nan
