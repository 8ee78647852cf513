"""Silhouettes: distances between the body's contour and the edge of its mask, along the contour's normal.

A point of the contour slides over the surface as the body moves, but along the ray and along the contour only: its
velocity across the contour is that of the surface's point that is there now (Niemeyer et al. 2020, Differentiable
Volumetric Rendering, eq. 5 to 9, where the ray touches the surface). So the residual of a pair is that of a vertex and
a line, and exact to first order though the pairs stay as they are (`fit/silhouette` finds them).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.points.skin import Skin, SkinPoints
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Quadratic, VariableResidual, Vector
from bodyfit.fit.residuals.common.robust import geman_mcclure, saturated
from bodyfit.fit.residuals.reprojection import projected
from bodyfit.fit.setup import Setup
from bodyfit.fit.variables import Variables

__all__ = ["SilhouetteTerm"]

_AT_ONCE = 32  # people whose rows are in memory together


class SilhouetteTerm(VariableResidual):
    """Centimetres between contour and mask: outside all of them, inside what is more than clothes take."""

    name, group, weight = "silhouette", "seen", 1.0
    blocks = ("transl", "global_orient", "body_pose", "betas")

    def __init__(self, model: BodyModel, layout: Variables) -> None:
        self.model, self.layout = model, layout

    @classmethod
    def of(cls, setup: Setup) -> SilhouetteTerm:
        """Make the residual for a model and a table of variables."""
        return cls(setup.model, setup.layout)

    def applies(self, seen: Observations) -> bool:
        """Tell whether there are pairs."""
        return seen.contour is not None

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model."""
        parts = []
        for rows in torch.arange(len(seen.weight), device=seen.weight.device).split(_AT_ONCE):
            some = seen if len(rows) == len(seen.weight) else seen.select(rows)
            assert some.contour is not None
            r, by = self._rows({name: value[rows] for name, value in variables.items()}, some)
            rho, robust = geman_mcclure(r, some.contour.sigma_cm)
            w2 = some.contour.weight.square()
            pull = (w2 * robust)[..., None] * by
            parts.append(((w2 * rho).sum(1), (pull * r[..., None]).sum(1), by.mT @ pull))
        return Quadratic(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the residual vector c r / sqrt(1 + r^2 / sigma^2), and with `derive` its Jacobian."""
        assert seen.contour is not None
        r, by = self._rows(variables, seen)
        value, slope = saturated(r, seen.contour.sigma_cm)
        weight = seen.contour.weight
        return Vector(weight * value, by_variables=(weight * slope)[..., None] * by if derive else None)

    def _rows(
        self, variables: Mapping[str, Tensor], seen: Observations
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M D"]]:
        """Compute the residuals, centimetres, and their derivatives by the columns of the blocks."""
        pairs, posed = seen.contour, self._placed(variables, seen)
        assert pairs is not None
        points = posed.positions
        turn = None
        if seen.rig is not None:
            turn = seen.rig.R[pairs.view]
            points = (turn @ points[..., None])[..., 0] + seen.rig.t[pairs.view]
        uv, inverse = projected(points)
        r = ((uv - pairs.target) * pairs.normal).sum(2) * pairs.scale_cm
        r = torch.where(r > 0, r, (r + pairs.slack_cm).clamp_max(0))
        along = torch.cat([pairs.normal, -(uv * pairs.normal).sum(2, keepdim=True)], 2)
        along = along * (pairs.scale_cm * (r != 0))[..., None] * inverse
        if turn is not None:
            along = (turn.mT @ along[..., None])[..., 0]
        rows = posed.rows(along, self.model.body_joints)
        return r, rows[..., : 3 + 3 * self.model.body_joints + self.model.num_betas]  # without the expression

    def _placed(self, variables: Mapping[str, Tensor], seen: Observations) -> SkinPoints:
        """Pose the pairs' vertices, with what hands and face the variables have."""
        assert seen.contour is not None
        x = self.layout.pack(variables)
        body = Skin.of(self.model).pose(self.layout.coefficients(x), self.layout.rotvecs(x), variables["transl"])
        corners = seen.contour.vertices[..., None]
        return body.at(corners, torch.ones_like(corners, dtype=x.dtype))
