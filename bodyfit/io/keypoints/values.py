"""Parse the numbers of keypoint files, and recognise missing ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from bodyfit.errors import KeypointFileError

__all__ = ["kind_of", "numbers", "points", "present", "printable", "score_of", "track_of", "triples"]

_MAX_VALUE = 1e7
"""Largest coordinate: beyond, float32 cannot represent fractions of a pixel, and no picture is so wide."""


def numbers(values: Any, where: str) -> Float[np.ndarray, "N"]:
    """Parse a flat list of numbers as float64, NaN for null, "NaN" and infinity.

    Raises `KeypointFileError`, which begins with `where`.
    """
    if not isinstance(values, list | tuple):
        raise KeypointFileError(f"{where}: expected a list of numbers, found {kind_of(values)}")
    missing = [value is None or (isinstance(value, str) and value.strip().lower() == "nan") for value in values]
    odd = [i for i, value in enumerate(values) if not missing[i] and type(value) not in (int, float)]
    if odd:
        raise KeypointFileError(f"{where}: value {odd[0]} is {kind_of(values[odd[0]])}, not a number")
    try:
        array = np.array(
            [np.nan if absent else value for absent, value in zip(missing, values, strict=True)], np.float64
        )
    except OverflowError:
        raise KeypointFileError(f"{where}: a number is too large for a pixel") from None
    array[~np.isfinite(array)] = np.nan
    if np.nanmax(np.abs(array), initial=0.0) > _MAX_VALUE:
        raise KeypointFileError(f"{where}: a number is too large for a pixel")
    return array


def points(values: Any, where: str, sizes: tuple[int, ...]) -> Float[np.ndarray, "K N"]:
    """Parse a list of points with equally many numbers, one of `sizes`; null and [] are a missing point, NaN.

    Raises `KeypointFileError`.
    """
    if not isinstance(values, list):
        raise KeypointFileError(f"{where}: expected a list of points, found {kind_of(values)}")
    rows = [None if row in (None, [], {}) else numbers(row, f"{where}: keypoint {k}") for k, row in enumerate(values)]
    width = next((len(row) for row in rows if row is not None), sizes[0])
    odd = next((k for k, row in enumerate(rows) if row is not None and len(row) not in sizes), None)
    if odd is not None:
        expected = "x and y" if sizes == (2,) else "x, y and a confidence"
        raise KeypointFileError(f"{where}: keypoint {odd} has {len(rows[odd])} coordinates, expected {expected}")  # pyright: ignore[reportArgumentType]
    odd = next((k for k, row in enumerate(rows) if row is not None and len(row) != width), None)
    if odd is not None:
        raise KeypointFileError(f"{where}: keypoint {odd} has another number of values than those before")
    return np.array([np.full(width, np.nan) if row is None else row for row in rows]).reshape(-1, width)


def triples(values: Any, where: str) -> Float[np.ndarray, "K 3"]:
    """Parse x, y, confidence from a flat list x0, y0, c0, x1, ... or a list of [x, y, c] or [x, y].

    null has no points; points without a confidence have 1. Raises `KeypointFileError`.
    """
    if values is None:
        return np.zeros((0, 3))
    if isinstance(values, list) and isinstance(next(filter(None, values), None), list):
        rows = points(values, where, (3, 2))
        return rows if rows.shape[1] == 3 else np.concatenate([rows, np.ones((len(rows), 1))], 1)
    array = numbers(values, where)
    if len(array) % 3:
        raise KeypointFileError(f"{where}: {len(array)} values are no list of x, y, confidence")
    return array.reshape(-1, 3)


def present(xyc: Float[np.ndarray, "*B K 3"]) -> Bool[np.ndarray, "*B K"]:
    """Tell which keypoints are present.

    Missing are those that are not finite, without a positive confidence (0, or -1 in some programs), or at exactly
    (0, 0).
    """
    with np.errstate(invalid="ignore"):
        return np.isfinite(xyc).all(-1) & (xyc[..., 2] > 0) & (xyc[..., :2] != 0).any(-1)


def score_of(value: Any, where: str) -> float:
    """Parse the confidence of a person, clamped to [0, 1], by default 1. Raises `KeypointFileError`."""
    values = value if isinstance(value, list) and len(value) == 1 else [value]
    (score,) = numbers(values, where)
    return 1.0 if np.isnan(score) else float(np.clip(score, 0, 1))


def track_of(value: Any) -> int | None:
    """Parse a track's number: an integer from 0 on, alone or in a list; None for other values."""
    number = value[0] if isinstance(value, list) and len(value) == 1 else value
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < 2**53:
        return None
    return int(number) if number == int(number) else None


def printable(value: Any) -> str:
    """Escape a file's text for a message, so that no control characters reach the terminal."""
    return ascii(str(value)[:120])[1:-1]


def kind_of(value: Any) -> str:
    """Return JSON's name of a value's type."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}
    return kinds.get(type(value), "something else")
