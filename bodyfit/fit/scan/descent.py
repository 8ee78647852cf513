"""Fit of bodies to a scan from given starts: coarse to fine, with partners searched for anew between steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points
from bodyfit.body.points.skin import Skin
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.fit.config import StageConfig
from bodyfit.fit.objective import BodyTerms, StageObjective
from bodyfit.fit.observations import Observations
from bodyfit.fit.parts import HAND_POINTS, PartObservations
from bodyfit.fit.scan.objective import ScanObjective, posed
from bodyfit.fit.scan.pairs import ScanPairs
from bodyfit.geometry.cloud import PointCloud, thinned
from bodyfit.geometry.mesh_tree import MeshTree, vertex_normals
from bodyfit.skeleton import correspondence, hand_entries
from bodyfit.solve import LMConfig, minimize

__all__ = ["LEVELS", "Level", "Part", "ScanFitter"]

_LEAST_COVERED = 0.1
"""Points of a scan of a part of the body weigh by the share of the skin that has partners, but no less than this."""
_AGREE = 0.5
"""Least cosine of the normals of partners."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Settings of one level of the fit."""

    points: int
    """Points of the scan, and as many vertices at most of the skin."""
    rounds: int
    """Searches for partners."""
    steps: int = 5
    """Steps of Levenberg-Marquardt after each."""
    reach_m: float
    """Partners that are farther from each other are left out."""
    least_reach_m: float = 0.02
    """The same for partners of vertices, which reach twice as far as most points are from the skin, but not less."""
    sigma_cm: float
    """Scale of the robustifier."""
    along: float
    """Weight of the distance along the surface, beside 1 for that along the normal."""
    data: float
    """Weight of all points of the scan together, in keypoints' (which err by 2 cm)."""
    pose: float
    shape: float
    limits: float = 30.0
    capsules: float = 0.0
    hands: float = 1.0
    """Weight of the prior of finger poses, where fingers are variables."""

    def stage(self, *, keypoints: bool = False) -> StageConfig:
        """Make the weights of the priors, and of keypoints where there are some."""
        lm = LMConfig(max_iterations=self.steps, cost_tolerance=1e-3, damping=3e-3, damping_up=12.0)
        return StageConfig(
            pose=self.pose,
            pose_tail=3.0,
            shape=self.shape,
            limits=self.limits,
            angle=0.2,
            interpenetration=self.capsules,
            weights={"hand_pose": self.hands, "hands_points": 0.0, **({} if keypoints else {"reprojection": 0.0})},
            lm=lm,
        )


LEVELS = (
    Level(points=500, rounds=8, reach_m=0.40, sigma_cm=20.0, along=0.5, data=100.0, pose=3.0, shape=3.0, capsules=0.3),
    Level(points=1500, rounds=6, reach_m=0.20, sigma_cm=8.0, along=0.2, data=300.0, pose=2.0, shape=2.0, capsules=0.1),
    Level(points=5000, rounds=6, reach_m=0.08, sigma_cm=3.0, along=0.05, data=1500.0, pose=0.7, shape=0.7),
    Level(points=6000, rounds=5, reach_m=0.04, sigma_cm=1.5, along=0.0, data=3000.0, pose=0.3, shape=0.3, limits=10.0),
)


@dataclass(frozen=True)
class Part:
    """A part of the body that is fitted alone."""

    vertices: Int[np.ndarray, "N"]
    """Its vertices."""
    constant: tuple[slice, ...]
    """Columns of the variables that do not move."""


class ScanFitter:
    """Fitter of one model to scans; `fingers`: with their angles as variables, jaw, eyes and expression, too."""

    def __init__(
        self,
        model: BodyModel,
        *,
        layout: str = "openpose25",
        fingers: bool = False,
        terms: BodyTerms | None = None,
    ) -> None:
        """Make the fitter of a model and a keypoint layout, or of terms that are made already."""
        if terms is None:
            points, prior = Points(model, correspondence(layout)), load_pose_prior().of_joints(model.body_joints)
            hands = [entry for side in ("left", "right") for entry in hand_entries(side)] if fingers else None
            terms = BodyTerms(model, points, prior, hands=None if hands is None else Points(model, hands, whole=True))
        self.model = model
        self.terms = terms
        self.layout = self.terms.layout
        self.surface = Skin.of(model)
        self.faces = model.faces.numpy()
        self.mesh = MeshTree(model.v_template.double().numpy(), self.faces)
        """Search for the nearest points of the skin."""
        rest = model.v_template.double().numpy()
        self._vertices = {level.points: thinned(rest, level.points) for level in LEVELS}
        """Vertices of the skin that look for partners in the scan, by the number of points."""

    def vertices_of(self, level: Level) -> Int[np.ndarray, "N"]:
        """Return the vertices that look for partners at a level."""
        return self._vertices[level.points]

    def observations(self, count: int) -> Observations:
        """Make observations of no keypoints, for the priors alone; hands count as visible."""
        n = len(self.terms.points)
        like = self.model.v_template
        hands = like.new_ones(count, 2 * HAND_POINTS)
        parts = PartObservations(hands_points_m=hands[..., None].expand(-1, -1, 3), hands_points_weight=hands)
        nothing = like.new_zeros(count, n, 2), like.new_zeros(count, n), like.new_ones(count)
        return Observations(*nothing, parts=parts if self.terms.setup.whole else None)

    def descend(
        self,
        x: Float[Tensor, "B D"],
        cloud: PointCloud,
        levels: Sequence[Level] = LEVELS,
        *,
        slack: float = 1.0,
        part: Part | None = None,
        keypoints: Observations | None = None,
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B"]]:
        """Fit from each start; return the variables and the final objectives.

        `slack`: factor of the cost of skin inside the scan (`ScanPairs.slack`). `part`: move some variables alone, with
        the vertices of a part. `keypoints`: of the fitter's layout, beside the scan.
        """
        cost = x.new_full((len(x),), torch.inf)
        observed = self.observations(len(x)) if keypoints is None else keypoints
        for level in levels:
            some = cloud.select(thinned(cloud.points, level.points))
            tree = KDTree(some.points)
            stage = StageObjective(self.terms, level.stage(keypoints=keypoints is not None), observed)
            for _ in range(level.rounds):
                pairs = tuple(self.pairs(row, some, tree, stage, level, slack, part) for row in x)
                problem = ScanObjective(stage, self.surface, pairs, () if part is None else part.constant)
                new, summary = minimize(problem, x, level.stage().lm)
                still = ((new - x).abs().amax(1) < 1e-3) & summary.converged
                x, cost = new, summary.cost
                if still.all():
                    break
        return x, cost

    def pairs(
        self,
        x: Float[Tensor, "D"],
        cloud: PointCloud,
        tree: KDTree,
        stage: StageObjective,
        level: Level,
        slack: float,
        part: Part | None = None,
    ) -> ScanPairs:
        """Find partners: each point's nearest on the skin, and each vertex's nearest point."""
        body = posed(self.surface, stage, x)
        vertices = body.vertices[0].double().numpy()
        normals = vertex_normals(vertices, self.faces)
        assert cloud.normals is not None
        self.mesh.update(vertices)
        nearest = self.mesh.nearest(cloud.points)
        corners, weights, distance = self.faces[nearest.face], nearest.weights, nearest.distance
        facing = np.einsum("pk,pkc->pc", weights, normals[corners])
        facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-9)
        ok = (distance < level.reach_m) & self._agree(cloud, np.arange(len(cloud)), facing)
        own = self._vertices[level.points] if part is None else part.vertices
        count = len(own)
        share = level.data / count
        # Skin that was not scanned must not be drawn to what was: it reaches little farther than points of the scan.
        reach_m = float(np.clip(2 * np.quantile(distance, 0.9), level.least_reach_m, level.reach_m))
        distance, partner = tree.query(vertices[own], distance_upper_bound=reach_m)
        near = np.flatnonzero(np.isfinite(distance))
        own, partner = own[near], np.asarray(partner)[near]
        agree = self._agree(cloud, partner, normals[own])
        own, partner = own[agree], partner[agree]
        plane = cloud.normals[partner]
        plane = plane * np.sign((plane * normals[own]).sum(1, keepdims=True))
        covered = max(len(own) / max(count, 1), _LEAST_COVERED)
        whole = level.data * covered / len(cloud)
        to_skin = self.rows(corners[ok], weights[ok], cloud.points[ok], facing[ok], level, slack, whole)
        corners = np.repeat(own[:, None], 3, 1)
        weights = np.tile((1.0, 0.0, 0.0), (len(own), 1))
        to_scan = self.rows(corners, weights, cloud.points[partner], plane, level, slack, share)
        return ScanPairs.cat([to_skin, to_scan])

    @staticmethod
    def _agree(cloud: PointCloud, rows: np.ndarray, facing: Float[np.ndarray, "P 3"]) -> Bool[np.ndarray, "P"]:
        """Tell whether normals of the scan and of the skin agree; up to the sign, where the scan's are not oriented."""
        assert cloud.normals is not None
        cosine = (cloud.normals[rows] * facing).sum(1)
        return (cosine if cloud.oriented else np.abs(cosine)) > _AGREE

    def rows(
        self,
        corners: np.ndarray,
        weights: np.ndarray,
        target: np.ndarray,
        normals: np.ndarray,
        level: Level,
        slack: float,
        share: float,
    ) -> ScanPairs:
        """Make rows along the normals and, with a weight along the surface, along the three axes."""
        like = self.model.v_template

        def number(array: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array)).to(like)

        n = len(corners)
        index = torch.as_tensor(np.ascontiguousarray(corners))
        base = (index, number(weights), number(target))
        plane = ScanPairs(*base, number(normals), like.new_full((n,), share), level.sigma_cm, slack)
        if not level.along:
            return plane
        axes = [torch.eye(3).to(like)[k].expand(n, 3) for k in range(3)]
        weight = like.new_full((n,), share * level.along)
        never = torch.zeros(n, dtype=torch.bool)
        more = [ScanPairs(*base, axis, weight, level.sigma_cm, slack, never) for axis in axes]
        return ScanPairs.cat([plane, *more])
