"""Compute several metrics of a prediction, and report every setting that affects them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bodyfit.errors import OptionError
from bodyfit.evaluate import metrics
from bodyfit.evaluate.joint_sets import JointSet
from bodyfit.evaluate.metrics import Score
from bodyfit.evaluate.subjects import Subject

__all__ = ["METRICS", "Report", "compare", "matched"]


@dataclass(frozen=True)
class Report:
    """The scores of a comparison and its settings."""

    items: int
    """Number of people or frames."""
    joints: str
    """Name of the joint set."""
    root: str | None
    """The root that is aligned: pelvis, mid_hip or a joint; None for absolute positions."""
    fps: float | None
    """Frames per second, None where unknown."""
    pred: str
    """Where the predicted points come from."""
    truth: str
    """Where the true points come from."""
    scores: tuple[Score, ...]
    """Scores in the order of the request; `jitter` gives two."""


@dataclass(frozen=True)
class _Pair:
    """Prediction and truth with the settings of a comparison."""

    pred: Subject
    truth: Subject
    joints: JointSet
    root: tuple[int, ...] | None
    fps: float | None

    @property
    def mask(self) -> np.ndarray:
        """Joints that count, of valid items."""
        return self.joints.counted & self.truth.valid[:, None]

    def vertices(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the vertices of both. Raises `OptionError`."""
        a, b = self.pred.vertices, self.truth.vertices
        if a is None or b is None:
            side = "prediction" if a is None else "truth"
            raise OptionError(f"pve and pa_pve need vertices, and the {side} has none: give its model, or vertices")
        if a.shape != b.shape:
            raise OptionError(f"pve needs the same mesh on both sides, got {a.shape[1]} and {b.shape[1]} vertices")
        return a, b

    def roots(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the root positions of both, None without a root."""
        if self.root is None:
            return None
        a, b = (side.points[:, list(self.root)].mean(1, keepdims=True) for side in (self.pred, self.truth))
        return a, b

    def rate(self) -> float:
        """Return the frame rate. Raises `OptionError`."""
        if self.fps is None:
            raise OptionError("jitter needs the frames per second, and neither file says; give fps=")
        return self.fps


def _jitter(pair: _Pair) -> tuple[Score, ...]:
    """Compute the jitter of prediction and truth."""

    def score(name: str, points: np.ndarray, mask: np.ndarray) -> Score:
        return replace(metrics.jitter(points, root=pair.root, fps=pair.rate(), mask=mask), metric=name)

    finite = pair.mask & np.isfinite(pair.truth.points).all(-1)
    prediction = score("jitter of prediction", pair.pred.points, pair.mask)
    return prediction, score("jitter of truth", pair.truth.points, finite)


def _pck(threshold_mm: float) -> Callable[[_Pair], tuple[Score, ...]]:
    """Make the function of `pck` at a threshold."""
    return lambda p: (metrics.pck(p.pred.points, p.truth.points, root=p.root, threshold_mm=threshold_mm, mask=p.mask),)


METRICS: dict[str, Callable[[_Pair], tuple[Score, ...]]] = {
    "mpjpe": lambda p: (metrics.mpjpe(p.pred.points, p.truth.points, root=p.root, mask=p.mask),),
    "pa_mpjpe": lambda p: (metrics.pa_mpjpe(p.pred.points, p.truth.points, mask=p.mask),),
    "pve": lambda p: (metrics.pve(*p.vertices(), roots=p.roots(), mask=p.truth.valid[:, None]),),
    "pa_pve": lambda p: (metrics.pa_pve(*p.vertices(), mask=p.truth.valid[:, None]),),
    "accel": lambda p: (
        metrics.acceleration_error(p.pred.points, p.truth.points, root=p.root, fps=p.fps, mask=p.mask),
    ),
    "accel_frame": lambda p: (
        metrics.acceleration_error(p.pred.points, p.truth.points, root=p.root, fps=None, mask=p.mask),
    ),
    "jitter": _jitter,
    "pck50": _pck(50.0),
    "pck150": _pck(150.0),
    "auc": lambda p: (metrics.auc(p.pred.points, p.truth.points, root=p.root, mask=p.mask),),
}
"""Functions of the metrics by their names on the command line."""
_MOTION_METRICS = frozenset({"accel", "accel_frame", "jitter"})
_CAMERA_METRICS = frozenset({"mpjpe", "pve", "accel", "accel_frame", "pck50", "pck150", "auc"})


def matched(pred: Subject, truth: Subject) -> tuple[Subject, Subject]:
    """Match the items of both: where the prediction has only the valid items of the truth, select these.

    Raises `OptionError` where the numbers of items differ otherwise.
    """
    n, m, valid = len(pred.points), len(truth.points), int(truth.valid.sum())
    if n == m:
        return pred, truth
    if n != valid:
        also = f" ({valid} of them valid)" if valid != m else ""
        raise OptionError(f"the prediction has {n} items and the truth {m}{also}; they must be the same, in order")
    keep = truth.valid
    vertices = None if truth.vertices is None else truth.vertices[keep]
    # Invalid frames may lie in between: the remaining ones are not a motion at an even rate.
    return replace(pred, fps=None), replace(
        truth, points=truth.points[keep], valid=keep[keep], vertices=vertices, fps=None
    )


def _check_root(pred: Subject, truth: Subject, joints: JointSet, root: str | None) -> None:
    """Raise `OptionError` for a root that prediction or truth lacks in all items."""
    for row in joints.root(root) or ():
        for side, subject in (("prediction", pred), ("truth", truth)):
            if joints.points[row] in joints.carried and not np.isfinite(subject.points[:, row]).any():
                raise OptionError(f"the {side} has no {joints.points[row]}; take mid_hip as the root, or none")


def compare(
    pred: Subject,
    truth: Subject,
    *,
    joints: JointSet,
    root: str | None,
    which: Sequence[str] = ("mpjpe", "pa_mpjpe"),
    fps: float | None = None,
) -> Report:
    """Compute the metrics `which` of a prediction against the truth, item by item in order.

    root: "pelvis", "mid_hip", a joint of the set or None. fps: where the files do not say. Raises `OptionError`.
    """
    unknown = [name for name in which if name not in METRICS]
    if unknown or not which:
        raise OptionError(f"metrics are {', '.join(METRICS)}, got {', '.join(unknown) or 'none'}")
    whole = len(pred.points) == len(truth.points)
    pred, truth = matched(pred, truth)
    if _MOTION_METRICS & set(which) and not whole:
        raise OptionError("a motion with frames left out has no acceleration; predict all frames, NaN where unknown")
    if truth.axes == "world" != pred.axes and _CAMERA_METRICS & set(which):
        raise OptionError("the truth is in world axes, of no camera: only pa_mpjpe and jitter can be taken")
    _check_root(pred, truth, joints, root)
    pair = _Pair(pred, truth, joints, joints.root(root), truth.fps if fps is None else fps)
    if "accel" in which and pair.fps is None:
        raise OptionError(
            "accel needs the frames per second, and the truth does not say; give fps=, or take accel_frame"
        )
    scores = tuple(score for name in which for score in METRICS[name](pair))
    return Report(len(pred.points), joints.name, root, pair.fps, pred.how, truth.how, scores)
