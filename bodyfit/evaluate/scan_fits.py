"""Registrations to the scans of CAPE and 4D-Dress, compared with the bodies under the clothes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bodyfit.body.model import BodyModel
from bodyfit.errors import AssetError, OptionError, ScanError
from bodyfit.evaluate.joint_sets import JointSet, joint_set
from bodyfit.evaluate.scan_sets import SCAN_SETS, ScannedPerson
from bodyfit.fit.result import FitStatus
from bodyfit.register.registration import Registration
from bodyfit.register.run import register
from bodyfit.skeleton import SMPL

__all__ = ["ScanScores", "evaluate_scans"]


@dataclass(frozen=True)
class ScanScores:
    """How far bodies that were registered to scans are from the truth, without any alignment."""

    scans: int
    """Scans that were tried."""
    failed: int
    """Scans in which nobody was found; left out of the means."""
    unreadable: int
    """Scans whose files, or whose body's, are missing or damaged; left out of the means."""
    poor: int
    """Bodies that the registration itself calls poor; they are in the means."""
    joints: str
    """Set of the joints that are compared: smpl24, or smpl22 for a model that has not SMPL's hands."""
    v2v_mm: float
    """Mean over scans of the mean distance of the same vertices; NaN for a model of another mesh than SMPL's."""
    v2v_median_mm: float
    """Median over scans."""
    mpjpe_mm: float
    """Mean over scans of the mean distance of the joints."""
    mpjpe_median_mm: float
    """Median over scans."""


def evaluate_scans(
    dataset: str,
    folder: str | Path,
    model: BodyModel,
    *,
    truth: str | Path,
    every: int = 1,
    tell: Callable[[str], None] = lambda _line: None,
) -> ScanScores:
    """Register clothed bodies to every n-th scan of "cape" or "4d-dress" and score them against the bodies under.

    truth: SMPL of both genders, as for `load_model`. model: what is registered; the people's genders are not used for
    it. tell: takes a line for each scan that is left out. Raises `AssetError` where there is no data set, and
    `OptionError`.
    """
    if every < 1:
        raise OptionError(f"every must be at least 1, got {every}")
    data = SCAN_SETS[dataset](folder, truth)
    frames = data.frames[::every]
    joints = joint_set("smpl24" if set(SMPL.names) <= set(model.skeleton.names) else "smpl22")
    joints.select(np.zeros((model.num_joints, 3)), model.skeleton.names)  # a body without these is told before work
    rows, counts = [], {"failed": 0, "unreadable": 0, "poor": 0}
    for path in frames:
        try:
            person = data.read(path)
        except (AssetError, ScanError) as error:
            counts["unreadable"] += 1
            tell(str(error))
            continue
        scan = person.scan
        result = register(
            scan.points,
            model=model,
            normals=scan.normals,
            faces=scan.faces,
            colors=scan.colors,
            unit=person.unit,
            clothed=True,
            surface=False,
        )
        if result.vertices is None or result.joints is None:
            counts["failed"] += 1
            tell(f"{path}: {result.reason}")
            continue
        counts["poor"] += result.status is FitStatus.POOR
        rows.append(_errors_mm(model, result, person, joints))
    each = np.array(rows).reshape(-1, 2)
    mean, median = (each.mean(0), np.median(each, 0)) if rows else (np.full(2, np.nan), np.full(2, np.nan))
    return ScanScores(
        scans=len(frames),
        **counts,
        joints=joints.name,
        v2v_mm=float(mean[0]),
        v2v_median_mm=float(median[0]),
        mpjpe_mm=float(mean[1]),
        mpjpe_median_mm=float(median[1]),
    )


def _errors_mm(model: BodyModel, result: Registration, person: ScannedPerson, joints: JointSet) -> tuple[float, float]:
    """Compute the mean distances of vertices, NaN for another mesh, and of joints, mm."""
    assert result.vertices is not None
    assert result.joints is not None
    vertices, found = result.vertices.double().numpy(), result.joints.double().numpy()
    same = vertices.shape == person.vertices.shape and np.array_equal(model.faces.numpy(), person.faces)
    v2v = float(np.linalg.norm(vertices - person.vertices, axis=1).mean()) if same else math.nan
    pred = joints.select(found, model.skeleton.names)
    off = np.linalg.norm(pred - joints.select(person.joints, SMPL.names), axis=1).mean()
    return 1000 * v2v, 1000 * float(off)
