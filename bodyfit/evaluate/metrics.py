"""How far predicted bodies are from true ones: pure functions over batches, in float64, metres in.

Everywhere: `mask` says which joints count ((J,), or one row an item); a true position that is NaN is unknown and does
not count either. An item with nothing to count, or whose true root is unknown, is *untold*; a told item whose
prediction is not finite where it is needed is *failed*. Both are left out of the mean and counted in the `Score`. An
item's error is the mean over its counted joints, a score's the mean over its items, as benchmarks report it (with masks
that is not the mean over all joints).
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

Points: TypeAlias = Float[np.ndarray, "*B J 3"] | Float[Tensor, "*B J 3"]
OnePoint: TypeAlias = Float[np.ndarray, "*B 1 3"] | Float[Tensor, "*B 1 3"]
Mask: TypeAlias = Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
Number: TypeAlias = float | int
Root: TypeAlias = int | str | Sequence[int | str] | None

AUC_THRESHOLDS_MM = tuple(range(0, 201, 5))
"""0, 5, ..., 200 mm: 41 thresholds."""
_MESHES = 128
"""Meshes compared at a time."""


@dataclass(frozen=True)
class Score:
    """One metric over a batch, and whom it does not speak of."""

    metric: str
    """What was measured."""
    unit: str
    """Of `per_item` and `mean`."""
    per_item: Float[np.ndarray, "*B"]
    """NaN where nothing was counted."""
    failed: Bool[np.ndarray, "*B"]
    """There is truth, but no usable prediction."""
    untold: Bool[np.ndarray, "*B"]
    """There is no truth to compare with."""

    @property
    def counted(self) -> int:
        """Items that `mean` is over."""
        return int(np.isfinite(self.per_item).sum())

    @property
    def mean(self) -> float:
        """Over the counted items; NaN if there is none."""
        return float(np.nanmean(self.per_item)) if self.counted else float("nan")


def mpjpe(pred: Points, truth: Points, *, root: Root, mask: Mask | None = None, names: Sequence[str] = ()) -> Score:
    """Mean per joint position error, mm: the mean distance of joints once both roots lie at the origin.

    H36M's protocol 1 (Ionescu et al. 2014). `root`: a joint, several for their midpoint, by index or by a name out of
    `names`; None compares positions as they are. A root joint that counts adds a zero to its item's mean, as is custom.
    """
    case = _case(pred, truth, root, mask, names)
    return case.score("mpjpe", "mm", case.mean(1e3 * case.distance))


def pa_mpjpe(pred: Points, truth: Points, *, mask: Mask | None = None) -> Score:
    """Mean per joint position error, mm, after each item's best similarity onto the truth.

    Rotation of determinant +1, scale and translation by `align` over the joints that count: the "reconstruction error"
    of Zhou et al. 2018 and Kanazawa et al. 2018 (P2 of H36M).
    """
    case = _case(pred, truth, None, mask, ())
    fit = align(case.pred, case.truth, case.used)
    return case.score("pa_mpjpe", "mm", case.mean(1e3 * _norm(fit(case.pred) - case.truth)))


def pve(
    pred: Points,
    truth: Points,
    *,
    roots: tuple[OnePoint, OnePoint] | None,
    mask: Mask | None = None,
) -> Score:
    """Mean per vertex error, mm: as `mpjpe` on vertices (Pavlakos et al. 2018; also MVE, V2V).

    roots: the predicted and the true root, (*B, 1, 3) metres each, for joints are no vertices; None compares positions
    as they are.
    """
    if roots is None:
        parts = _in_parts(lambda a, b, m: mpjpe(a, b, root=None, mask=m), pred, truth, mask)
        return replace(parts, metric="pve")
    for r in roots:
        if tuple(r.shape) != (*pred.shape[:-2], 1, 3):
            raise ShapeError(f"roots must be {(*pred.shape[:-2], 1, 3)}, got {tuple(r.shape)}")

    def about(a: np.ndarray, b: np.ndarray, m: np.ndarray, root_a: np.ndarray, root_b: np.ndarray) -> Score:
        joined = (np.concatenate([x, r], -2) for x, r in ((a, root_a), (b, root_b)))
        return mpjpe(*joined, root=a.shape[-2], mask=np.concatenate([m, np.zeros_like(m[:, :1])], 1))

    return replace(_in_parts(about, pred, truth, mask, *roots), metric="pve")


def pa_pve(pred: Points, truth: Points, *, mask: Mask | None = None) -> Score:
    """Mean per vertex error, mm, after each item's best similarity of the vertices themselves onto the truth."""
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
    """Mean distance of the second differences x[t-1] - 2 x[t] + x[t+1] of joints over time (Kanazawa et al. 2019).

    fps None: mm/frame^2, without division by a time step, which is what papers on 3DPW print (often as mm/s^2). With
    fps: m/s^2, that number times fps^2 / 1000. Items are the T - 2 frames with both neighbours; a joint counts where it
    does in all three. `root` as in `mpjpe`: those papers subtract the root first.
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
    """Mean length of the third difference x[t+3] - 3 x[t+2] + 3 x[t+1] - x[t] over time, times fps^3: m/s^3.

    After Flash and Hogan 1985 and Yi et al. 2021; papers print 10 m/s^3 (a tenth of this number) or 100 m/s^3. Items
    are the T - 3 windows of four frames; a joint counts where it does in all four. It judges a motion by itself: a
    point that is NaN is a failure, and only `mask` makes it unknown.
    """
    a = _float64("points", points)
    case = _case(a, np.zeros_like(a), root, mask, names)
    windows = case.over_time((-1.0, 3.0, -3.0, 1.0))
    return windows.score("jitter", "m/s^3", windows.mean(_rate(fps) ** 3 * windows.distance))


def pck(
    pred: Points,
    truth: Points,
    *,
    root: Root,
    threshold_mm: Number,
    mask: Mask | None = None,
    names: Sequence[str] = (),
    failed_is_wrong: bool = True,
) -> Score:
    """Percentage of joints no further than `threshold_mm` (150 mm, Mehta et al. 2017) from the truth, roots aligned.

    A failed item has 0 % right, unless `failed_is_wrong` is False: then it is left out as elsewhere.
    """
    case = _case(pred, truth, root, mask, names)
    right = case.mean(100.0 * (1e3 * case.distance <= threshold_mm))
    return case.score(f"pck@{threshold_mm:g}mm", "%", right, 0.0 if failed_is_wrong else np.nan)


def auc(
    pred: Points,
    truth: Points,
    *,
    root: Root,
    thresholds_mm: Sequence[Number] = AUC_THRESHOLDS_MM,
    mask: Mask | None = None,
    names: Sequence[str] = (),
    failed_is_wrong: bool = True,
) -> Score:
    """Area under the curve of `pck`, in percent: its mean over evenly spaced thresholds (Mehta et al. 2017).

    By default 0, 5, ..., 200 mm, both ends in, each with the same weight; a perfect prediction has 100.
    """
    if not len(thresholds_mm):
        raise OptionError("thresholds_mm must not be empty")
    case = _case(pred, truth, root, mask, names)
    grid = np.sort(np.asarray(thresholds_mm, np.float64))
    # The share of thresholds that a distance passes, without an array of all pairs.
    passed = (len(grid) - np.searchsorted(grid, np.nan_to_num(1e3 * case.distance, nan=np.inf))) / len(grid)
    name = f"auc@{grid[0]:g}-{grid[-1]:g}mm"
    return case.score(name, "%", case.mean(100.0 * passed), 0.0 if failed_is_wrong else np.nan)


@dataclass(frozen=True)
class _Case:
    """Both sides in float64, their roots at the origin, and what of them can be compared."""

    pred: Float[np.ndarray, "*B J 3"]
    truth: Float[np.ndarray, "*B J 3"]
    counted: Bool[np.ndarray, "*B J"]
    failed: Bool[np.ndarray, "*B"]
    untold: Bool[np.ndarray, "*B"]

    @property
    def used(self) -> np.ndarray:
        """Joints that count, of the items that neither failed nor are untold."""
        return self.counted & ~(self.failed | self.untold)[..., None]

    @property
    def distance(self) -> np.ndarray:
        return _norm(self.pred - self.truth)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """(*B,) means over the joints that count; NaN for items without."""
        n = self.used.sum(-1)
        total = np.where(self.used, values, 0.0).sum(-1)
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)

    def score(self, metric: str, unit: str, values: np.ndarray, of_failed: float = np.nan) -> Score:
        return Score(metric, unit, np.asarray(np.where(self.failed, of_failed, values)), self.failed, self.untold)

    def over_time(self, stencil: tuple[float, ...]) -> _Case:
        """The case of finite differences along the frames, the axis before the joints."""
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
        # A joint that is lost in one frame is lost for every window over it, counted there or not.
        failed = np.any([shifted(self.failed, -1, i) for i in steps], 0) & ~untold
        return _Case(pred, truth, counted, np.asarray(failed), np.asarray(untold))


def _case(
    pred: np.ndarray | Tensor, truth: np.ndarray | Tensor, root: Root, mask: Mask | None, names: Sequence[str]
) -> _Case:
    a, b = _float64("pred", pred), _float64("truth", truth)
    if a.shape != b.shape:
        raise ShapeError(f"pred {a.shape} and truth {b.shape} must have the same shape")
    counted = np.isfinite(b).all(-1) & _spread(mask, b.shape[:-1])
    found = (np.isfinite(a).all(-1) | ~counted).all(-1)
    told = counted.any(-1)
    rows = _rows(root, a.shape[-2], names)
    if rows is not None:
        root_a, root_b = (x[..., list(rows), :].mean(-2, keepdims=True) for x in (a, b))
        told = told & np.isfinite(root_b).all((-1, -2))
        found = found & np.isfinite(root_a).all((-1, -2))
        a, b = a - root_a, b - root_b
    return _Case(a, b, counted, np.asarray(told & ~found), np.asarray(~told))


def _rows(root: Root, joints: int, names: Sequence[str]) -> tuple[int, ...] | None:
    """The rows whose mean is the root."""
    if root is None:
        return None
    rows = []
    for one in (root,) if isinstance(root, (int, str)) else tuple(root):
        if isinstance(one, str):
            if one not in names:
                known = ", ".join(names) or "none: give names="
                raise OptionError(f"root {one!r} is not among the joints' names ({known})")
            one = list(names).index(one)
        if not 0 <= one < joints:
            raise OptionError(f"root {one} is no row of {joints} joints")
        rows.append(int(one))
    if not rows:
        raise OptionError("root must name at least one joint; None for no root")
    return tuple(rows)


def _float64(name: str, array: np.ndarray | Tensor) -> np.ndarray:
    value = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
    if value.ndim < 2 or value.shape[-1] != 3:
        raise ShapeError(f"{name} must be (*B, J, 3), got {value.shape}")
    return np.where(np.isfinite(value), value, np.nan).astype(np.float64)


def _spread(mask: Mask | None, shape: tuple[int, ...]) -> np.ndarray:
    """The mask for every item."""
    value = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(True if mask is None else mask)
    try:
        return np.broadcast_to(value.astype(bool), shape)
    except ValueError:
        raise ShapeError(f"mask must be (J,) or one row an item, {shape}, got {value.shape}") from None


def _in_parts(
    metric: Callable[..., Score], pred: np.ndarray | Tensor, truth: np.ndarray | Tensor, mask: Mask | None, *more: Any
) -> Score:
    """A metric over some meshes at a time: those of a film in float64, a few times over, are gigabytes."""
    if pred.shape != truth.shape:
        raise ShapeError(f"pred {tuple(pred.shape)} and truth {tuple(truth.shape)} must have the same shape")
    batch = tuple(pred.shape[:-2])
    n = math.prod(batch)
    flat = [x.reshape(n, *x.shape[-2:]) for x in (pred, truth, *more)]
    counted = _spread(mask, tuple(pred.shape[:-1])).reshape(n, pred.shape[-2])
    found = []
    for start in range(0, max(n, 1), _MESHES):
        rows = slice(start, start + _MESHES)
        a, b, *rest = (_float64("vertices", x[rows]) for x in flat)
        found.append(metric(a, b, counted[rows], *rest))
    joined = (np.concatenate([getattr(s, k) for s in found]).reshape(batch) for k in ("per_item", "failed", "untold"))
    return Score(found[0].metric, found[0].unit, *joined)


def _norm(difference: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(difference).sum(-1))


def _rate(fps: Number) -> float:
    if not (np.isfinite(fps) and fps > 0):
        raise OptionError(f"fps must be positive, got {fps}")
    return float(fps)
