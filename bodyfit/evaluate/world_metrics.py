"""Compute errors of motions in the world, where the camera moves: positions in metres, frames along the first axis.

As the benchmarks with moving cameras report them (Ye et al. 2023, Shin et al. 2024). `Score`s have an item a frame; a
frame without truth is `untold`, one with truth and without a finite prediction `failed`, and neither takes part in an
alignment or a mean.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from bodyfit.errors import OptionError, ShapeError
from bodyfit.evaluate.metrics import Score
from bodyfit.geometry.procrustes import align

__all__ = ["foot_sliding", "in_world", "rte", "w_mpjpe", "wa_mpjpe"]

_SHORTEST_PATH_M = 0.01


def in_world(
    points: Float[np.ndarray, "T J 3"], camera_from_world: Float[np.ndarray, "T 4 4"]
) -> Float[np.ndarray, "T J 3"]:
    """Transform points from each frame's camera axes to world axes, by R^T (x - t)."""
    return (points - camera_from_world[:, None, :3, 3]) @ camera_from_world[:, :3, :3]


def wa_mpjpe(
    pred: Float[np.ndarray, "T J 3"],
    truth: Float[np.ndarray, "T J 3"],
    *,
    segment: int = 100,
    mask: Bool[np.ndarray, "T"] | None = None,
) -> Score:
    """Compute WA-MPJPE, mm: segments of frames, each aligned as a whole by one similarity transform.

    A segment is so many frames with truth, wherever they lie; the last may be shorter. mask: the frames that count.
    Raises `ShapeError` and `OptionError`.
    """
    return _by_segments("wa_mpjpe", pred, truth, segment, mask, first=None)


def w_mpjpe(
    pred: Float[np.ndarray, "T J 3"],
    truth: Float[np.ndarray, "T J 3"],
    *,
    segment: int = 100,
    mask: Bool[np.ndarray, "T"] | None = None,
) -> Score:
    """Compute W-MPJPE, mm: segments of frames, each aligned by one similarity transform of its first two frames.

    Segments as in `wa_mpjpe`. mask: the frames that count. Raises `ShapeError` and `OptionError`.
    """
    return _by_segments("w_mpjpe", pred, truth, segment, mask, first=2)


def rte(
    pred: Float[np.ndarray, "T 3"], truth: Float[np.ndarray, "T 3"], *, mask: Bool[np.ndarray, "T"] | None = None
) -> Score:
    """Compute the error of the root's translation, % of the length of its true path, after one rigid alignment.

    There is no scale in the alignment. A true path of less than a centimetre has no such error: its frames are untold.
    Raises `ShapeError`.
    """
    a, b, counted, failed, untold = _checked(pred[:, None], truth[:, None], mask)
    known = np.flatnonzero(~untold)
    path = float(np.linalg.norm(np.diff(b[known, 0], axis=0), axis=1).sum()) if len(known) > 1 else 0.0
    off = np.full(len(a), np.nan)
    if path < _SHORTEST_PATH_M:
        return Score("rte", "%", off, np.zeros(len(a), bool), np.ones(len(a), bool))
    rows = counted[:, 0]
    if rows.any():
        R = align(a[None, rows, 0], b[None, rows, 0]).R[0]
        aligned = (a[rows, 0] - a[rows, 0].mean(0)) @ R.T + b[rows, 0].mean(0)
        off[rows] = 100.0 * np.linalg.norm(aligned - b[rows, 0], axis=1) / path
    return Score("rte", "%", off, failed, untold)


def foot_sliding(
    pred: Float[np.ndarray, "T F 3"],
    truth: Float[np.ndarray, "T F 3"],
    *,
    fps: float | int,
    still_m_s: float = 0.3,
    mask: Bool[np.ndarray, "T"] | None = None,
) -> Score:
    """Compute how far points of the feet move from a frame to the next while the true ones stand, mm.

    A point stands where the truth moves more slowly than `still_m_s` (a centimetre a frame at 30 frames a second).
    Items are the points in the T - 1 steps, (T - 1, F); one that does not stand is untold. Raises `ShapeError` and
    `OptionError`.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise OptionError(f"fps must be positive, got {fps}")
    a, b, _, _, untold = _checked(pred, truth, mask)
    steps_a, steps_b = (np.linalg.norm(np.diff(x, axis=0), axis=2) for x in (a, b))
    both = ~(untold[1:] | untold[:-1])
    stands = both[:, None] & (np.nan_to_num(steps_b, nan=np.inf) * fps < still_m_s)
    failed = stands & ~np.isfinite(steps_a)
    off = np.where(stands & ~failed, 1e3 * steps_a, np.nan)
    return Score("foot_sliding", "mm", off, failed, ~stands)


def _by_segments(
    name: str, pred: np.ndarray, truth: np.ndarray, segment: int, mask: np.ndarray | None, first: int | None
) -> Score:
    """Align each segment by its frames, or the first ones of them that count, and compute the frames' mean errors."""
    if segment < 2:
        raise OptionError(f"segment must be at least 2 frames, got {segment}")
    a, b, counted, failed, untold = _checked(pred, truth, mask)
    off = np.full(len(a), np.nan)
    with_truth = np.flatnonzero(~untold)
    for start in range(0, len(with_truth), segment):
        rows = with_truth[start : start + segment]
        rows = rows[np.any(counted[rows], axis=1)]
        used = rows if first is None else rows[:first]
        if not len(used):
            continue
        flat = [x[used].reshape(1, -1, 3) for x in (a, b)]
        fitted = align(flat[0], flat[1], counted[used].reshape(1, -1))
        moved = fitted(np.nan_to_num(a[rows].reshape(1, -1, 3))).reshape(len(rows), -1, 3)
        distance = np.where(counted[rows], np.linalg.norm(moved - b[rows], axis=2), 0.0)
        off[rows] = 1e3 * distance.sum(1) / counted[rows].sum(1)
    return Score(name, "mm", off, failed, untold)


def _checked(
    pred: np.ndarray, truth: np.ndarray, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return both in float64, the joints that count, and the frames that failed and that have no truth."""
    if pred.shape != truth.shape or pred.ndim != 3 or pred.shape[2] != 3:
        raise ShapeError(f"pred {pred.shape} and truth {truth.shape} must be the same (T, J, 3)")
    a, b = np.asarray(pred, np.float64), np.asarray(truth, np.float64)
    frames = np.ones(len(a), bool) if mask is None else np.asarray(mask, bool)
    if frames.shape != (len(a),):
        raise ShapeError(f"mask must be ({len(a)},), a truth value a frame, got {frames.shape}")
    known = np.all(np.isfinite(b), axis=2) & frames[:, None]
    untold = ~np.any(known, axis=1)
    failed = ~untold & ~np.all(np.all(np.isfinite(a), axis=2) | ~known, axis=1)
    return a, b, known & ~failed[:, None], failed, untold
