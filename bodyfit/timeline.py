"""Check frame times for evenness, choose an even frame rate, and interpolate rows to other times.

Formats without frame times (BVH, AMASS) need an even rate; rotations are interpolated by slerp (Shoemake 1985), other
values linearly.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from bodyfit.errors import OptionError, check_shape

__all__ = ["between", "check_times", "clock_rate", "even_times", "is_even", "lerp_rows", "slerp_rows"]

_TOLERANCE = 0.1
"""Largest deviation from an even clock, as a fraction of its period, that counts as rounding."""
_SHORT = 0.1
"""Quantile of the steps between uneven frames that determines the even period, so that hardly any frame is skipped."""
_NEARLY_SHORT = 1.5
"""Steps up to this multiple of the quantile are averaged to the period."""
_FASTEST = 240.0
"""Highest rate chosen for uneven frames, 1/s."""


def is_even(times_s: Float[np.ndarray, "T"], fps: float) -> bool:
    """Tell whether row i is i / fps after the first, up to rounding, so that no drift accumulates."""
    if not fps > 0:
        return False
    off = times_s - times_s[:1] - np.arange(len(times_s)) / fps
    return bool(np.abs(off).max(initial=0.0) <= _TOLERANCE / fps)


def clock_rate(times_s: Float[np.ndarray, "T"], fps: float) -> float:
    """Choose an even frame rate for ascending times, 1/s.

    `fps` where the times are even at it, their mean rate where they are even at that, else the rate of the fastest
    parts, at which slower parts are interpolated.
    """
    if len(times_s) < 2 or is_even(times_s, fps):
        return fps
    mean = (len(times_s) - 1) / float(times_s[-1] - times_s[0])
    if is_even(times_s, mean):
        return mean
    steps = np.diff(times_s)
    short = steps[steps <= _NEARLY_SHORT * np.quantile(steps, _SHORT)]
    return min(1 / float(short.mean()), _FASTEST)


def even_times(times_s: Float[np.ndarray, "T"], fps: float, start_s: float) -> Float[np.ndarray, "N"]:
    """Return times from `start_s` in steps of 1 / fps up to the step nearest to the last of `times_s`."""
    ticks = max(0, round((float(times_s[-1]) - start_s) * fps))
    return start_s + np.arange(ticks + 1) / fps


def between(
    times_s: Float[np.ndarray, "T"], at_s: Float[np.ndarray, "N"], fps: float
) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Return, for each time of `at_s`, the row before it and the fraction of the way to the next row, in [0, 1).

    Times within rounding of a row (a tenth of a period of `fps`) map to that row; times before the first row and after
    the last map to these.
    """
    before = np.clip(np.searchsorted(times_s, at_s, side="right") - 1, 0, len(times_s) - 1)
    after = np.minimum(before + 1, len(times_s) - 1)
    since, until = at_s - times_s[before], times_s[after] - at_s
    close = _TOLERANCE / fps
    same, next_one = since <= close, (since > close) & (until <= close)
    part = np.where(same | next_one, 0.0, since / np.where(since + until > 0, since + until, 1.0))
    return np.where(next_one, after, before), part


def lerp_rows(
    values: Float[np.ndarray, "T *D"], rows: Int[np.ndarray, "N"], part: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N *D"]:
    """Interpolate linearly from each row to the next by the fraction `part`; exact copies where it is 0."""
    out = values[rows]
    some = np.flatnonzero(part)
    weight = part[some].reshape(-1, *[1] * (values.ndim - 1))
    out[some] += weight * (values[rows[some] + 1] - out[some])
    return out


def slerp_rows(
    rotations: Float[np.ndarray, "T J 3 3"] | Float[np.ndarray, "T J 3"],
    rows: Int[np.ndarray, "N"],
    part: Float[np.ndarray, "N"],
) -> Float[np.ndarray, "N J 3 3"] | Float[np.ndarray, "N J 3"]:
    """Interpolate rotations, matrices or axis-angles (radians), by slerp from each row to the next by the fraction
    `part`; copies where it is 0."""
    out = rotations[rows]
    some = np.flatnonzero(part)
    if len(some):
        read, shape = (Rotation.from_matrix, (3, 3)) if rotations.ndim == 4 else (Rotation.from_rotvec, (3,))
        one, other = (read(rotations[rows[some] + k].reshape(-1, *shape)) for k in (0, 1))
        step = (one.inv() * other).as_rotvec() * part[some].repeat(rotations.shape[1])[:, None]
        between_two = one * Rotation.from_rotvec(step)
        values = between_two.as_matrix() if rotations.ndim == 4 else between_two.as_rotvec()
        out[some] = values.reshape(out[some].shape)
    return out


def check_times(times_s: Float[np.ndarray, "T"], rows: int) -> None:
    """Raise `ShapeError` or `OptionError` unless there is one time a row, each later than the one before."""
    check_shape("times_s", times_s, (rows,), hint="one a body")
    if not bool(np.isfinite(times_s).all() and (np.diff(times_s) > 0).all()):
        raise OptionError("times_s must be finite seconds, each later than the one before")
