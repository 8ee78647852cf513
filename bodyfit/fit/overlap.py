"""The interpenetration terms: capsules that should not overlap, and SMPLify's spheres inside them.

Their gradients act on pose alone, so that bodies do not get thin to avoid touching.
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

__all__ = ["CapsuleOverlap", "SphereOverlap"]


class CapsuleOverlap:
    """By how much capsules run into each other: residuals max(0, r_i + r_j - d), d the distance of the axes, in cm.

    It is felt from the first touch and pulls in proportion to the depth, where the paper's spheres of a third of the
    radius feel little until the axes are near.
    """

    def __init__(self, model: BodyModel, *, curvature_pairs: int = 8) -> None:
        capsules = Capsules.of(model)
        self.curvature_pairs = curvature_pairs
        names = capsules.names
        pairs = [p for p in combinations(range(len(names)), 2) if not may_touch(names[p[0]], names[p[1]])]
        self.pairs = torch.tensor(pairs, device=model.device)
        # The starts of the axes, then their ends.
        self.points = Points(model, [capsules.axis(c, along) for along in (0, 1) for c in range(len(names))])
        self.radius = torch.as_tensor(capsules.radius_m, dtype=model.dtype, device=model.device)
        self.radius_shape = torch.as_tensor(capsules.radius_shape, dtype=model.dtype, device=model.device)

    def __call__(self, tree: PosedTree, betas: Float[Tensor, "B S"]) -> Quadratic:
        """The term by the axis-angles of the joints, root first; betas do not feel it.

        The gradient is that of every pair; the Hessian's stand-in is Gauss-Newton over the few that overlap most.
        """
        placed = self.points.place(tree, betas)
        start, end = placed.positions.unflatten(1, (2, -1)).unbind(1)
        radius = self.radius + betas @ self.radius_shape.T
        i, j = self.pairs.T
        s, t, apart = _closest(start[:, i], end[:, i] - start[:, i], start[:, j], end[:, j] - start[:, j])
        distance = apart.norm(dim=2).clamp_min(1e-6)
        r = 100 * (radius[:, i] + radius[:, j] - distance).clamp_min(0)
        # The distance is least in s and t, so they stay where they are to first order (the envelope theorem).
        slope = -100 * apart / distance[..., None]
        share = torch.stack([1 - s, s, t - 1, -t], 2)
        n = len(start[0])
        where = torch.stack([i, i + n, j, j + n], 1)
        push = (r[..., None] * share)[..., None] * slope[:, :, None]
        force = torch.zeros_like(placed.positions).index_add(1, where.flatten(), push.flatten(1, 2))
        top, which = r.topk(min(self.curvature_pairs, r.shape[1]), dim=1)
        rows = torch.arange(len(r), device=r.device)[:, None]
        pull = (share[rows, which] * (top > 0)[..., None])[..., None] * slope[rows, which][:, :, None]
        forces = r.new_zeros(*which.shape, 2 * n, 3)
        forces.scatter_(2, where[which][..., None].expand(-1, -1, -1, 3), pull)
        jacobian = placed.pull_back(forces)
        return Quadratic(r.square().sum(1), placed.pull_back(force), jacobian.mT @ jacobian)


def _closest(
    p: Float[Tensor, "B N 3"], u: Float[Tensor, "B N 3"], q: Float[Tensor, "B N 3"], v: Float[Tensor, "B N 3"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"], Float[Tensor, "B N 3"]]:
    """s and t in 0 to 1 where segments p + s u and q + t v are nearest, and the way there from the second to the first
    (Ericson 2004, section 5.1.9)."""
    tiny = torch.finfo(p.dtype).tiny
    w = p - q
    uu, vv, uv = (u * u).sum(2).clamp_min(tiny), (v * v).sum(2).clamp_min(tiny), (u * v).sum(2)
    uw, vw = (u * w).sum(2), (v * w).sum(2)
    s = ((uv * vw - uw * vv) / (uu * vv - uv * uv).clamp_min(1e-9 * uu * vv + tiny)).clamp(0, 1)
    t = ((uv * s + vw) / vv).clamp(0, 1)
    s = ((uv * t - uw) / uu).clamp(0, 1)
    return s, t, w + s[..., None] * u - t[..., None] * v


class SphereOverlap:
    """SMPLify's own term, for comparison with the paper: exp(-|ci - cj|^2 / (si^2 + sj^2)) over spheres i and j that
    fill the capsules, s a third of the radius (Bogo et al. 2016, E_sp)."""

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
