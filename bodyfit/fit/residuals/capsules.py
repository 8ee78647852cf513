"""Interpenetration: overlap of capsules about the parts of the body."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.contact.capsules import Capsules, may_touch
from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points
from bodyfit.body.points.tables import PointTables
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, PointTerm, Vector
from bodyfit.fit.residuals.common.overlap import Overlap
from bodyfit.fit.setup import Setup

__all__ = ["CapsuleOverlap"]


_ON_TRUNK: dict[str, tuple[tuple[float, float], ...]] = {
    "upper_arm": ((0.75, 0.0), (1.0, 0.4)),
    "forearm": ((0.35, 1.0), (0.7, 1.0), (1.0, 1.0)),
    "hand": ((0.5, 1.0), (1.0, 1.0)),
    "thigh": ((0.85, 1.0),),
    "shin": ((0.33, 1.0), (0.67, 1.0), (1.0, 1.0)),
    "foot": ((0.5, 1.0), (1.0, 1.0)),
}
"""Limb -> where along its axis, and there with how much of its radius, it feels the trunk: next to where they hang on
it, arms press on it, and thighs fold onto it."""


class CapsuleArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    points: PointTables
    first: np.ndarray
    second: np.ndarray
    sampled: np.ndarray
    share: np.ndarray
    corners: np.ndarray
    radius: np.ndarray
    radius_shape: np.ndarray
    where: np.ndarray
    curved: int


class CapsuleOverlap(Overlap):
    """Penetration depths of pairs of capsules: residuals max(0, r_i + r_j - d), d the distance of the axes, in cm.

    It acts from the first contact, with a force proportional to the depth, where the paper's spheres of a third of the
    radius have little effect until the axes are near. Between the axes of its two capsules the trunk is solid, a slab
    with round edges: two capsules alone would trap a limb between them. It acts on points along the limbs.

    `cover` widens the radii, for the mean distance of the skin from the axis leaves half of the skin outside: 1 for
    real people, who press flesh on flesh, more to clear a mesh.
    """

    name = "interpenetration"
    loop = Loop("own points", "bodyfit.fit.residuals.loops.capsules:overlap", CapsuleArrays)

    def __init__(self, model: BodyModel, *, cover: float = 1.0, curvature_pairs: int = 8) -> None:
        capsules = Capsules.of(model)
        self.curvature_pairs = curvature_pairs
        names, n = capsules.names, len(capsules.names)
        limbs = [c for c in range(n) if not names[c].endswith("trunk")]
        pairs = [p for p in combinations(limbs, 2) if not may_touch(names[p[0]], names[p[1]])]
        samples = [
            (c, along, share)
            for c in limbs
            for limb, places in _ON_TRUNK.items()
            if names[c].endswith(limb)
            for along, share in places
        ]
        sides = [names.index(f"{side}_trunk") for side in ("left", "right")]
        # The starts of the axes, their ends, the points along the limbs.
        ends = [(c, along) for along in (0.0, 1.0) for c in range(n)]
        self.own_points = Points(model, [capsules.axis(c, t) for c, t in ends + [s[:2] for s in samples]])
        kind = {"dtype": model.dtype, "device": model.device}
        self.pairs = torch.tensor(pairs, device=model.device).T
        self.sampled = torch.tensor([c for c, *_ in samples], device=model.device)
        self.share = torch.tensor([share for *_, share in samples], **kind)
        # Corners of the slab, in turn: along one axis and back along the other.
        self.corners = torch.tensor([sides[0], sides[0] + n, sides[1] + n, sides[1]], device=model.device)
        (i, j), first = self.pairs, 2 * n
        at_pairs = torch.stack([i, i + n, j, j + n, i], 1)
        at_samples = torch.arange(first, first + len(samples), device=model.device)[:, None]
        self.where = torch.cat(
            [at_pairs, torch.cat([at_samples, self.corners.expand(len(samples), -1)], 1)]
        )  # the points that each residual moves with
        self.radius = torch.as_tensor(cover * capsules.radius_m, **kind)
        self.radius_shape = torch.as_tensor(cover * capsules.radius_shape, **kind)

    def __call__(self, points_m: Float[Tensor, "B K 3"], betas: Float[Tensor, "B S"]) -> PointTerm:
        """Compute the unweighted quadratic model at posed points, for the radii that betas determine."""
        r, slope, weights = self.residuals(points_m, self.radius + betas @ self.radius_shape.T)
        push = (r[..., None] * weights)[..., None] * slope[:, :, None]
        force = torch.zeros_like(points_m).index_add(1, self.where.flatten(), push.flatten(1, 2))
        top, which = r.topk(min(self.curvature_pairs, r.shape[1]), dim=1)
        rows = torch.arange(len(r), device=r.device)[:, None]
        pull = (weights[rows, which] * (top > 0)[..., None])[..., None] * slope[rows, which][:, :, None]
        by_points = self._spread(pull, self.where[which])
        return PointTerm(r.square().sum(1), force, rows=by_points)

    def _spread(self, pull: Float[Tensor, "B N 5 3"], where: Int[Tensor, "*B N 5"]) -> Float[Tensor, "B N K 3"]:
        """Scatter derivatives by the five points of each pair to all points."""
        out = pull.new_zeros(*pull.shape[:2], len(self.own_points), 3)
        return out.scatter_add_(2, where.expand(len(pull), -1, -1)[..., None].expand(-1, -1, -1, 3), pull)

    def vector(
        self,
        points_m: Float[Tensor, "B K 3"],
        variables: Mapping[str, Tensor],
        seen: Observations,
        stage: StageConfig,
        *,
        derive: bool = True,
    ) -> Vector:
        """Compute one residual per pair of parts that may touch, and the Jacobian."""
        r, slope, weights = self.residuals(points_m, self.radius + variables["betas"].detach() @ self.radius_shape.T)
        if not derive:
            return Vector(r)
        pull = ((r > 0)[..., None] * weights)[..., None] * slope[:, :, None]
        return Vector(r, by_points=self._spread(pull, self.where))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> CapsuleArrays:
        """Make the inputs of the compiled kernel."""
        return self._tables._replace(weight=weight)

    @cached_property
    def _tables(self) -> CapsuleArrays:
        first, second = self.pairs.contiguous().numpy()
        return CapsuleArrays(
            0.0,
            points=self.own_points.tables,
            first=first,
            second=second,
            sampled=self.sampled.numpy(),
            share=self.share.numpy(),
            corners=self.corners.numpy(),
            radius=self.radius.contiguous().numpy(),
            radius_shape=self.radius_shape.contiguous().numpy(),
            where=self.where.contiguous().numpy(),
            curved=self.curvature_pairs,
        )

    @classmethod
    def blank(cls, setup: Setup) -> CapsuleArrays:
        """Make empty inputs of weight 0: making capsules costs as much as a fit of one person."""
        none, few = np.zeros(0, np.int64), np.zeros(0, str(setup.model.dtype).removeprefix("torch."))
        n_s = setup.model.num_betas
        return CapsuleArrays(
            0.0, setup.points.tables, none, none, none, few, none, few, few.reshape(0, n_s), none.reshape(0, 5), 0
        )

    def residuals(
        self, points: Float[Tensor, "B K 3"], radius: Float[Tensor, "B C"]
    ) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N 3"], Float[Tensor, "B N 5"]]:
        """Compute residuals (cm), their derivatives by the vector between nearest points, and that vector's weights.

        The positions along the axes minimise the distance, so that to first order they do not change (envelope
        theorem).
        """
        n = radius.shape[1]
        start, end, samples = points[:, :n], points[:, n : 2 * n], points[:, 2 * n :]
        i, j = self.pairs
        s, t, apart = _closest(start[:, i], end[:, i] - start[:, i], start[:, j], end[:, j] - start[:, j])
        of_pairs = torch.stack([1 - s, s, t - 1, -t, torch.zeros_like(s)], 2)
        on_slab = _on_slab(samples, points[:, self.corners])
        apart = torch.cat([apart, samples - on_slab @ points[:, self.corners]], 1)
        weights = torch.cat([of_pairs, torch.cat([torch.ones_like(on_slab[..., :1]), -on_slab], 2)], 1)
        trunk = radius[:, self.corners[[0, 3]]].mean(1, keepdim=True)
        reach = torch.cat([radius[:, i] + radius[:, j], self.share * radius[:, self.sampled] + trunk], 1)
        distance = apart.norm(dim=2).clamp_min(1e-6)
        return 100 * (reach - distance).clamp_min(0), -100 * apart / distance[..., None], weights


def _on_slab(p: Float[Tensor, "B N 3"], corners: Float[Tensor, "B 4 3"]) -> Float[Tensor, "B N 4"]:
    """Compute the weights of four corners that give the nearest point on a quadrilateral.

    It is bent along the lines from its middle to the corners, so that its mirror image is a quadrilateral too: the
    nearest lies inside one of four triangles, where the point's foot does, on a side or on one of these lines.
    """
    tiny, eye = torch.finfo(p.dtype).tiny, torch.eye(4, dtype=p.dtype, device=p.device)
    after, middle = eye.roll(1, 1), torch.full_like(eye, 0.25)  # rows: the next corner, the middle
    u, v = (after - eye) @ corners, (middle - eye) @ corners  # along each side, and to the middle
    w = p[:, :, None] - corners[:, None]  # (B, N, 4, 3)
    uu, vv, uv = ((x * y).sum(2)[:, None] for x, y in ((u, u), (v, v), (u, v)))
    uw, vw = (u[:, None] * w).sum(3), (v[:, None] * w).sum(3)
    area = (uu * vv - uv * uv).clamp_min(tiny)
    s, t = (vv * uw - uv * vw) / area, (uu * vw - uv * uw) / area
    inside = (s >= 0) & (t >= 0) & (s + t <= 1)
    along = (uw / uu.clamp_min(tiny)).clamp(0, 1)
    s, t = torch.where(inside, s, along)[..., None], torch.where(inside, t, 0.0)[..., None]
    inward = (vw / vv.clamp_min(tiny)).clamp(0, 1)[..., None]
    tried = torch.cat([eye + s * (after - eye) + t * (middle - eye), eye + inward * (middle - eye)], 2)
    d2 = (p[:, :, None] - tried @ corners[:, None]).square().sum(3)
    return tried.gather(2, d2.argmin(2)[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]


def _closest(
    p: Float[Tensor, "B N 3"], u: Float[Tensor, "B N 3"], q: Float[Tensor, "B N 3"], v: Float[Tensor, "B N 3"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"], Float[Tensor, "B N 3"]]:
    """Find the nearest points of segments p + s u and q + t v (Ericson 2004, section 5.1.9).

    Returns s and t in [0, 1] and the vector from the second point to the first.
    """
    tiny = torch.finfo(p.dtype).tiny
    w = p - q
    uu, vv, uv = (u * u).sum(2).clamp_min(tiny), (v * v).sum(2).clamp_min(tiny), (u * v).sum(2)
    uw, vw = (u * w).sum(2), (v * w).sum(2)
    s = ((uv * vw - uw * vv) / (uu * vv - uv * uv).clamp_min(1e-9 * uu * vv + tiny)).clamp(0, 1)
    t = ((uv * s + vw) / vv).clamp(0, 1)
    s = ((uv * t - uw) / uu).clamp(0, 1)
    return s, t, w + s[..., None] * u - t[..., None] * v
