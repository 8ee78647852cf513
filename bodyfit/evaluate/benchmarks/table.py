"""Gather what was measured of many people into one table, and say what it depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float

from bodyfit.evaluate.benchmarks.protocols import Protocol
from bodyfit.evaluate.joint_sets import JointSet, joint_set
from bodyfit.evaluate.metrics import Score, acceleration_error, auc, jitter, mpjpe, pa_mpjpe, pck
from bodyfit.evaluate.world_metrics import foot_sliding, in_world, rte, w_mpjpe, wa_mpjpe

__all__ = ["Line", "Measured", "Table", "table_of"]

_FEET = ("left_ankle", "right_ankle", "left_foot", "right_foot")


@dataclass(frozen=True)
class Measured:
    """The points of one person in n frames, fitted and true, camera axes, metres."""

    name: str
    """The shot."""
    person: int
    """Index of the person in the shot."""
    pred: Float[np.ndarray, "n P 3"]
    """Fitted points; NaN where nobody was found or fitted."""
    truth: Float[np.ndarray, "n P 3"]
    """True points."""
    valid: Bool[np.ndarray, "n"]
    """Frames that count."""
    pve_mm: Float[np.ndarray, "n"]
    """Mean distance of the vertices, roots aligned; NaN for another mesh."""
    fps: float
    """Frames per second; 0 for single pictures and for frames left out."""
    camera_from_world: Float[np.ndarray, "n 4 4"] | None
    """True extrinsics."""
    strangers: int
    """Detected people whom the annotations do not have."""
    source: str
    """Where both kinds of points come from."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return arrays by name, for a file."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: np.asarray(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str) -> Measured:
        """Make the record from the arrays of a file whose names have a prefix."""
        plain = {"name": str, "person": int, "fps": float, "strangers": int, "source": str}
        values = {one.name: arrays.get(prefix + one.name) for one in fields(cls)}
        return cls(**{name: plain[name](value) if name in plain else value for name, value in values.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Line:
    """One measure over all people of a benchmark."""

    metric: str
    """Name of the measure."""
    unit: str
    """Unit of `mean` and `median`."""
    mean: float
    """Mean over items that count and did not fail; NaN without any."""
    median: float
    """Median over the same."""
    counted: int
    """Items that count and did not fail."""
    failed: int
    """Items with truth, whose person was not found or not fitted."""


@dataclass(frozen=True)
class Table:
    """A benchmark's result with its protocol."""

    title: str
    """Data set and part."""
    protocol: dict[str, str]
    """Joints, root, pictures, crop, camera, model, keypoints and fits, in words."""
    lines: tuple[Line, ...]
    """Measures in the order of the protocol."""
    people: int
    """Sequences of one person that were measured."""
    left_out: int
    """Shots left out because files were missing or damaged."""


def table_of(
    protocol: Protocol, joints: JointSet, people: Sequence[Measured], *, left_out: int, facts: Mapping[str, str]
) -> Table:
    """Compute the measures of a protocol over people; means are over items (frames), as benchmarks report them."""
    lines = [line for name in protocol.metrics if (line := _line(name, protocol, joints, people)) is not None]
    if protocol.world:
        lines += [line for name in _WORLD if (line := _world_line(name, joints, people)) is not None]
    if protocol.detections:
        lines += _detection_lines(lines, people)
    words = {
        "joints": f"{joints.name}, of {people[0].source}" if people else joints.name,
        "root": protocol.root,
        "pictures": protocol.pictures,
        "crop": "none: whole pictures; the detected person whose box overlaps the true one most",
        "camera": protocol.camera,
        **facts,
    }
    return Table(protocol.title, words, tuple(lines), len(people), left_out)


def _line(metric: str, protocol: Protocol, joints: JointSet, people: Sequence[Measured]) -> Line | None:
    """Compute one measure over all people; None where nobody has what it needs."""
    if metric == "pve":
        values = np.concatenate([one.pve_mm[one.valid] for one in people]) if people else np.empty(0)
        return None if np.isnan(values).all() else _gathered("pve", "mm", [values], int(np.isnan(values).sum()))
    return _scored([_METRICS[metric](one, joints, protocol) for one in people if metric not in _MOTION or one.fps > 0])


_MOTION = frozenset({"accel"})
_METRICS: dict[str, Callable[[Measured, JointSet, Protocol], Score]] = {
    "mpjpe": lambda m, j, p: mpjpe(m.pred, m.truth, root=j.root(p.root), mask=_mask(m, j)),
    "pa_mpjpe": lambda m, j, p: pa_mpjpe(m.pred, m.truth, mask=_mask(m, j)),
    "accel": lambda m, j, p: acceleration_error(m.pred, m.truth, root=j.root(p.root), fps=m.fps, mask=_mask(m, j)),
    "pck150": lambda m, j, p: pck(m.pred, m.truth, root=j.root(p.root), threshold_mm=150, mask=_mask(m, j, p.correct)),
    "auc": lambda m, j, p: auc(
        m.pred, m.truth, root=j.root(p.root), thresholds_mm=range(0, 151, 5), mask=_mask(m, j, p.correct)
    ),
}
"""auc: thresholds up to 150 mm, as MPI-INF-3DHP has them."""


def _mask(person: Measured, joints: JointSet, some: str | None = None) -> np.ndarray:
    """Return which points of which frames count: all joints of the set, or those of them that another set has."""
    counted = joints.counted if some is None else np.isin(joints.points, joint_set(some).names)
    return counted & person.valid[:, None]


def _world(person: Measured, joints: JointSet, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return fitted and true points in the world."""
    assert person.camera_from_world is not None
    pred, truth = (in_world(x[:, list(rows)], person.camera_from_world) for x in (person.pred, person.truth))
    return pred, truth


def _world_score(name: str, person: Measured, joints: JointSet) -> Score:
    """Compute one measure in the world; see `evaluate/world_metrics.py`."""
    if name == "rte":
        pred, truth = _world(person, joints, (joints.points.index("pelvis"),))
        return rte(pred[:, 0], truth[:, 0], mask=person.valid)
    if name == "foot_sliding":
        pred, truth = _world(person, joints, [joints.points.index(foot) for foot in _FEET])
        return foot_sliding(pred, truth, fps=person.fps, mask=person.valid)
    pred, truth = _world(person, joints, range(len(joints.names)))
    if name == "jitter":
        return jitter(pred, root=None, fps=person.fps, mask=np.broadcast_to(person.valid[:, None], pred.shape[:2]))
    return (wa_mpjpe if name == "wa_mpjpe" else w_mpjpe)(pred, truth, mask=person.valid)


_WORLD = ("wa_mpjpe", "w_mpjpe", "rte", "jitter", "foot_sliding")


def _world_line(name: str, joints: JointSet, people: Sequence[Measured]) -> Line | None:
    """Compute one measure in the world over the people of clips with cameras."""
    return _scored([_world_score(name, one, joints) for one in people if one.camera_from_world is not None and one.fps])


def _scored(scores: Sequence[Score]) -> Line | None:
    """Gather the items of scores."""
    if not scores:
        return None
    values = [np.ravel(score.per_item)[~np.ravel(score.untold)] for score in scores]
    return _gathered(scores[0].metric, scores[0].unit, values, sum(int(score.failed.sum()) for score in scores))


def _gathered(metric: str, unit: str, values: Sequence[np.ndarray], failed: int) -> Line:
    every = np.concatenate(values)
    every = every[np.isfinite(every)]
    mean, median = (float(np.mean(every)), float(np.median(every))) if len(every) else (np.nan, np.nan)
    return Line(metric, unit, mean, median, len(every), failed)


def _detection_lines(lines: Sequence[Line], people: Sequence[Measured]) -> list[Line]:
    """Compute F1 of the detection, and MPJPE divided by it (NMJE)."""
    found = [np.all(np.isfinite(one.pred), axis=(1, 2)) for one in people]
    hit, n = (
        sum(int((own & one.valid).sum()) for own, one in zip(found, people, strict=True)),
        sum(int(one.valid.sum()) for one in people),
    )
    strangers = sum(one.strangers for one in people)
    precision, recall = hit / max(hit + strangers, 1), hit / max(n, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    error = next((line.mean for line in lines if line.metric == "mpjpe"), np.nan)
    nmje = error / f1 if f1 > 0 else np.nan
    return [Line("f1", "", f1, f1, hit, n - hit), Line("nmje", "mm", nmje, nmje, hit, n - hit)]
