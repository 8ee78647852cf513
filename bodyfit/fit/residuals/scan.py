"""Distances between the skin and a scan, along one direction each: a pair's normal, or the three axes.

With x a point on the skin, q its partner in the scan and n a unit direction, r = n . (x - q) in centimetres; n is the
outward normal of either surface for a distance of point to plane. Robust (Geman-McClure). One-sided for clothes: skin
inside the scan (r < 0 for an outward n) costs `slack` times as much.

Partners are searched for outside of the optimisation, so that within it a scan is a list of such rows. Their number is
thousands, hence no Jacobian of points is formed: `scan_normal` accumulates J^T J from the rows of `SkinPoints.rows`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.points.skin import PosedSkin
from bodyfit.fit.residuals.common.robust import geman_mcclure
from bodyfit.fit.variables import Variables

__all__ = ["ScanPairs", "scan_normal"]


@dataclass(frozen=True)
class ScanPairs:
    """Points on the skin and their partners in a scan, of one body."""

    corners: Int[Tensor, "P 3"]
    """Vertices of the skin that each point is a mean of."""
    barycentric: Float[Tensor, "P 3"]
    """Their weights."""
    target_m: Float[Tensor, "P 3"]
    """Partners in the scan."""
    direction: Float[Tensor, "P 3"]
    """Unit directions of the distances."""
    weight: Float[Tensor, "P"]
    """Weights of the squared residuals."""
    sigma_cm: float
    """Scale of the robustifier."""
    slack: float = 1.0
    """Factor of the cost of skin inside the scan; 1 for skin that was scanned bare."""
    lenient: Bool[Tensor, "P"] | None = None
    """Rows that `slack` applies to; None for all."""

    @classmethod
    def cat(cls, parts: list[ScanPairs]) -> ScanPairs:
        """Concatenate pairs; the scales are the first's. `lenient` is filled in where it is missing."""
        first = parts[0]
        lenient = [p.lenient if p.lenient is not None else torch.ones_like(p.weight, dtype=torch.bool) for p in parts]
        return cls(
            torch.cat([part.corners for part in parts]),
            torch.cat([part.barycentric for part in parts]),
            torch.cat([part.target_m for part in parts]),
            torch.cat([part.direction for part in parts]),
            torch.cat([part.weight for part in parts]),
            first.sigma_cm,
            first.slack,
            torch.cat(lenient),
        )

    def __len__(self) -> int:
        return len(self.corners)


def scan_normal(
    pairs: ScanPairs, body: PosedSkin, layout: Variables
) -> tuple[Float[Tensor, ""], Float[Tensor, "D"], Float[Tensor, "D D"]]:
    """Compute the cost of a body's pairs, half its gradient and J^T J, in the columns of the solver's variables."""
    points = body.at(pairs.corners[None], pairs.barycentric[None])
    r = 100 * ((points.positions[0] - pairs.target_m) * pairs.direction).sum(1)
    rho, by = geman_mcclure(r, pairs.sigma_cm)
    weight = pairs.weight
    if pairs.slack != 1:
        inside = r < 0 if pairs.lenient is None else (r < 0) & pairs.lenient
        weight = torch.where(inside, pairs.slack * weight, weight)
    moved = len(layout.joint_columns)
    names = ["betas", *(["expression"] if "expression" in layout else [])]
    jacobian = points.rows(100 * pairs.direction[None], moved)[0]
    columns = torch.tensor(layout.point_columns(range(moved), names), device=r.device)
    scaled = jacobian * (weight * by)[:, None]
    gradient, hessian = r.new_zeros(layout.size), r.new_zeros(layout.size, layout.size)
    gradient[columns] = scaled.T @ r
    hessian[columns[:, None], columns] = scaled.T @ jacobian
    return (weight * rho).sum(), gradient, hessian
