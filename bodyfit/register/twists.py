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
from torch import Tensor

from bodyfit.fit.scan.descent import LEVELS, Part, ScanFitter
from bodyfit.geometry.cloud import PointCloud, thinned
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.register.arms import HAND_REACH_M, SIDES, all_but, arm_vertices, hand_misfit, points_about_hands

__all__ = ["TURNS_DEG", "turned", "with_best_twists"]

TURNS_DEG = ((0, 0, 0), (90, 0, 0), (180, 0, 0), (270, 0, 0), (0, 70, 0), (0, -70, 0), (0, 0, 70), (0, 0, -70))
"""Degrees by which hands are turned about the forearm, and by which wrists are bent about two axes across it."""
_LEVEL = replace(
    LEVELS[1], points=1500, rounds=5, reach_m=0.12, sigma_cm=4.0, along=0.1, data=600.0, pose=1.0, capsules=0.0
)


def with_best_twists(
    fitter: ScanFitter, x: Float[Tensor, "D"], cloud: PointCloud, *, slack: float = 1.0
) -> Float[Tensor, "D"]:
    """Return the variables with each hand turned about its forearm as its points are explained best."""
    layout, skeleton = fitter.layout, fitter.model.skeleton
    joints, near = points_about_hands(fitter, x, cloud)
    about = cloud.select(near[0] | near[1])
    if len(about) < 100:
        return x
    about = about.select(thinned(about.points, _LEVEL.points))
    angles = torch.deg2rad(torch.tensor(TURNS_DEG)).to(x)
    trials = torch.stack([turned(fitter, x, *angle) for angle in angles])
    free = [skeleton.index(f"{side}_{joint}") for side in SIDES for joint in ("shoulder", "elbow", "wrist")]
    part = Part(arm_vertices(fitter.model, _LEVEL.points), all_but(fitter, free))
    trials, _ = fitter.descend(trials, about, [_LEVEL], slack=slack, part=part)
    rotvecs = layout.rotvecs(trials)
    best = rotvecs[0].clone()
    for side, name in enumerate(SIDES):
        points = about.points[np.linalg.norm(about.points - joints[side], axis=1) < HAND_REACH_M]
        if len(points) < 50:
            continue
        errors = [hand_misfit(fitter, row, _LEVEL, points, name) for row in trials]
        rows = [skeleton.index(f"{name}_{joint}") for joint in ("shoulder", "elbow", "wrist")]
        best[rows] = rotvecs[int(np.argmin(errors)), rows]
    return layout.put_rotvecs(x[None], best[None])[0]


def turned(fitter: ScanFitter, x: Float[Tensor, "D"], twist: Tensor, *bends: Tensor) -> Float[Tensor, "D"]:
    """Turn both hands about their forearms, of which elbow and wrist take half each, and bend their wrists."""
    model, rotvecs = fitter.model, fitter.layout.rotvecs(x)
    for side in SIDES:
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
