"""Hands turned about their forearms: a forearm is round, so that its surface does not tell how far it is twisted.

A descent finds the nearest twist, and a detector's keypoints of hands are few. So each hand is tried turned by a
quarter, a half and three quarters of a turn, and bent four ways, with shoulder, elbow and wrist free, and what explains
the points about it best stays. Left and right are tried at once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from bodyfit.fit.objective import StageObjective
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.register.cloud import PointCloud, thinned
from bodyfit.register.descent import LEVELS, Part, ScanFitter
from bodyfit.register.objective import posed

__all__ = ["with_best_twists"]

_SIDES = ("left", "right")
_TURNS_DEG = ((0, 0, 0), (90, 0, 0), (180, 0, 0), (270, 0, 0), (0, 70, 0), (0, -70, 0), (0, 0, 70), (0, 0, -70))
"""Degrees by which hands are turned about the forearm, and by which wrists are bent about two axes across it."""
_REACH_M = 0.35
"""Points about a wrist within this distance are of its hand, or of what it touches."""
_MOST_M = 0.03
"""Distances beyond this count as this."""
_LEVEL = replace(
    LEVELS[1], points=1500, rounds=5, reach_m=0.12, sigma_cm=4.0, along=0.1, data=600.0, pose=1.0, capsules=0.0
)


def with_best_twists(
    fitter: ScanFitter, x: Float[Tensor, "D"], cloud: PointCloud, *, slack: float = 1.0
) -> Float[Tensor, "D"]:
    """Return the variables with each hand turned about its forearm as its points are explained best."""
    model, layout = fitter.model, fitter.layout
    skeleton = model.skeleton
    wrists = [skeleton.index(f"{side}_wrist") for side in _SIDES]
    joints = model.joints(layout.params(x[None]))[0, wrists].double().numpy()
    near = [np.linalg.norm(cloud.points - wrist, axis=1) < _REACH_M for wrist in joints]
    about = cloud.select(near[0] | near[1])
    if len(about) < 100:
        return x
    about = about.select(thinned(about.points, _LEVEL.points))
    angles = torch.deg2rad(torch.tensor(_TURNS_DEG)).to(x)
    trials = torch.stack([_turned(fitter, x, *angle) for angle in angles])
    part = Part(_arm_vertices(fitter), _constant(fitter))
    trials, _ = fitter.descend(trials, about, [_LEVEL], slack=slack, part=part)
    rotvecs = layout.rotvecs(trials)
    best = rotvecs[0].clone()
    for side, name in enumerate(_SIDES):
        points = about.points[np.linalg.norm(about.points - joints[side], axis=1) < _REACH_M]
        if len(points) < 50:
            continue
        errors = [_misfit(fitter, row, points, name) for row in trials]
        rows = [skeleton.index(f"{name}_{joint}") for joint in ("shoulder", "elbow", "wrist")]
        best[rows] = rotvecs[int(np.argmin(errors)), rows]
    return layout.put_rotvecs(x[None], best[None])[0]


def _turned(fitter: ScanFitter, x: Float[Tensor, "D"], twist: Tensor, *bends: Tensor) -> Float[Tensor, "D"]:
    """Turn both hands about their forearms, of which elbow and wrist take half each, and bend their wrists."""
    model, rotvecs = fitter.model, fitter.layout.rotvecs(x)
    for side in _SIDES:
        elbow, wrist = (model.skeleton.index(f"{side}_{joint}") for joint in ("elbow", "wrist"))
        axis = torch.nn.functional.normalize(model.joints_template[wrist] - model.joints_template[elbow], dim=0)
        half = so3_exp(0.5 * twist * axis)
        rotvecs = rotvecs.clone()
        rotvecs[elbow] = so3_log(so3_exp(rotvecs[elbow]) @ half)
        across = torch.linalg.cross(axis, axis.roll(1))
        across = across / across.norm()
        bent = so3_exp(bends[0] * across + bends[1] * torch.linalg.cross(axis, across))
        rotvecs[wrist] = so3_log(half @ bent @ so3_exp(rotvecs[wrist]))
    return fitter.layout.put_rotvecs(x[None], rotvecs[None])[0]


def _arm_vertices(fitter: ScanFitter) -> np.ndarray:
    """List vertices of forearms and hands."""
    model = fitter.model
    names = model.skeleton.names
    arms = [i for i, name in enumerate(names) if name.partition("_")[2] in ("elbow", "wrist", "hand")]
    arms += list(range(model.body_joints, model.num_joints))
    heavy = model.weights[:, arms].sum(1) > 0.5
    lower = model.weights[:, [names.index(f"{side}_elbow") for side in _SIDES]].sum(1) < 0.9
    vertices = (heavy & lower).nonzero()[:, 0].numpy()
    return vertices[thinned(model.v_template[vertices].double().numpy(), _LEVEL.points)]


def _constant(fitter: ScanFitter) -> tuple[slice, ...]:
    """List the columns of all variables but the arms' rotations."""
    layout, names = fitter.layout, fitter.model.skeleton.names
    free = np.zeros(layout.size, bool)
    for joint in range(len(layout.joint_columns)):
        if names[joint].partition("_")[2] in ("shoulder", "elbow", "wrist"):
            free[layout.columns_of_joint(joint)] = True
    return tuple(slice(int(c), int(c) + 1) for c in np.flatnonzero(~free))


def _misfit(fitter: ScanFitter, x: Float[Tensor, "D"], points: Float[np.ndarray, "N 3"], side: str) -> float:
    """Compute the mean of the capped distances from points to the skin and from the hand's vertices to the points."""
    model = fitter.model
    stage = StageObjective(fitter.terms, _LEVEL.stage(), fitter.observations(1))
    vertices = posed(fitter.surface, stage, x).vertices[0].double().numpy()
    fitter.mesh.update(vertices)
    to_skin = fitter.mesh.nearest(points).distance
    own = [i for i, name in enumerate(model.skeleton.names) if name.startswith(side) and i >= model.body_joints]
    own += [i for i, n in enumerate(model.skeleton.names) if n in (f"{side}_wrist", f"{side}_hand")]
    hand = (model.weights[:, own].sum(1) > 0.5).nonzero()[:, 0].numpy()
    to_scan, _ = KDTree(points).query(vertices[hand])
    return float(np.minimum(to_skin, _MOST_M).mean() + np.minimum(to_scan, _MOST_M).mean())
