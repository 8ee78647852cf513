"""Arms and hands of a body that is fitted to a scan: their vertices, their variables, and how well points agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.scan.descent import Level, ScanFitter
from bodyfit.fit.scan.objective import posed
from bodyfit.geometry.cloud import PointCloud, thinned

__all__ = [
    "HAND_REACH_M",
    "SIDES",
    "Side",
    "all_but",
    "arm_vertices",
    "hand_misfit",
    "hand_vertices",
    "points_about_hands",
]

Side: TypeAlias = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
HAND_REACH_M = 0.35
"""Points about a wrist within this distance are of its hand, or of what it touches."""
_MOST_M = 0.03
"""Distances beyond this count as this."""


def hand_vertices(model: BodyModel, side: Side) -> Bool[np.ndarray, "V"]:
    """Tell which vertices are of a hand."""
    names = model.skeleton.names
    own = [i for i, name in enumerate(names) if name in (f"{side}_wrist", f"{side}_hand")]
    own += [i for i, name in enumerate(names) if i >= model.body_joints and name.startswith(f"{side}_")]
    own = [i for i in own if "eye" not in names[i]]
    return (model.weights[:, own].sum(1) > 0.5).cpu().numpy()


def arm_vertices(model: BodyModel, count: int) -> Int[np.ndarray, "N"]:
    """List about `count` vertices of hands and the ends of forearms, spread evenly."""
    names = model.skeleton.names
    elbows = [names.index(f"{side}_elbow") for side in SIDES]
    forearm = model.weights[:, elbows].sum(1).cpu().numpy()
    hands = hand_vertices(model, "left") | hand_vertices(model, "right")
    vertices = np.flatnonzero(hands | ((forearm > 0.5) & (forearm < 0.9)))
    return vertices[thinned(model.v_template[vertices].double().cpu().numpy(), count)]


def all_but(fitter: ScanFitter, joints: Sequence[int]) -> tuple[slice, ...]:
    """List the columns of all variables but the rotations of some joints."""
    layout = fitter.layout
    constant = np.ones(layout.size + 2, bool)
    constant[[0, -1]] = False
    for joint in joints:
        columns = layout.columns_of_joint(joint)
        constant[columns.start + 1 : columns.stop + 1] = False
    edges = np.flatnonzero(np.diff(constant.astype(int)))
    return tuple(slice(int(a), int(b)) for a, b in edges.reshape(-1, 2))


def points_about_hands(
    fitter: ScanFitter, x: Float[Tensor, "D"], cloud: PointCloud
) -> tuple[Float[np.ndarray, "2 3"], Bool[np.ndarray, "2 N"]]:
    """Compute the left and the right wrist, and tell which points of a cloud are near each."""
    model = fitter.model
    wrists = [model.skeleton.index(f"{side}_wrist") for side in SIDES]
    params = model.params(**fitter.layout.params(x[None]))
    joints = model.joints(params)[0, wrists].double().numpy()
    return joints, np.stack([np.linalg.norm(cloud.points - wrist, axis=1) < HAND_REACH_M for wrist in joints])


def hand_misfit(
    fitter: ScanFitter, x: Float[Tensor, "D"], level: Level, points: Float[np.ndarray, "N 3"], side: Side
) -> float:
    """Compute the mean of the capped distances from points to the skin and from the hand's vertices to the points."""
    stage = StageObjective(fitter.terms, level.stage(), fitter.observations(1))
    vertices = posed(fitter.surface, stage, x).vertices[0].double().numpy()
    fitter.mesh.update(vertices)
    to_skin = fitter.mesh.nearest(points).distance
    to_scan, _ = KDTree(points).query(vertices[hand_vertices(fitter.model, side)])
    return float(np.minimum(to_skin, _MOST_M).mean() + np.minimum(to_scan, _MOST_M).mean())
