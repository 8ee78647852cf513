"""Fingers of a body that was fitted to a scan with its hands at rest, where the scan shows hands.

A descent does not find its way from a hand at rest to a fist: fingers pass each other's points. So each mean pose of
the hand prior is tried, with elbow, wrist and fingers free, and what explains the points about a hand best goes on.
Left and right are tried at once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.body.model import BodyModel
from bodyfit.fit.objective import StageObjective
from bodyfit.register.arms import (
    HAND_REACH_M,
    SIDES,
    all_but,
    arm_vertices,
    hand_misfit,
    hand_vertices,
    points_about_hands,
)
from bodyfit.register.cloud import PointCloud, thinned
from bodyfit.register.descent import LEVELS, Level, Part, ScanFitter
from bodyfit.register.objective import posed

__all__ = ["has_fingers", "with_fingers"]

_LEAST_SCANNED = 0.25
"""Hands of which a smaller share of the skin has points within `_NEAR_M` stay at rest."""
_NEAR_M = 0.02
_COARSE = replace(
    LEVELS[1], points=1500, rounds=4, reach_m=0.08, sigma_cm=3.0, along=0.1, data=600.0, capsules=0.0, hands=1.0
)
_FINE = (
    replace(LEVELS[3], points=3000, rounds=5, reach_m=0.03, sigma_cm=1.5, data=1500.0, hands=0.5),
    replace(LEVELS[3], points=6000, rounds=4, reach_m=0.015, least_reach_m=0.01, sigma_cm=0.7, data=3000.0, hands=0.3),
)


def has_fingers(model: BodyModel) -> bool:
    """Tell whether the fingers of a model are angles that can be fitted."""
    return "left_hand_pose" in dict(model.kind.poses) and model.num_pca_comps is None


def with_fingers(
    fitter: ScanFitter, x: Float[Tensor, "D"], cloud: PointCloud, *, slack: float = 1.0
) -> Float[Tensor, "D"]:
    """Return the variables of a fitter with fingers, with the hands that a cloud shows fitted to it."""
    shown = _shown(fitter, x, cloud)
    if not shown:
        return x
    joints, near = points_about_hands(fitter, x, cloud)
    own = np.any([near[SIDES.index(side)] for side in shown], axis=0)
    about = cloud.select(own)
    trials = _starts(fitter, x, shown)
    trials = _descended(fitter, trials, about, _COARSE, shown, slack)
    best = x[None].clone()
    for side in shown:
        points = about.points[thinned(about.points, _COARSE.points)]
        points = points[np.linalg.norm(points - joints[SIDES.index(side)], axis=1) < HAND_REACH_M]
        errors = [hand_misfit(fitter, row, _COARSE, points, side) for row in trials]
        free = [column for part in _free(fitter, side) for column in range(part.start, part.stop)]
        best[0, free] = trials[int(np.argmin(errors)), free]
    for level in _FINE:
        best = _descended(fitter, best, about, level, shown, slack)
    return best[0]


def _shown(fitter: ScanFitter, x: Float[Tensor, "D"], cloud: PointCloud) -> tuple[str, ...]:
    """List the hands that a cloud has points on."""
    stage = StageObjective(fitter.terms, _COARSE.stage(), fitter.observations(1))
    vertices = posed(fitter.surface, stage, x).vertices[0].double().numpy()
    tree = KDTree(cloud.points)

    def share(side: str) -> float:
        distance, _ = tree.query(vertices[hand_vertices(fitter.model, side)], distance_upper_bound=_NEAR_M)
        return float(np.isfinite(distance).mean())

    return tuple(side for side in SIDES if share(side) > _LEAST_SCANNED)


def _starts(fitter: ScanFitter, x: Float[Tensor, "D"], shown: tuple[str, ...]) -> Float[Tensor, "B D"]:
    """Make starts: the hands as they are, and in each mean pose of the prior."""
    priors, layout = load_hand_prior(), fitter.layout
    starts = [x]
    for row in range(len(priors[0].means)):
        values = {}
        for side in shown:
            which = SIDES.index(side)
            mean = torch.as_tensor(priors[which].means[row]).to(x) - fitter.model.hand_means[which].to(x)
            values[f"{side}_hand_pose"] = mean
        starts.append(layout.put(x[None], **values)[0])
    return torch.stack(starts)


def _free(fitter: ScanFitter, side: str) -> list[slice]:
    """List the columns of an elbow, a wrist and the fingers."""
    layout, skeleton = fitter.layout, fitter.model.skeleton
    arm = [layout.columns_of_joint(skeleton.index(f"{side}_{joint}")) for joint in ("elbow", "wrist")]
    return [*arm, layout[f"{side}_hand_pose"]]


def _descended(
    fitter: ScanFitter,
    x: Float[Tensor, "B D"],
    about: PointCloud,
    level: Level,
    shown: tuple[str, ...],
    slack: float,
) -> Float[Tensor, "B D"]:
    """Fit the hands that are shown."""
    skeleton, layout = fitter.model.skeleton, fitter.layout
    free = [skeleton.index(f"{side}_{joint}") for side in shown for joint in ("elbow", "wrist")]
    free += [joint for side in shown for joint in layout.block(f"{side}_hand_pose").joints]
    part = Part(arm_vertices(fitter.model, level.points), all_but(fitter, free))
    return fitter.descend(x, about, [level], slack=slack, part=part)[0]
