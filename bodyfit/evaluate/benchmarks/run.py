"""Run a benchmark on a data set's folder: detect, fit, measure, shot by shot, and go on where a run was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.model import BodyModel
from bodyfit.detect import DEFAULT, load_detector
from bodyfit.errors import AssetError, ImageError, OptionError
from bodyfit.evaluate import metrics
from bodyfit.evaluate.benchmarks.fits import fitted_frames, fitted_motion
from bodyfit.evaluate.benchmarks.folders import Shot, shots
from bodyfit.evaluate.benchmarks.people import detected, keypoints_of_file
from bodyfit.evaluate.benchmarks.protocols import PROTOCOLS, Protocol
from bodyfit.evaluate.benchmarks.table import Measured, Table, table_of
from bodyfit.evaluate.joint_sets import JointSet, joint_set
from bodyfit.evaluate.sequence import Sequence
from bodyfit.evaluate.subjects import Wanted, points_of, subject_of
from bodyfit.runtime.atomic import write_atomically

__all__ = ["BenchmarkConfig", "run_benchmark"]

_FORMAT = 2
"""Version of what is stored of a shot."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """Settings of a benchmark's run; those that change its numbers name the files in which shots are stored."""

    detector: str | None = DEFAULT
    """Name of the detector; None takes the keypoints in the annotations (3DPW has OpenPose's)."""
    motions: bool = False
    """Fit clips as motions (`fit_sequence`) and not frame by frame."""
    every: int = 1
    """Fit each n-th of the frames that count; 1 for motions."""
    regressor: Float[np.ndarray, "17 V"] | None = None
    """Regressor of H36M's points, for protocols that count them of SMPL's vertices."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise OptionError(f"every must be at least 1, got {self.every}")
        if self.motions and self.every > 1:
            raise OptionError("a motion is fitted to all of its frames; leave every at 1")


def run_benchmark(
    dataset: str,
    folder: str | Path,
    model: BodyModel,
    *,
    truth: Callable[[str], BodyModel] | None = None,
    config: BenchmarkConfig | None = None,
    out: str | Path | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Table:
    """Fit `model` to the people of a data set and score them by its protocol (`PROTOCOLS`).

    truth: the body of a gender that the annotations are of, for data sets that hold parameters alone (EMDB, RICH), for
    PVE and regressed joints. out: a folder for the points of each person; those that are there already from the same
    settings are not fitted again. tell: takes a line for each shot that is done or left out: one whose pictures or
    annotations are missing or damaged costs itself alone. Raises `AssetError` where the folder is not the data set, and
    `OptionError`.
    """
    config = config or BenchmarkConfig()
    listed = shots(dataset, folder, models=truth)
    run = _Run(PROTOCOLS[dataset], model, truth, config)
    store = None if out is None else Path(out) / dataset
    rows: list[Measured] = []
    left_out = 0
    for number, shot in enumerate(listed, 1):
        try:
            own = _stored(store, shot, run.key)
            if own is None:
                own = run(shot)
                _store(store, shot, run.key, own)
        except (AssetError, ImageError) as error:
            left_out += 1
            tell(f"{shot.name}: left out: {error}")
            continue
        rows += own
        tell(f"{shot.name}: {number} of {len(listed)}, {sum(int(one.valid.sum()) for one in own)} bodies")
    return table_of(run.protocol, run.joints, rows, left_out=left_out, facts=run.facts)


class _Run:
    """What stays the same from shot to shot."""

    def __init__(
        self,
        protocol: Protocol,
        model: BodyModel,
        truth: Callable[[str], BodyModel] | None,
        config: BenchmarkConfig,
    ) -> None:
        self.protocol, self.model, self.models, self.config = protocol, model, truth, config
        regressed = protocol.regressed if config.regressor is not None else None
        self.joints: JointSet = joint_set(regressed or protocol.joints)
        self.regressor = config.regressor if regressed else None
        self._detector: Any = None

    @property
    def facts(self) -> dict[str, str]:
        """Return what the numbers depend on, in words."""
        config = self.config
        source = f"the detector {config.detector}" if config.detector else "the annotations"
        return {
            "model": f"{self.model.name} ({self.model.gender})",
            "keypoints": source,
            "fits": "motions" if config.motions else f"single frames, each {config.every}.",
        }

    @property
    def key(self) -> str:
        """Return a short name of all settings that change the numbers."""
        regressor = self.config.regressor
        digest = "" if regressor is None else hashlib.sha256(np.ascontiguousarray(regressor).tobytes()).hexdigest()
        text = json.dumps([_FORMAT, self.facts, self.joints.name, self.protocol.root, digest], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __call__(self, shot: Shot) -> list[Measured]:
        """Detect, fit and measure the people of a shot. Raises `AssetError`, `ImageError` and `OptionError`."""
        config, people = self.config, shot.read()
        rows = [np.arange(len(p)) if config.motions else np.flatnonzero(p.valid)[:: config.every] for p in people]
        if config.detector is None:
            found = [keypoints_of_file(person, own) for person, own in zip(people, rows, strict=True)]
        else:
            self._detector = self._detector or load_detector(config.detector)
            found = detected(shot, people, rows, self._detector, self.protocol.overlap)
        fitted = fitted_motion if config.motions else fitted_frames
        measured = []
        for person, own in zip(people, found, strict=True):
            params = fitted(person, own, self.model)
            measured.append(self._measured(person, own.rows, params, own.strangers))
        return measured

    def _measured(self, person: Sequence, rows: np.ndarray, params: Any, strangers: int) -> Measured:
        """Gather the points of a person and the truth, and the errors of its vertices."""
        same_mesh = self._same_mesh(person)
        wanted = Wanted(self.joints, vertices=same_mesh, regressor=self.regressor)
        points, vertices, how = points_of(self.model, params, wanted)
        subject = subject_of(person, wanted, models=self.models, source=person.name)
        errors_mm, root = np.full(len(rows), np.nan), self.joints.root(self.protocol.root)
        if vertices is not None and subject.vertices is not None and root is not None:
            roots = [x[:, list(root)].mean(1, keepdims=True) for x in (points, subject.points[rows])]
            errors_mm = metrics.pve(vertices, subject.vertices[rows], roots=(roots[0], roots[1])).per_item
        fps = person.fps if self.config.every == 1 else None
        if fps:  # frames that do not count stay in their places, so that no difference over time is taken across them
            every = np.arange(len(person))
            points, errors_mm = (_at(rows, values, len(every)) for values in (points, errors_mm))
            rows = every
        cameras = person.camera_from_world
        return Measured(
            name=person.name,
            person=person.person,
            pred=points,
            truth=subject.points[rows],
            valid=subject.valid[rows],
            pve_mm=errors_mm,
            fps=fps or 0.0,
            camera_from_world=None if cameras is None else cameras[rows],
            strangers=strangers,
            source=f"{how}; {subject.how}",
        )

    def _same_mesh(self, person: Sequence) -> bool:
        """Tell whether the vertices of the fitted body are those of the annotations' body."""
        if "pve" not in self.protocol.metrics or self.models is None or person.params is None:
            return False
        return torch.equal(self.models(person.gender).faces.cpu(), self.model.faces.cpu())


def _at(rows: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Put values in these rows of so many, NaN in the others."""
    placed = np.full((count, *values.shape[1:]), np.nan)
    placed[rows] = values
    return placed


def _path(store: Path, shot: Shot, key: str) -> Path:
    return store / f"{shot.name}.{key}.npz"


def _stored(store: Path | None, shot: Shot, key: str) -> list[Measured] | None:
    """Load the people of a shot that was done before with the same settings; None where it was not."""
    if store is None or not _path(store, shot, key).is_file():
        return None
    with np.load(_path(store, shot, key), allow_pickle=False) as arrays:
        return [Measured.from_arrays(arrays, f"{i}_") for i in range(int(arrays["people"]))]


def _store(store: Path | None, shot: Shot, key: str, people: list[Measured]) -> None:
    """Write the people of a shot. Raises `OutputError`."""
    if store is None:
        return
    arrays: dict[str, Any] = {
        f"{i}_{name}": value for i, one in enumerate(people) for name, value in one.arrays().items()
    }
    with write_atomically(_path(store, shot, key)) as temporary:
        np.savez_compressed(temporary, people=np.array(len(people)), **arrays)
