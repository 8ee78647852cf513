"""Read C3D, the binary marker files of Vicon, Qualisys, OptiTrack and Motion Analysis, by the package c3d (MIT).

It is pure Python, so that a damaged file raises an error instead of crashing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.errors import KeypointFileError
from bodyfit.io.points3d.raw import Axis, RawPoints

__all__ = ["read_c3d"]

_Z_UP: Axis = (2, 1)
_MAX_BYTES = 1 << 30
"""Largest file."""


def read_c3d(path: Path) -> RawPoints:
    """Read the 3D points of a C3D file; points that its residual marks as invalid are NaN. Analogue data are ignored.

    Raises `KeypointFileError`, also where the package c3d is not installed.
    """
    try:
        import c3d  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise KeypointFileError(f'{path}: C3D needs the package c3d: pip install "bodyfit[c3d]"') from None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise KeypointFileError(f"{path}: refused, it is larger than {_MAX_BYTES >> 20} MiB")
        with warnings.catch_warnings(record=True) as warned, path.open("rb") as file:
            warnings.simplefilter("always")
            return _read(c3d.Reader(file), path, warned)
    except KeypointFileError:
        raise
    except OSError as error:
        raise KeypointFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the reader raises many types on damaged bytes
        what = ascii(str(error)[:120])[1:-1] or type(error).__name__
        raise KeypointFileError(f"{path}: a damaged C3D file or none: {what}") from None


def _read(reader: Any, path: Path, warned: list[warnings.WarningMessage]) -> RawPoints:
    """Convert what the reader found. Raises `KeypointFileError`."""
    labels = reader.get("POINT:LABELS")
    names = [] if labels is None else [str(name).strip() for name in labels.string_array]
    count, rate = int(reader.point_used), float(reader.point_rate)
    if count == 0 or not names:
        raise KeypointFileError(f"{path}: has no points with names")
    if not (np.isfinite(rate) and 0 < rate < 1e6):
        raise KeypointFileError(f"{path}: its POINT:RATE is {rate}, expected frames a second")
    frames = [points[:, :4].copy() for _, points, _ in reader.read_frames(copy=False, analog_transform=False)]
    if not frames:
        raise KeypointFileError(f"{path}: has no frames")
    values = np.stack(frames).astype(np.float64)
    xyz = values[..., :3]
    xyz[(values[..., 3] < 0) | ~np.isfinite(xyz).all(2) | (xyz == 0).all(2)] = np.nan
    names = (names + [f"unnamed {i}" for i in range(len(names), count)])[:count]
    up, right = (_axis(reader, f"POINT:{key}_SCREEN") for key in ("Y", "X"))
    cut = any("end of file" in str(one.message) for one in warned)
    notes = (f"{path}: ends in the middle of its data, after {len(frames)} frames",) if cut else ()
    unit = reader.get("POINT:UNITS")
    return RawPoints(
        path,
        tuple(names),
        xyz,
        np.arange(len(frames)) / rate,
        rate,
        "" if unit is None else str(unit.string_value).strip(),
        up=up or _Z_UP,
        up_in_file=up is not None,
        right=right,
        notes=notes,
    )


def _axis(reader: Any, key: str) -> Axis | None:
    """Parse an axis parameter such as "+Z" or "-x"."""
    parameter = reader.get(key)
    text = "" if parameter is None else str(parameter.string_value).strip().strip("\x00").lower()
    sign, name = (-1 if text.startswith("-") else 1), text.lstrip("+-").strip()
    return ("xyz".index(name), sign) if len(name) == 1 and name in "xyz" else None
