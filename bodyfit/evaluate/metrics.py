"""Compute error metrics of predicted bodies: pure functions over batches, in float64, of positions in metres.

In all metrics `mask` selects the joints that count ((J,), or one row an item); a true position that is NaN is unknown
and does not count either. An item without counted joints, or with an unknown true root, has no ground truth (`untold`);
an item with ground truth whose prediction is not finite where it is needed is `failed`. Both are excluded from the mean
and marked in the `Score`. An item's error is the mean over its counted joints, a score's the mean over its items, as
benchmarks report it (with masks that is not the mean over all joints).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from bodyfit.errors import OptionError, ShapeError
from bodyfit.geometry.procrustes import align

__all__ = [
    "AUC_THRESHOLDS_MM",
    "Score",
    "acceleration_error",
    "auc",
    "jitter",
    "mpjpe",
    "pa_mpjpe",
    "pa_pve",
    "pck",
    "pve",
]

PointArray: TypeAlias = Float[np.ndarray, "*B J 3"] | Float[Tensor, "*B J 3"]
OnePoint: TypeAlias = Float[np.ndarray, "*B 1 3"] | Float[Tensor, "*B 1 3"]
Mask: TypeAlias = Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
Number: TypeAlias = float | int
Root: TypeAlias = int | str | Sequence[int | str] | None

AUC_THRESHOLDS_MM = tuple(range(0, 201, 5))
"""Default thresholds of `auc`: 0, 5, ..., 200 mm."""
_MESHES = 128
"""Meshes compared at a time, to bound memory."""


@dataclass(frozen=True)
class Score:
    """One metric over a batch, and the items that it excludes."""

    metric: str
    """Name of the metric."""
    unit: str
    """Unit of `per_item` and `mean`."""
    per_item: Float[np.ndarray, "*B"]
    """Error of each item; NaN where it is excluded."""
    failed: Bool[np.ndarray, "*B"]
    """Items with ground truth but without a finite prediction."""
    untold: Bool[np.ndarray, "*B"]
    """Items without ground truth."""

    @property
    def counted(self) -> int:
        """Number of items in the mean."""
        return int(np.isfinite(self.per_item).sum())

    @property
    def mean(self) -> float:
        """Mean over the items that count; NaN if there are none."""
        return float(np.nanmean(self.per_item)) if self.counted else float("nan")


def mpjpe(
    pred: PointArray, truth: PointArray, *, root: Root, mask: Mask | None = None, names: Sequence[str] = ()
) -> Score:
    """Compute the mean per joint position error, mm: the mean distance of joints after aligning both roots.

    H36M's protocol 1 (Ionescu et al. 2014). `root`: a joint, or several for their midpoint, by index or by a name in
    `names`; None compares absolute positions. A root joint that counts adds a zero to its item's mean, as is custom.
    Raises `ShapeError` and `OptionError`.
    """
    case = _case(pred, truth, root, mask, names)
    return case.score("mpjpe", "mm", case.mean(1e3 * case.distance))


def pa_mpjpe(pred: PointArray, truth: PointArray, *, mask: Mask | None = None) -> Score:
    """Compute the mean per joint position error, mm, after Procrustes alignment of each item to the truth.

    Rotation (determinant +1), scale and translation by `align` over the joints that count: the "reconstruction error"
    of Zhou et al. 2018 and Kanazawa et al. 2018 (P2 of H36M).
    """
    case = _case(pred, truth, None, mask, ())
    alignment = align(case.pred, case.truth, case.used)
    return case.score("pa_mpjpe", "mm", case.mean(1e3 * _norm(alignment(case.pred) - case.truth)))


def pve(
    pred: PointArray,
    truth: PointArray,
    *,
    roots: tuple[OnePoint, OnePoint] | None,
    mask: Mask | None = None,
) -> Score:
    """Compute the mean per vertex error, mm: `mpjpe` of vertices (Pavlakos et al. 2018; also MVE, V2V).

    roots: the predicted and the true root, (*B, 1, 3) metres each; None compares absolute positions. Raises
    `ShapeError`.
    """
    if roots is None:
        parts = _in_parts(lambda a, b, m: mpjpe(a, b, root=None, mask=m), pred, truth, mask)
        return replace(parts, metric="pve")
    for r in roots:
        if tuple(r.shape) != (*pred.shape[:-2], 1, 3):
            raise ShapeError(f"roots must be {(*pred.shape[:-2], 1, 3)}, got {tuple(r.shape)}")

    def about_root(a: np.ndarray, b: np.ndarray, m: np.ndarray, root_a: np.ndarray, root_b: np.ndarray) -> Score:
        with_roots = (np.concatenate([x, r], -2) for x, r in ((a, root_a), (b, root_b)))
        return mpjpe(*with_roots, root=a.shape[-2], mask=np.concatenate([m, np.zeros_like(m[:, :1])], 1))

    return replace(_in_parts(about_root, pred, truth, mask, *roots), metric="pve")


def pa_pve(pred: PointArray, truth: PointArray, *, mask: Mask | None = None) -> Score:
    """Compute the mean per vertex error, mm, after Procrustes alignment of each item's vertices to the truth."""
    parts = _in_parts(lambda a, b, m: pa_mpjpe(a, b, mask=m), pred, truth, mask)
    return replace(parts, metric="pa_pve")


def acceleration_error(
    pred: Float[np.ndarray, "*B T J 3"] | Float[Tensor, "*B T J 3"],
    truth: Float[np.ndarray, "*B T J 3"] | Float[Tensor, "*B T J 3"],
    *,
    root: Root,
    fps: Number | None,
    mask: Mask | None = None,
    names: Sequence[str] = (),
) -> Score:
    """Compute the acceleration error: the mean distance of second differences of joints over time.

    Differences x[t-1] - 2 x[t] + x[t+1] (Kanazawa et al. 2019). fps None: mm/frame^2, without division by a time step,
    as papers on 3DPW print it (often as mm/s^2). With fps: m/s^2, that number times fps^2 / 1000. Items are the T - 2
    frames with both neighbours; a joint counts where it does in all three. `root` as in `mpjpe`: those papers subtract
    the root first. Raises `ShapeError` and `OptionError`.
    """
    case = _case(pred, truth, root, mask, names)
    factor, unit = (1e3, "mm/frame^2") if fps is None else (_rate(fps) ** 2, "m/s^2")
    windows = case.over_time((1.0, -2.0, 1.0))
    return windows.score("acceleration_error", unit, windows.mean(factor * windows.distance))


def jitter(
    points: Float[np.ndarray, "*B T J 3"] | Float[Tensor, "*B T J 3"],
    *,
    root: Root,
    fps: Number,
    mask: Mask | None = None,
    names: Sequence[str] = (),
) -> Score:
    """Compute the jitter: the mean length of the third difference of joints over time, times fps^3, in m/s^3.

    Differences x[t+3] - 3 x[t+2] + 3 x[t+1] - x[t], after Flash and Hogan 1985 and Yi et al. 2021; papers print it in
    units of 10 or 100 m/s^3. Items are the T - 3 windows of four frames; a joint counts where it does in all four.
    There is no ground truth: a point that is NaN is a failure, and only `mask` excludes it.
    """
    a = _float64("points", points)
    case = _case(a, np.zeros_like(a), root, mask, names)
    windows = case.over_time((-1.0, 3.0, -3.0, 1.0))
    return windows.score("jitter", "m/s^3", windows.mean(_rate(fps) ** 3 * windows.distance))


def pck(
    pred: PointArray,
    truth: PointArray,
    *,
    root: Root,
    threshold_mm: Number,
    mask: Mask | None = None,
    names: Sequence[str] = (),
    failed_is_wrong: bool = True,
) -> Score:
    """Compute the percentage of correct keypoints: joints within `threshold_mm` of the truth, roots aligned.

    Usually 150 mm (Mehta et al. 2017). A failed item counts as 0 %, unless `failed_is_wrong` is False, which excludes
    it.
    """
    case = _case(pred, truth, root, mask, names)
    right = case.mean(100.0 * (1e3 * case.distance <= threshold_mm))
    return case.score(f"pck@{threshold_mm:g}mm", "%", right, 0.0 if failed_is_wrong else np.nan)


def auc(
    pred: PointArray,
    truth: PointArray,
    *,
    root: Root,
    thresholds_mm: Sequence[Number] = AUC_THRESHOLDS_MM,
    mask: Mask | None = None,
    names: Sequence[str] = (),
    failed_is_wrong: bool = True,
) -> Score:
    """Compute the area under the curve of `pck`, in percent: its mean over the thresholds (Mehta et al. 2017).

    By default 0, 5, ..., 200 mm with equal weights; a perfect prediction has 100.
    """
    if not len(thresholds_mm):
        raise OptionError("thresholds_mm must not be empty")
    case = _case(pred, truth, root, mask, names)
    grid = np.sort(np.asarray(thresholds_mm, np.float64))
    # The fraction of thresholds that a distance is within, without an array of all pairs.
    fraction = (len(grid) - np.searchsorted(grid, np.nan_to_num(1e3 * case.distance, nan=np.inf))) / len(grid)
    name = f"auc@{grid[0]:g}-{grid[-1]:g}mm"
    return case.score(name, "%", case.mean(100.0 * fraction), 0.0 if failed_is_wrong else np.nan)


@dataclass(frozen=True)
class _Comparison:
    """Prediction and truth in float64, root-aligned, and which joints and items of them count."""

    pred: Float[np.ndarray, "*B J 3"]
    truth: Float[np.ndarray, "*B J 3"]
    counted: Bool[np.ndarray, "*B J"]
    failed: Bool[np.ndarray, "*B"]
    untold: Bool[np.ndarray, "*B"]

    @property
    def used(self) -> np.ndarray:
        """Joints that count, of items that are neither failed nor without ground truth."""
        return self.counted & ~(self.failed | self.untold)[..., None]

    @property
    def distance(self) -> np.ndarray:
        """Distances of joints, metres."""
        return _norm(self.pred - self.truth)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Average over the joints that count, (*B,); NaN for items without."""
        n = self.used.sum(-1)
        total = np.where(self.used, values, 0.0).sum(-1)
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)

    def score(self, metric: str, unit: str, values: np.ndarray, of_failed: float = np.nan) -> Score:
        """Make the score of a metric from its values for items; failed items get `of_failed`."""
        return Score(metric, unit, np.asarray(np.where(self.failed, of_failed, values)), self.failed, self.untold)

    def over_time(self, stencil: tuple[float, ...]) -> _Comparison:
        """Apply a finite-difference stencil along the frames, the axis before the joints. Raises `ShapeError`."""
        if self.pred.ndim < 3:
            raise ShapeError(f"a motion must be (*B, T, J, 3), got {self.pred.shape}")
        n = max(self.pred.shape[-3] - len(stencil) + 1, 0)

        def shifted(x: np.ndarray, axis: int, i: int) -> np.ndarray:
            return np.take(x, np.arange(i, i + n), axis)

        steps = range(len(stencil))
        pred, truth = (
            sum(
                (c * shifted(x, -3, i) for i, c in enumerate(stencil)),
                np.zeros((*x.shape[:-3], n, *x.shape[-2:])),
            )
            for x in (self.pred, self.truth)
        )
        counted = np.all([shifted(self.counted & ~self.untold[..., None], -2, i) for i in steps], 0)
        untold = ~counted.any(-1)
        # A failed frame fails every window that contains it.
        failed = np.any([shifted(self.failed, -1, i) for i in steps], 0) & ~untold
        return _Comparison(pred, truth, counted, np.asarray(failed), np.asarray(untold))


def _case(
    pred: np.ndarray | Tensor, truth: np.ndarray | Tensor, root: Root, mask: Mask | None, names: Sequence[str]
) -> _Comparison:
    """Align the roots and find the joints and items that count. Raises `ShapeError` and `OptionError`."""
    a, b = _float64("pred", pred), _float64("truth", truth)
    if a.shape != b.shape:
        raise ShapeError(f"pred {a.shape} and truth {b.shape} must have the same shape")
    counted = np.isfinite(b).all(-1) & _broadcast(mask, b.shape[:-1])
    predicted = (np.isfinite(a).all(-1) | ~counted).all(-1)
    has_truth = counted.any(-1)
    rows = _rows(root, a.shape[-2], names)
    if rows is not None:
        root_a, root_b = (x[..., list(rows), :].mean(-2, keepdims=True) for x in (a, b))
        has_truth = has_truth & np.isfinite(root_b).all((-1, -2))
        predicted = predicted & np.isfinite(root_a).all((-1, -2))
        a, b = a - root_a, b - root_b
    return _Comparison(a, b, counted, np.asarray(has_truth & ~predicted), np.asarray(~has_truth))


def _rows(root: Root, joints: int, names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the rows whose mean is the root, None for no root. Raises `OptionError`."""
    if root is None:
        return None
    rows = []
    for one in (root,) if isinstance(root, (int, str)) else tuple(root):
        if isinstance(one, str):
            if one not in names:
                available = ", ".join(names) or "none: give names="
                raise OptionError(f"root {one!r} is not among the joints' names ({available})")
            one = list(names).index(one)
        if not 0 <= one < joints:
            raise OptionError(f"root {one} is no row of {joints} joints")
        rows.append(int(one))
    if not rows:
        raise OptionError("root must name at least one joint; None for no root")
    return tuple(rows)


def _float64(name: str, array: np.ndarray | Tensor) -> np.ndarray:
    """Return positions as float64 with NaN for what is not finite. Raises `ShapeError`."""
    value = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
    if value.ndim < 2 or value.shape[-1] != 3:
        raise ShapeError(f"{name} must be (*B, J, 3), got {value.shape}")
    return np.where(np.isfinite(value), value, np.nan).astype(np.float64)


def _broadcast(mask: Mask | None, shape: tuple[int, ...]) -> np.ndarray:
    """Broadcast the mask to all items. Raises `ShapeError`."""
    value = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(True if mask is None else mask)
    try:
        return np.broadcast_to(value.astype(bool), shape)
    except ValueError:
        raise ShapeError(f"mask must be (J,) or one row an item, {shape}, got {value.shape}") from None


def _in_parts(
    metric: Callable[..., Score], pred: np.ndarray | Tensor, truth: np.ndarray | Tensor, mask: Mask | None, *more: Any
) -> Score:
    """Evaluate a metric over chunks of meshes, for copies of a clip's meshes in float64 take gigabytes."""
    if pred.shape != truth.shape:
        raise ShapeError(f"pred {tuple(pred.shape)} and truth {tuple(truth.shape)} must have the same shape")
    batch = tuple(pred.shape[:-2])
    n = math.prod(batch)
    flat = [x.reshape(n, *x.shape[-2:]) for x in (pred, truth, *more)]
    counted = _broadcast(mask, tuple(pred.shape[:-1])).reshape(n, pred.shape[-2])
    scores = []
    for start in range(0, max(n, 1), _MESHES):
        rows = slice(start, start + _MESHES)
        a, b, *rest = (_float64("vertices", x[rows]) for x in flat)
        scores.append(metric(a, b, counted[rows], *rest))
    keys = ("per_item", "failed", "untold")
    parts = (np.concatenate([getattr(score, key) for score in scores]).reshape(batch) for key in keys)
    return Score(scores[0].metric, scores[0].unit, *parts)


def _norm(difference: np.ndarray) -> np.ndarray:
    """Return the lengths of vectors."""
    return np.sqrt(np.square(difference).sum(-1))


def _rate(fps: Number) -> float:
    """Return the frame rate, checked to be positive. Raises `OptionError`."""
    if not (np.isfinite(fps) and fps > 0):
        raise OptionError(f"fps must be positive, got {fps}")
    return float(fps)
