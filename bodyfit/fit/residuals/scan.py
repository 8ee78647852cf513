"""Distances between the skin and a scan or a depth map, along one direction each: a pair's normal, or the three axes.

With x a point on the skin, q its partner in the scan and n a unit direction, r = n . (x - q) in centimetres; n is the
outward normal of either surface for a distance of point to plane. Robust (Geman-McClure). One-sided for clothes: skin
inside the scan (r < 0 for an outward n) costs `slack` times as much.

Partners are searched for outside of the optimisation, so that within it a scan is a list of such rows
(`fit/scan/pairs.py`). Their number is thousands, hence no Jacobian of points is formed: J^T J is accumulated from the
rows of `SkinPoints.rows`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.points.skin import PosedSkin, Skin
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Quadratic, VariableResidual
from bodyfit.fit.residuals.common.robust import geman_mcclure
from bodyfit.fit.scan.pairs import ScanPairs
from bodyfit.fit.setup import Setup
from bodyfit.fit.variables import Variables

__all__ = ["SurfaceTerm", "scan_normal"]


def scan_normal(
    pairs: ScanPairs, body: PosedSkin, joints: int
) -> tuple[Float[Tensor, ""], Float[Tensor, "N"], Float[Tensor, "N N"]]:
    """Compute the cost of the pairs of one body, half its gradient and J^T J.

    The columns are those of `SkinPoints.rows`: translation, axis-angles of the first joints, coefficients.
    """
    points = body.at(pairs.corners[None], pairs.barycentric[None])
    r = 100 * ((points.positions[0] - pairs.target_m) * pairs.direction).sum(1)
    rho, by = geman_mcclure(r, pairs.sigma_cm)
    weight = pairs.weight
    if pairs.slack != 1:
        inside = r < 0 if pairs.lenient is None else (r < 0) & pairs.lenient
        weight = torch.where(inside, pairs.slack * weight, weight)
    jacobian = points.rows(100 * pairs.direction[None], joints)[0]
    scaled = jacobian * (weight * by)[:, None]
    return (weight * rho).sum(), scaled.T @ r, scaled.T @ jacobian


class SurfaceTerm(VariableResidual):
    """Centimetres between the skin and measured points of its surface."""

    name, group, weight = "surface", "seen", 1.0
    blocks = ("transl", "global_orient", "body_pose", "betas")

    def __init__(self, model: BodyModel, layout: Variables) -> None:
        self.model, self.layout = model, layout

    @classmethod
    def of(cls, setup: Setup) -> SurfaceTerm:
        """Make the residual for a model and a table of variables."""
        return cls(setup.model, setup.layout)

    def applies(self, seen: Observations) -> bool:
        """Tell whether there are pairs."""
        return seen.surface is not None

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model."""
        assert seen.surface is not None
        x, skin, joints = self.layout.pack(variables), Skin.of(self.model), self.model.body_joints
        coefficients, rotvecs = self.layout.coefficients(x), self.layout.rotvecs(x)
        size = 3 + 3 * joints + self.model.num_betas
        cost, gradient, hessian = x.new_zeros(len(x)), x.new_zeros(len(x), size), x.new_zeros(len(x), size, size)
        for row, pairs in enumerate(seen.surface.of):
            if pairs is not None:
                one = slice(row, row + 1)
                body = skin.pose(coefficients[one], rotvecs[one], variables["transl"][one])
                cost[row], by, square = scan_normal(pairs, body, joints)
                gradient[row], hessian[row] = by[:size], square[:size, :size]  # without the expression
        return Quadratic(cost, gradient, hessian)
