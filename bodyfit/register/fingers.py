"""Fingers of a body that was fitted to a scan with its hands at rest, where the scan shows hands.

A descent does not find its way from a hand at rest to a fist: fingers pass each other's points. So each mean pose of
the hand prior is tried, with elbow, wrist and fingers free, and what explains the points about a hand best goes on.
Left and right are tried at once. A hand of which points lie off all the same has its forearm turned and its wrist bent
as `twists.py` does, and is tried anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.body.model import BodyModel
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.scan.descent import LEVELS, Level, Part, ScanFitter
from bodyfit.fit.scan.objective import posed
from bodyfit.geometry.cloud import PointCloud, thinned
from bodyfit.register.arms import (
    HAND_REACH_M,
    SIDES,
    Side,
    all_but,
    arm_vertices,
    hand_misfit,
    hand_vertices,
    points_about_hands,
)
from bodyfit.register.quality import doubtful_hands
from bodyfit.register.twists import TURNS_DEG, turned

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
    visible = _visible(fitter, x, cloud)
    if not visible:
        return x
    hands = _Hands(fitter, x, cloud, visible, slack)
    best = hands.refined(hands.best(x, _poses(fitter, x, visible)))
    off = doubtful_hands(cloud, _vertices(fitter, best), fitter.model, clothed=slack != 1)
    doubtful: tuple[Side, ...] = tuple(side for side in visible if side in off)
    if doubtful:
        hands = _Hands(fitter, x, cloud, doubtful, slack)
        turns = torch.deg2rad(torch.tensor(TURNS_DEG[1:])).to(x)
        at_rest = _poses(fitter, best, doubtful)[:2]
        trials = torch.stack([turned(fitter, row, *turn) for turn in turns for row in at_rest])
        other = hands.best(best, trials)
        other = hands.refined(hands.best(other, _poses(fitter, other, doubtful)))
        best = hands.cheapest(best, torch.stack([best, other]))
    return best


@dataclass(frozen=True)
class _Hands:
    """Hands of a body that are fitted, and the points of a scan about them."""

    fitter: ScanFitter
    x: Float[Tensor, "D"]
    cloud: PointCloud
    sides: tuple[Side, ...]
    slack: float

    @cached_property
    def about(self) -> tuple[PointCloud, dict[Side, Float[np.ndarray, "N 3"]]]:
        """The points about all hands, and some of those about each."""
        joints, near = points_about_hands(self.fitter, self.x, self.cloud)
        about = self.cloud.select(np.any([near[SIDES.index(side)] for side in self.sides], axis=0))
        some = about.points[thinned(about.points, _COARSE.points)]
        of_hand: dict[Side, Float[np.ndarray, "N 3"]] = {}
        for side in self.sides:
            of_hand[side] = some[np.linalg.norm(some - joints[SIDES.index(side)], axis=1) < HAND_REACH_M]
        return about, of_hand

    def best(self, x: Float[Tensor, "D"], starts: Float[Tensor, "B D"]) -> Float[Tensor, "D"]:
        """Fit from each start, and return the variables with each hand of the start that explains its points best."""
        return self.cheapest(x, self._descended(starts, _COARSE))

    def cheapest(self, x: Float[Tensor, "D"], trials: Float[Tensor, "B D"]) -> Float[Tensor, "D"]:
        """Return the variables with each hand of the trial that explains its points best."""
        x = x.clone()
        for side, points in self.about[1].items():
            errors = [hand_misfit(self.fitter, row, _COARSE, points, side) for row in trials]
            free = [column for part in _free(self.fitter, side) for column in range(part.start, part.stop)]
            x[free] = trials[int(np.argmin(errors)), free]
        return x

    def refined(self, x: Float[Tensor, "D"]) -> Float[Tensor, "D"]:
        """Fit on, finely."""
        for level in _FINE:
            x = self._descended(x[None], level)[0]
        return x

    def _descended(self, x: Float[Tensor, "B D"], level: Level) -> Float[Tensor, "B D"]:
        fitter, layout, skeleton = self.fitter, self.fitter.layout, self.fitter.model.skeleton
        free = [skeleton.index(f"{side}_{joint}") for side in self.sides for joint in ("elbow", "wrist")]
        free += [joint for side in self.sides for joint in layout.block(f"{side}_hand_pose").joints]
        part = Part(arm_vertices(fitter.model, level.points), all_but(fitter, free))
        return fitter.descend(x, self.about[0], [level], slack=self.slack, part=part)[0]


def _vertices(fitter: ScanFitter, x: Float[Tensor, "D"]) -> Float[np.ndarray, "V 3"]:
    stage = StageObjective(fitter.terms, _COARSE.stage(), fitter.observations(1))
    return posed(fitter.surface, stage, x).vertices[0].double().numpy()


def _visible(fitter: ScanFitter, x: Float[Tensor, "D"], cloud: PointCloud) -> tuple[Side, ...]:
    """List the hands that a cloud has points on."""
    vertices, tree = _vertices(fitter, x), KDTree(cloud.points)

    def share(side: Side) -> float:
        distance, _ = tree.query(vertices[hand_vertices(fitter.model, side)], distance_upper_bound=_NEAR_M)
        return float(np.isfinite(distance).mean())

    return tuple(side for side in SIDES if share(side) > _LEAST_SCANNED)


def _poses(fitter: ScanFitter, x: Float[Tensor, "D"], sides: tuple[Side, ...]) -> Float[Tensor, "B D"]:
    """Make starts: hands as they are, and in each mean pose of the prior."""
    priors, layout = load_hand_prior(), fitter.layout
    starts = [x]
    for row in range(len(priors[0].means)):
        values = {}
        for side in sides:
            which = SIDES.index(side)
            mean = torch.as_tensor(priors[which].means[row]).to(x) - fitter.model.hand_means[which].to(x)
            values[f"{side}_hand_pose"] = mean
        starts.append(layout.put(x[None], **values)[0])
    return torch.stack(starts)


def _free(fitter: ScanFitter, side: Side) -> list[slice]:
    """List the columns of an elbow, a wrist and the fingers."""
    layout, skeleton = fitter.layout, fitter.model.skeleton
    arm = [layout.columns_of_joint(skeleton.index(f"{side}_{joint}")) for joint in ("elbow", "wrist")]
    return [*arm, layout[f"{side}_hand_pose"]]
