"""Frame times: whether they are even, the rate of an even clock for them, and rows between them.

Formats without times of their own (BVH, AMASS) need an even rate; rotations go there by slerp (Shoemake 1985), all else
linearly.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from bodyfit.errors import OptionError, check_shape

__all__ = ["between", "check_times", "clock_rate", "even_times", "is_even", "lerp_rows", "slerp_rotvecs", "slerp_rows"]

_TOLERANCE = 0.1
"""Frames that are nowhere farther from an even clock than this part of a tick are even but for rounding."""
_SHORT = 0.1
"""Quantile of the steps between uneven frames that a tick is made of: so that nearly none of them is lost."""
_NEARLY_SHORT = 1.5
"""Steps of up to so many times that quantile are one tick."""
_FASTEST = 240.0
"""Ticks a second of an uneven clock, at most."""


def is_even(times_s: Float[np.ndarray, "T"], fps: float) -> bool:
    """Whether row i is shown i / fps after the first, but for rounding; so that no error adds up."""
    if not fps > 0:
        return False
    off = times_s - times_s[:1] - np.arange(len(times_s)) / fps
    return bool(np.abs(off).max(initial=0.0) <= _TOLERANCE / fps)


def clock_rate(times_s: Float[np.ndarray, "T"], fps: float) -> float:
    """The rate of an even clock for ascending times: `fps` or, where that drifts, their mean rate if they are even;
    else the rate of the faster parts, of which slower ones are multiples or are interpolated."""
    if len(times_s) < 2 or is_even(times_s, fps):
        return fps
    mean = (len(times_s) - 1) / float(times_s[-1] - times_s[0])
    if is_even(times_s, mean):
        return mean
    steps = np.diff(times_s)
    short = steps[steps <= _NEARLY_SHORT * np.quantile(steps, _SHORT)]
    return min(1 / float(short.mean()), _FASTEST)


def even_times(times_s: Float[np.ndarray, "T"], fps: float, start_s: float) -> Float[np.ndarray, "N"]:
    """Times from `start_s` in steps of 1 / fps to the tick nearest to the last of the given ones."""
    ticks = max(0, round((float(times_s[-1]) - start_s) * fps))
    return start_s + np.arange(ticks + 1) / fps


def between(
    times_s: Float[np.ndarray, "T"], at_s: Float[np.ndarray, "N"], fps: float
) -> tuple[Int[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """For each wanted time the row before it and how far on to the next it is, in [0, 1).

    Times within rounding of a row (a tenth of a tick of `fps`) take that row as it is; before the first row and after
    the last these are held.
    """
    before = np.clip(np.searchsorted(times_s, at_s, side="right") - 1, 0, len(times_s) - 1)
    after = np.minimum(before + 1, len(times_s) - 1)
    since, until = at_s - times_s[before], times_s[after] - at_s
    close = _TOLERANCE / fps
    there, next_one = since <= close, (since > close) & (until <= close)
    part = np.where(there | next_one, 0.0, since / np.where(since + until > 0, since + until, 1.0))
    return np.where(next_one, after, before), part


def lerp_rows(
    values: Float[np.ndarray, "T *D"], rows: Int[np.ndarray, "N"], part: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N *D"]:
    """Values that far from each row to the next; rows of part 0 exactly as they are."""
    out = values[rows]
    some = np.flatnonzero(part)
    weight = part[some].reshape(-1, *[1] * (values.ndim - 1))
    out[some] += weight * (values[rows[some] + 1] - out[some])
    return out


def slerp_rows(
    rotations: Float[np.ndarray, "T J 3 3"], rows: Int[np.ndarray, "N"], part: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N J 3 3"]:
    """Rotations that far on the shortest way from each row to the next; rows of part 0 exactly as they are."""
    out = rotations[rows]
    some = np.flatnonzero(part)
    if len(some):
        step = (out[some].swapaxes(-1, -2) @ rotations[rows[some] + 1]).reshape(-1, 3, 3)
        rotvec = Rotation.from_matrix(step).as_rotvec() * part[some].repeat(rotations.shape[1])[:, None]
        out[some] = out[some] @ Rotation.from_rotvec(rotvec).as_matrix().reshape(out[some].shape)
    return out


def slerp_rotvecs(
    rotvecs: Float[np.ndarray, "T J 3"], rows: Int[np.ndarray, "N"], part: Float[np.ndarray, "N"]
) -> Float[np.ndarray, "N J 3"]:
    """The same of axis-angle vectors, radians."""
    out = rotvecs[rows]
    some = np.flatnonzero(part)
    if len(some):
        one, other = (Rotation.from_rotvec(rotvecs[rows[some] + k].reshape(-1, 3)) for k in (0, 1))
        step = (one.inv() * other).as_rotvec() * part[some].repeat(rotvecs.shape[1])[:, None]
        out[some] = (one * Rotation.from_rotvec(step)).as_rotvec().reshape(out[some].shape)
    return out


def check_times(times_s: Float[np.ndarray, "T"], rows: int) -> None:
    """Raise `ShapeError` or `OptionError` unless there is one time a row, each later than the one before."""
    check_shape("times_s", times_s, (rows,), hint="one a body")
    if not bool(np.isfinite(times_s).all() and (np.diff(times_s) > 0).all()):
        raise OptionError("times_s must be finite seconds, each later than the one before")
