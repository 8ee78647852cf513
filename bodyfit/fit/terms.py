"""Terms that look at the picture: reprojection of keypoints and distance to a detector's 3D lift.

Each gives weighted residuals and their Jacobian by transl (3), the joints' axis-angles (72) and betas, so that
J^T r is half the gradient of its cost. Robust weights are those of iteratively reweighted least squares.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["centred_rows", "geman_mcclure", "placed_rows", "projection_rows"]

_SIZES = 1.5
"""How many times larger or smaller than the body a lift may be."""


def geman_mcclure(residual: Float[Tensor, "*B"], sigma: float) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """rho = sigma^2 r^2 / (sigma^2 + r^2) and its derivative by r^2, the weight of the reweighted residual."""
    ratio = sigma**2 / (sigma**2 + residual.square())
    return ratio * residual.square(), ratio.square()


def projection_rows(
    points_cam_m: Float[Tensor, "B K 3"],
    jacobian: Float[Tensor, "B K 3 D"],
    target: Float[Tensor, "B K 2"],
    weight: Float[Tensor, "B K"],
    scale_cm: Float[Tensor, "B *N"],
    sigma_cm: float,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B R"], Float[Tensor, "B R D"]]:
    """Cost, residuals and rows of the reprojection term.

    `target` are normalised picture coordinates, (x px - cx) / f; `scale_cm`, one a person or one a point, turns them
    into centimetres at the person. The weight is squared in the sum. The cost is infinite where a weighted point is not
    before the camera, so that a step there is refused.
    """
    z = points_cam_m[..., 2]
    behind = ((z < 0.1) & (weight > 0)).any(1)
    inverse = z.clamp_min(0.1).reciprocal()
    uv = points_cam_m[..., :2] * inverse[..., None]
    scale = (scale_cm if scale_cm.ndim == 2 else scale_cm[:, None])[..., None]
    r = (uv - target) * scale
    rho, robust = geman_mcclure(r, sigma_cm)
    cost = (weight.square()[..., None] * rho).sum((1, 2))
    factor = weight[..., None] * robust.sqrt()
    slope = (factor * scale * inverse[..., None])[..., None]
    rows = slope * (jacobian[:, :, :2] - uv[..., None] * jacobian[:, :, 2:])
    return torch.where(behind, torch.inf, cost), (factor * r).flatten(1), rows.flatten(1, 2)


def centred_rows(
    points_m: Float[Tensor, "B K 3"],
    jacobian: Float[Tensor, "B K 3 D"],
    target_m: Float[Tensor, "B K 3"],
    weight: Float[Tensor, "B K"],
    sigma_cm: float,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B R"], Float[Tensor, "B R D"]]:
    """Cost, residuals and rows of the distance to 3D keypoints of any origin and size, centimetres.

    Both have their weighted mean m moved to the origin, and the keypoints q are given the size that brings them nearest
    to the body's points p: r = p - s q with s = <p, q> / <q, q>, kept within a factor of 1.5. That is linear in p, so
    that the Jacobian is exact (variable projection, Golub & Pereyra 1973).
    """
    share = weight.square() / weight.square().sum(1, keepdim=True).clamp_min(1e-12)
    p = points_m - (share[..., None] * points_m).sum(1, keepdim=True)
    q = target_m - (share[..., None] * target_m).sum(1, keepdim=True)
    dual = share[..., None] * q
    dual = dual / (dual * q).sum((1, 2), keepdim=True).clamp_min(1e-12)
    size = (dual * p).sum((1, 2))
    kept = size.clamp(1 / _SIZES, _SIZES)
    free = (kept == size).to(p.dtype)
    r = 100 * (p - kept[:, None, None] * q)
    rho, robust = geman_mcclure(r, sigma_cm)
    factor = weight[..., None] * robust.sqrt()
    mean = (share[..., None, None] * jacobian).sum(1, keepdim=True)
    # `dual` sums to zero, so that it does not feel the mean.
    by_size = free[:, None] * torch.einsum("bkc,bkcd->bd", dual, jacobian)
    rows = 100 * factor[..., None] * (jacobian - mean - q[..., None] * by_size[:, None, None])
    return (weight.square()[..., None] * rho).sum((1, 2)), (factor * r).flatten(1), rows.flatten(1, 2)


def placed_rows(
    points_m: Float[Tensor, "B P 3"],
    jacobian: Float[Tensor, "B P 3 D"],
    target_m: Float[Tensor, "B P 3"],
    weight: Float[Tensor, "B P"],
    sigma_cm: float,
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B R"], Float[Tensor, "B R D"]]:
    """Cost, residuals and rows of the distance to measured 3D points, centimetres; the whole distance is robust."""
    r = 100 * (points_m - target_m)
    rho, robust = geman_mcclure(r.norm(dim=2), sigma_cm)
    factor = (weight * robust.sqrt())[..., None]
    cost = (weight.square() * rho).sum(1)
    return cost, (factor * r).flatten(1), (100 * factor[..., None] * jacobian).flatten(1, 2)
