"""The last stage of a fit with depth: the skin is paired with measured points and the objective minimised, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from bodyfit.fit.depth.limbs import Limb, limbs_of, visible_share
from bodyfit.fit.depth.maps import DepthEvidence, DepthView
from bodyfit.fit.initialise.descent import Solved
from bodyfit.fit.objective import BodyTerms, StageObjective
from bodyfit.fit.observations import Observations
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.scan.descent import LEVELS, Level, ScanFitter
from bodyfit.fit.scan.pairs import BodyPairs, ScanPairs
from bodyfit.geometry.cloud import PointCloud, estimated_normals, thinned
from bodyfit.geometry.mesh_tree import MeshTree
from bodyfit.solve import minimize

__all__ = ["CLIP_LEVELS", "DepthStage", "DepthVerdict", "with_verdicts"]

_POINTS = 12_000
_NEIGHBOURS = 48
_Person: TypeAlias = tuple[PointCloud, DepthView]
_GATE_M, _GATE_MASKED_M = 0.12, 0.3
"""Points farther than this from the body of the keypoints are not its own; with a mask the second."""
_LEAST_POINTS = 300
_FAR_M, _LEAST_EXPLAINED = 0.03, 0.85
"""Points are explained within this distance of the body; fits that explain less than this share of them are poor."""
_GAIN = 0.05
"""By how much larger this share must be for another fit to be better."""
CLIP_LEVELS = (replace(LEVELS[1], rounds=2, steps=3), replace(LEVELS[2], points=1500, rounds=3, steps=3))
"""Levels of clips, whose frames have few points each: many tell of one shape."""
_LEAST_VISIBLE = 0.05
"""Limbs of which a camera sees less, as a share of one side of them, are hidden."""
_HIDDEN_LEVELS = tuple(replace(level, pose=3.0) for level in LEVELS[1:3])
"""Where limbs are hidden, the prior of the pose must hold them against what pushes them out of free space."""
_FRONT_M = 0.03
"""Skin that is nearer to the camera than the measured surface behind it, by more than this, is where nothing is."""


@dataclass(frozen=True)
class DepthVerdict:
    """How a body agrees with a depth map."""

    points: int
    """Points of the map that are the person's."""
    explained: float = 0.0
    """Share of them that lie near the body."""
    hidden: tuple[Limb, ...] = ()
    """Limbs that none of them shows."""

    @property
    def is_doubtful(self) -> bool:
        """Whether another fit may be the right one."""
        return self.points >= _LEAST_POINTS and self.explained < _LEAST_EXPLAINED

    def beats(self, other: DepthVerdict | None) -> bool:
        """Whether the body explains clearly more than another."""
        return other is None or self.explained > other.explained + _GAIN

    @property
    def reason(self) -> str | None:
        """Why the fit is poor; None where it is not."""
        if self.points < _LEAST_POINTS:
            return f"only {self.points} points of the depth map are the person's"
        if self.explained < _LEAST_EXPLAINED:
            share = 100 * (1 - self.explained)
            return f"{share:.0f} % of the person's depth lies more than {100 * _FAR_M:.0f} cm from the body"
        if self.hidden:
            names = " and the ".join(limb.name for limb in self.hidden)
            return f"the depth shows nothing of the {names}, which {'is' if len(self.hidden) == 1 else 'are'} a guess"
        return None


def with_verdicts(result: FitResult, verdicts: Sequence[DepthVerdict | None]) -> FitResult:
    """Return a result whose bodies that do not agree with their depth are poor, and say so.

    Joints of hidden limbs are not among those observed.
    """
    status, reasons = list(result.status), list(result.reason)
    observed = None if result.observed_joints is None else result.observed_joints.clone()
    for i, verdict in enumerate(verdicts):
        if verdict is not None and verdict.reason is not None and status[i].ok:
            status[i], reasons[i] = FitStatus.POOR, verdict.reason
            if observed is not None:
                observed[i, [joint for limb in verdict.hidden for joint in limb.joints]] = False
    return replace(result, status=tuple(status), reason=tuple(reasons), observed_joints=observed)


class DepthStage:
    """The stage, for one table of variables."""

    def __init__(self, terms: BodyTerms, layout: str, rest_pose: Float[Tensor, "A"]) -> None:
        self.terms = terms
        self.limbs = limbs_of(terms.model, layout)
        self.rest_pose = rest_pose
        """Axis-angles of all joints but the root, at rest."""
        self.scans = ScanFitter(terms.model, terms=terms)
        self.faces = self.scans.faces

    def refine(
        self, solved: Solved, seen: Observations, depth: DepthEvidence
    ) -> tuple[Solved, Observations, list[DepthVerdict | None]]:
        """Minimise with depth from where the fit stands, level by level.

        Returns the fits, the observations with the last pairs, and how they agree with the maps. People without a map,
        or with too few points of their own, stay where they are; the cost and its trace are of the objective without
        depth, before this stage.
        """
        x = solved.x.clone()
        everybody = self.people(x, depth)
        verdicts = [None if one is None else DepthVerdict(len(one[0])) for one in everybody]
        there = [i for i, one in enumerate(everybody) if one is not None and len(one[0]) >= _LEAST_POINTS]
        if not there:
            return solved, seen, verdicts
        rows = torch.tensor(there, device=x.device)
        people = [one for one in everybody if one is not None and len(one[0]) >= _LEAST_POINTS]
        some = replace(seen.select(rows), contour=None)
        at = self._descended(x[rows], some, people, LEVELS[1:3])
        hidden = [self.hidden(row, cloud) for row, (cloud, _) in zip(at, people, strict=True)]
        again = [k for k, limbs in enumerate(hidden) if limbs]
        if again:
            some, start = self._without(some, at, hidden)
            index = torch.tensor(again, device=x.device)
            hard = [people[k] for k in again]
            at[index] = self._descended(start[index], some.select(index), hard, _HIDDEN_LEVELS)
        for k, i in enumerate(there):
            verdicts[i] = self.verdict(at[k], people[k][0], hidden[k])
        x[rows] = at
        # Where a limb is not measures nothing of where it is: the covariance is of the points alone.
        surface = self.pairs(at, people, LEVELS[2], free_space=False)
        pairs = BodyPairs((None,) * len(x)).replace_rows(rows, surface)
        seen = replace(seen, weight=seen.weight.index_copy(0, rows, some.weight), surface=pairs)
        return replace(solved, x=x), seen, verdicts

    def _descended(
        self, x: Float[Tensor, "B D"], seen: Observations, people: Sequence[_Person], levels: Sequence[Level]
    ) -> Float[Tensor, "B D"]:
        """Minimise level by level."""
        for level in levels:
            objective = StageObjective(self.terms, level.stage(keypoints=True), seen)
            for _ in range(level.rounds):
                surface = self.pairs(x, people, level)
                paired = replace(objective, seen=replace(seen, surface=surface))
                new, _ = minimize(paired, x, objective.stage.lm, eliminate=self.terms.layout.eliminated)
                still = bool(((new - x).abs().amax(1) < 1e-3).all())
                x = new
                if still:
                    break
        return x

    def hidden(self, x: Float[Tensor, "D"], cloud: PointCloud) -> tuple[Limb, ...]:
        """Find the limbs that no measured point needs."""
        vertices = self.vertices(x)
        return tuple(
            limb for limb in self.limbs if visible_share(limb, vertices, self.faces, cloud.points) < _LEAST_VISIBLE
        )

    def _without(
        self, seen: Observations, x: Float[Tensor, "B D"], hidden: Sequence[Sequence[Limb]]
    ) -> tuple[Observations, Float[Tensor, "B D"]]:
        """Take the keypoints of hidden limbs out, which a detector puts where it sees another, and relax the limbs."""
        weight, rotvecs = seen.weight.clone(), self.terms.layout.rotvecs(x).clone()
        rest = torch.cat([self.rest_pose.new_zeros(3), self.rest_pose]).unflatten(0, (-1, 3))
        for row, limbs in enumerate(hidden):
            for limb in limbs:
                weight[row, list(limb.keypoints)] = 0
                rotvecs[row, list(limb.relaxed)] = rest[list(limb.relaxed)]
        return replace(seen, weight=weight), self.terms.layout.put_rotvecs(x, rotvecs)

    def people(self, x: Float[Tensor, "B D"], depth: DepthEvidence) -> list[_Person | None]:
        """Select the points of each body at x (`own`); None without a map, or without a body."""
        finite = torch.isfinite(x).all(1).tolist()
        return [
            None if view is None or not there else (self.own(row, view), view)
            for row, view, there in zip(x, depth.views, finite, strict=True)
        ]

    def pairs(
        self, x: Float[Tensor, "B D"], people: Sequence[_Person | None], level: Level, *, free_space: bool = True
    ) -> BodyPairs:
        """Pair the bodies at x with their points, and with `free_space` skin that is there with where it must go."""
        stage = StageObjective(self.terms, level.stage(), self.scans.observations(1))
        found: list[ScanPairs | None] = []
        for row, one in zip(x, people, strict=True):
            if one is None or len(one[0]) < _LEAST_POINTS:
                found.append(None)
                continue
            cloud, view = one
            some = cloud.select(thinned(cloud.points, level.points))
            pairs = self.scans.pairs(row, some, KDTree(some.points), stage, level, 1.0)
            free = self.free_space(self.vertices(row), cloud, view, level) if free_space else None
            found.append(pairs if free is None else ScanPairs.cat([pairs, free]))
        return BodyPairs(tuple(found))

    def free_space(
        self, vertices: Float[np.ndarray, "V 3"], cloud: PointCloud, view: DepthView, level: Level
    ) -> ScanPairs | None:
        """Pair vertices that lie where the camera sees through: None without any.

        Before the person's own surface they go back to it, along the ray; before what is behind the person they go
        sideways, behind the nearest point of the person in the picture.
        """
        own = self.scans.vertices_of(level)
        at = vertices[own]
        xy = view.pixels(at)
        behind = view.measured(xy)
        front = np.flatnonzero(at[:, 2] < behind - _FRONT_M)
        if not len(front):
            return None
        at, xy, behind = at[front], xy[front], behind[front]
        target = cloud.points[KDTree(view.pixels(cloud.points)).query(xy)[1]]
        ray = at / np.linalg.norm(at, axis=1, keepdims=True)
        through = at * (behind / at[:, 2])[:, None]  # the measured point behind
        before_own = np.linalg.norm(through - target, axis=1) < _GATE_M
        aside = at - target * (at[:, 2] / target[:, 2])[:, None]
        aside -= (aside * ray).sum(1, keepdims=True) * ray
        length = np.linalg.norm(aside, axis=1, keepdims=True)
        direction = np.where(before_own[:, None], ray, aside / np.maximum(length, 1e-9))
        # Sideways as seen at the vertex's own distance: the target at that depth.
        goal = np.where(before_own[:, None], through, target * (at[:, 2] / target[:, 2])[:, None])
        corners = np.repeat(own[front][:, None], 3, 1)
        weights = np.tile((1.0, 0.0, 0.0), (len(front), 1))
        return self.scans.rows(corners, weights, goal, direction, replace(level, along=0.0), 1.0, level.data / len(own))

    def verdicts(self, x: Float[Tensor, "B D"], people: Sequence[_Person | None]) -> list[DepthVerdict | None]:
        """Judge bodies by their points; None without any."""
        found: list[DepthVerdict | None] = []
        for row, one in zip(x, people, strict=True):
            if one is None or len(one[0]) < _LEAST_POINTS:
                found.append(None if one is None else DepthVerdict(len(one[0])))
            else:
                found.append(self.verdict(row, one[0], self.hidden(row, one[0])))
        return found

    def verdict(self, x: Float[Tensor, "D"], cloud: PointCloud, hidden: Sequence[Limb]) -> DepthVerdict:
        """Judge a body by its points."""
        away = MeshTree(self.vertices(x), self.faces).nearest(cloud.points).distance
        return DepthVerdict(len(cloud), float((away < _FAR_M).mean()), tuple(hidden))

    def vertices(self, x: Float[Tensor, "D"]) -> Float[np.ndarray, "V 3"]:
        """Pose the mesh, metres."""
        model = self.terms.model
        return model(**self.terms.layout.params(x[None])).vertices[0].cpu().double().numpy()

    def own(self, x: Float[Tensor, "D"], view: DepthView) -> PointCloud:
        """Select and thin the points near a body, and estimate normals towards the camera."""
        vertices, points = self.vertices(x), view.cloud().points
        low, high = vertices.min(0) - 0.4, vertices.max(0) + 0.4
        points = points[np.all((points > low) & (points < high), axis=1)]
        if len(points) < _LEAST_POINTS:
            return PointCloud(points)
        chosen = points[thinned(points, _POINTS)]
        away = MeshTree(vertices, self.faces).nearest(chosen).distance
        chosen = chosen[away < (_GATE_M if view.mask is None else _GATE_MASKED_M)]
        if len(chosen) < _LEAST_POINTS:
            return PointCloud(chosen)
        normals = estimated_normals(points, chosen, neighbours=_NEIGHBOURS)
        normals = normals * -np.sign((normals * chosen).sum(1, keepdims=True))
        return PointCloud(chosen, normals)
