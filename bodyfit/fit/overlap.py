"""The interpenetration term: the body's capsules filled with spheres that should not overlap.

The overlap of spheres i and j counts exp(-|ci - cj|^2 / (si^2 + sj^2)) with s a third of the radius (Bogo et al. 2016,
E_sp); its gradient acts on pose alone, so that bodies do not get thin to avoid touching.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.capsules import Capsules, may_touch
from bodyfit.body.model import BodyModel
from bodyfit.body.points import Points, PosedTree
from bodyfit.fit.priors import Quadratic

__all__ = ["SphereOverlap"]


class SphereOverlap:
    """The interpenetration term of one model."""

    def __init__(self, model: BodyModel, *, curvature_pairs: int = 8) -> None:
        capsules = Capsules.of(model)
        self.curvature_pairs = curvature_pairs
        entries, radius, slope, part = [], [], [], []
        for c, (a, b) in enumerate(capsules.ends):
            count = max(2, int(np.ceil(capsules.length_m[c] / (1.2 * capsules.radius_m[c]))) + 1)
            for t in np.linspace(0, 1, count):
                entries.append({name: w for name, w in ((a, 1 - t), (b, t)) if w > 0})
                radius.append(capsules.radius_m[c])
                slope.append(capsules.radius_shape[c])
                part.append(capsules.names[c])
        pairs = [(i, j) for i, j in combinations(range(len(part)), 2) if part[i] != part[j]]
        pairs = [(i, j) for i, j in pairs if not may_touch(part[i], part[j])]
        self.first, self.second = torch.tensor(pairs, device=model.device).T
        self.points = Points(model, entries)
        self.radius = torch.as_tensor(np.array(radius), dtype=model.dtype, device=model.device)
        self.radius_shape = torch.as_tensor(np.array(slope), dtype=model.dtype, device=model.device)

    def __call__(self, tree: PosedTree, betas: Float[Tensor, "B S"]) -> Quadratic:
        """The term by the axis-angles of the joints, root first; betas do not feel it.

        The gradient is that of every pair; the Hessian's stand-in is Gauss-Newton over the few that overlap most.
        """
        placed = self.points.place(tree, betas)
        centres = placed.positions
        s2 = ((self.radius + betas @ self.radius_shape.T) / 3).square()
        s2_pair = s2[:, self.first] + s2[:, self.second]
        apart = centres[:, self.first] - centres[:, self.second]
        value = (-apart.square().sum(2) / s2_pair).exp()
        # Half the gradient of exp(-d^2 / S) by the first centre is -(value / S) d.
        push = -(value / s2_pair)[..., None] * apart
        force = torch.zeros_like(centres).index_add(1, self.first, push).index_add(1, self.second, -push)
        gradient = placed.pull_back(force)
        n = min(self.curvature_pairs, value.shape[1])
        top, which = value.topk(n, dim=1)
        # The residual is exp(-d^2 / 2S), its derivative by the first centre -residual d / S.
        rows = torch.arange(len(value), device=value.device)[:, None]
        pull = -(top.sqrt() / s2_pair[rows, which])[..., None] * apart[rows, which]
        forces = centres.new_zeros(*which.shape, centres.shape[1], 3)
        items = torch.arange(n, device=value.device)[None]
        forces[rows, items, self.first[which]] = pull
        forces[rows, items, self.second[which]] = -pull
        jacobian = placed.pull_back(forces)
        return Quadratic(value.sum(1), gradient, jacobian.mT @ jacobian)
