"""Reprojection error: distances of the body's projected points from detected keypoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.posed import Points
from bodyfit.errors import OptionError
from bodyfit.fit.config import StageConfig
from bodyfit.fit.evidence import Extrinsics
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import BlockTerm, Loop, PointResidual, PointTerm, Vector
from bodyfit.fit.residuals.common.robust import geman_mcclure, saturated
from bodyfit.fit.residuals.focal import FOCAL
from bodyfit.fit.setup import Setup
from bodyfit.geometry.rotation import unit

__all__ = ["NEAR_M", "Reprojection", "in_views", "projected", "reprojected", "slopes"]

NEAR_M = 0.1
"""Near plane: smaller depths are clamped to it, and people in front of it are not visible."""


def projected(points_cam_m: Float[Tensor, "*B 3"]) -> tuple[Float[Tensor, "*B 2"], Float[Tensor, "*B 1"]]:
    """Project to normalised image coordinates (x / z, y / z), with z clamped to the near plane; return also 1 / z."""
    inverse = points_cam_m[..., 2:].clamp_min(NEAR_M).reciprocal()
    return points_cam_m[..., :2] * inverse, inverse


def slopes(uv: Float[Tensor, "*B 2"], by_unit: Float[Tensor, "*B 1"]) -> Float[Tensor, "*B 2 3"]:
    """Compute the derivative of scaled projections by points; `by_unit` is the scale over z."""
    eye = unit(2, uv.dtype, uv.device).expand(*uv.shape, 2)
    return torch.cat([eye, -uv[..., None]], -1) * by_unit[..., None]


def reprojected(
    points_cam_m: Float[Tensor, "B K 3"],
    target: Float[Tensor, "B K 2"],
    weight: Float[Tensor, "B K"],
    scale: Float[Tensor, "B #K"],
    sigma: float,
) -> PointTerm:
    """Compute the robust reprojection error of points in a camera's axes.

    `target` are normalised image coordinates (x px - cx) / f; `scale` converts them to the residual's unit, that of
    `sigma`. The weight is squared in the cost. The cost is infinite if a weighted point is behind the near plane, so
    that the solver rejects the step.
    """
    uv, inverse = projected(points_cam_m)
    scale, w2 = scale[..., None], weight.square()[..., None]
    r = (uv - target) * scale
    rho, robust = geman_mcclure(r, sigma)
    by_point = slopes(uv, scale * inverse)
    pulled = (w2 * robust)[..., None] * by_point
    behind = ((points_cam_m[..., 2] < NEAR_M) & (weight > 0)).any(1)
    cost = (w2 * rho).sum((1, 2)).masked_fill(behind, torch.inf)
    return PointTerm(cost, (pulled.mT @ r[..., None])[..., 0], pulled.mT @ by_point)


def in_views(
    points_m: Float[Tensor, "B K 3"],
    target: Float[Tensor, "B CK 2"],
    weight: Float[Tensor, "B CK"],
    scale: Float[Tensor, "B #CK"],
    sigma: float,
    rig: Extrinsics | None,
) -> PointTerm:
    """Compute `reprojected` for every camera, with forces and stiffnesses in the axes of the first."""
    if rig is None:
        return reprojected(points_m, target, weight, scale, sigma)
    n_c, R = len(rig.R), rig.R[:, None]
    term = reprojected(rig.points(points_m), target, weight, scale, sigma)
    assert term.stiffness is not None
    force, stiffness = (value.unflatten(1, (n_c, -1)) for value in (term.force, term.stiffness))
    return PointTerm(term.cost, (force[..., None, :] @ R)[..., 0, :].sum(1), (R.mT @ stiffness @ R).sum(1))


class ReprojectionArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    target: np.ndarray
    confidence: np.ndarray
    scale_cm: np.ndarray
    R: np.ndarray
    t: np.ndarray
    sigma: float


class Reprojection(PointResidual):
    """Robust reprojection errors in the image of each camera, in centimetres at the person."""

    name, group, weight = "reprojection", "seen", 1.0
    loop = Loop("keypoints", "bodyfit.fit.residuals.loops.reprojection:reproject", ReprojectionArrays)

    @classmethod
    def of(cls, setup: Setup) -> Reprojection:
        """Make the residual, which is the same for every setup."""
        return cls()

    def points(self, setup: Setup) -> Points:
        """Return the points of the keypoint layout."""
        return setup.points

    def has_loops(self, setup: Setup) -> bool:
        """Tell whether the compiled version applies: not if the focal length is a variable."""
        return FOCAL.name not in setup.layout

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """Compute the unweighted quadratic model, in the axes of the first camera."""
        scale = seen.scale_cm if seen.scale_cm.ndim == 2 else seen.scale_cm[:, None]
        if FOCAL.name in variables:
            return self._zoomed(points_m, variables[FOCAL.name].exp(), seen, scale, stage.sigma_cm)
        return in_views(points_m, seen.target, seen.weight, scale, stage.sigma_cm, seen.rig)

    def _zoomed(
        self,
        points_m: Float[Tensor, "B K 3"],
        zoom: Float[Tensor, "B 1"],
        seen: Observations,
        scale: Float[Tensor, "B #K"],
        sigma: float,
    ) -> PointTerm:
        """Compute the term for a focal length e^phi times that of the observations.

        (e^phi u - target) scale is the residual of a camera without phi and of target e^-phi at scale e^phi. Raises
        `OptionError` for calibrated cameras.
        """
        if seen.rig is not None:
            raise OptionError("the focal length is a variable for one camera; calibrated cameras know theirs")
        target, scale = seen.target / zoom[..., None], scale * zoom
        term = reprojected(points_m, target, seen.weight, scale, sigma)
        uv, inverse = projected(points_m)
        r, by_phi = (uv - target) * scale[..., None], uv * scale[..., None]
        factor = seen.weight.square()[..., None] * geman_mcclure(r, sigma)[1]
        gradient, hessian = ((factor * v * by_phi).sum((1, 2))[:, None] for v in (r, by_phi))
        mixed = slopes(uv, scale[..., None] * inverse).mT @ (factor * by_phi)[..., None]  # (B, K, 3, 1)
        return replace(term, blocks={FOCAL.name: BlockTerm(gradient, hessian[..., None], mixed)})

    def vector(
        self,
        points_m: Float[Tensor, "B K 3"],
        variables: Mapping[str, Tensor],
        seen: Observations,
        stage: StageConfig,
        *,
        derive: bool = True,
    ) -> Vector:
        """Compute the residual vector c r / sqrt(1 + r^2 / sigma^2) and its Jacobian.

        Its square is the cost, except for points behind the near plane.
        """
        in_view = points_m if seen.rig is None else seen.rig.points(points_m)
        scale = (seen.scale_cm if seen.scale_cm.ndim == 2 else seen.scale_cm[:, None])[..., None]
        uv, inverse = projected(in_view)
        r, slope = saturated((uv - seen.target) * scale, stage.sigma_cm)
        weight = seen.weight[..., None]
        if not derive:
            return Vector((weight * r).flatten(1))
        by_own = (weight * slope)[..., None] * slopes(uv, scale * inverse)  # (B, CK, 2, 3)
        if seen.rig is not None:
            by_own = (by_own.unflatten(1, (len(seen.rig.R), -1)) @ seen.rig.R[:, None]).flatten(1, 2)
        n_k = points_m.shape[1]
        one = torch.eye(n_k, dtype=r.dtype, device=r.device).repeat(in_view.shape[1] // n_k, 1)
        rows = by_own[:, :, :, None] * one[:, None, :, None]  # (B, CK, 2, K, 3)
        return Vector((weight * r).flatten(1), by_points=rows.flatten(1, 2))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> ReprojectionArrays:
        """Make the inputs of the compiled kernel."""
        scale = seen.scale_cm if seen.scale_cm.ndim == 2 else seen.scale_cm[:, None]
        target, confidence, scale = (_plain(v, seen.weight) for v in (seen.target, seen.weight, scale))
        if seen.rig is None:
            R, t = np.eye(3, dtype=target.dtype)[None], np.zeros((1, 3), target.dtype)
        else:
            R, t = _plain(seen.rig.R, seen.weight), _plain(seen.rig.t, seen.weight)
        return ReprojectionArrays(weight, target, confidence, scale, R, t, float(stage.sigma_cm))


def _plain(value: Tensor, like: Tensor) -> np.ndarray:
    return value.to(like.dtype).contiguous().numpy()
