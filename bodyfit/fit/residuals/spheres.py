"""SMPLify's interpenetration term: spheres inside the capsules, for comparison with the paper."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.contact.capsules import Capsules, may_touch
from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points
from bodyfit.fit.residuals.base import PointTerm
from bodyfit.fit.residuals.common.overlap import Overlap

__all__ = ["SphereOverlap"]


class SphereOverlap(Overlap):
    """Overlap of spheres, exp(-|ci - cj|^2 / (si^2 + sj^2)) over spheres i and j that
    fill the capsules, s a third of the radius (Bogo et al. 2016, E_sp)."""

    name = "spheres"

    def __init__(self, model: BodyModel, *, curvature_pairs: int = 8) -> None:
        capsules = Capsules.of(model)
        self.curvature_pairs = curvature_pairs
        entries, radius, slope, part = [], [], [], []
        for c in range(len(capsules.names)):
            count = max(2, int(np.ceil(capsules.length_m[c] / (1.2 * capsules.radius_m[c]))) + 1)
            for t in np.linspace(0, 1, count):
                entries.append(capsules.axis(c, t))
                radius.append(capsules.radius_m[c])
                slope.append(capsules.radius_shape[c])
                part.append(capsules.names[c])
        pairs = [(i, j) for i, j in combinations(range(len(part)), 2) if part[i] != part[j]]
        pairs = [(i, j) for i, j in pairs if not may_touch(part[i], part[j])]
        self.first, self.second = torch.tensor(pairs, device=model.device).T
        self.own_points = Points(model, entries)
        self.radius = torch.as_tensor(np.array(radius), dtype=model.dtype, device=model.device)
        self.radius_shape = torch.as_tensor(np.array(slope), dtype=model.dtype, device=model.device)

    def __call__(self, points_m: Float[Tensor, "B K 3"], betas: Float[Tensor, "B S"]) -> PointTerm:
        """Compute the unweighted quadratic model at posed centres, for the radii that betas determine."""
        s2 = ((self.radius + betas @ self.radius_shape.T) / 3).square()
        s2_pair = s2[:, self.first] + s2[:, self.second]
        apart = points_m[:, self.first] - points_m[:, self.second]
        value = (-apart.square().sum(2) / s2_pair).exp()
        # Half the gradient of exp(-d^2 / S) by the first centre is -(value / S) d.
        push = -(value / s2_pair)[..., None] * apart
        force = torch.zeros_like(points_m).index_add(1, self.first, push).index_add(1, self.second, -push)
        n = min(self.curvature_pairs, value.shape[1])
        top, which = value.topk(n, dim=1)
        # The residual is exp(-d^2 / 2S), its derivative by the first centre -residual d / S.
        rows = torch.arange(len(value), device=value.device)[:, None]
        pull = -(top.sqrt() / s2_pair[rows, which])[..., None] * apart[rows, which]
        by_points = points_m.new_zeros(*which.shape, points_m.shape[1], 3)
        items = torch.arange(n, device=value.device)[None]
        by_points[rows, items, self.first[which]] = pull
        by_points[rows, items, self.second[which]] = -pull
        return PointTerm(value.sum(1), force, rows=by_points)
