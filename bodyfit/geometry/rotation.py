"""Compute the exponential map of SO(3) and its left Jacobian, batched and smooth at zero.

roma has the conversions; this module has the derivatives that closed-form Jacobians of points need.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["exp_and_left_jacobian", "hat", "inverse_left_jacobian", "so3_exp"]


def hat(v: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Return the skew-symmetric matrix with hat(v) w = v x w."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def _coefficients(rotvec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sin(a)/a, (1 - cos a)/a^2 and (a - sin a)/a^3 of the angle a, by series where a is small.

    Both branches stay finite, so that gradients do: the closed forms use a = 1 where the series applies.
    """
    a2 = rotvec.square().sum(-1)
    small = a2 < (1e-4 if rotvec.dtype == torch.float64 else 1e-2)
    safe2 = torch.where(small, torch.ones_like(a2), a2)
    a = safe2.sqrt()
    sin, cos = a.sin(), a.cos()
    s = torch.where(small, 1 - a2 / 6 * (1 - a2 / 20 * (1 - a2 / 42)), sin / a)
    c = torch.where(small, 0.5 - a2 / 24 * (1 - a2 / 30 * (1 - a2 / 56)), (1 - cos) / safe2)
    d = torch.where(small, 1 / 6 - a2 / 120 * (1 - a2 / 42 * (1 - a2 / 72)), (a - sin) / (safe2 * a))
    return s[..., None, None], c[..., None, None], d[..., None, None]


def so3_exp(rotvec: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Convert axis-angle vectors, radians, to rotation matrices (Rodrigues)."""
    s, c, _ = _coefficients(rotvec)
    K = hat(rotvec)
    return torch.eye(3, dtype=rotvec.dtype, device=rotvec.device) + s * K + c * (K @ K)


def exp_and_left_jacobian(
    rotvec: Float[Tensor, "*B 3"],
) -> tuple[Float[Tensor, "*B 3 3"], Float[Tensor, "*B 3 3"]]:
    """Return R = exp(rotvec) and J with exp(rotvec + d) = exp(J d) R to first order (Sola et al. 2018, eq. 145)."""
    s, c, d = _coefficients(rotvec)
    K = hat(rotvec)
    K2 = K @ K
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    return eye + s * K + c * K2, eye + c * K + d * K2


def inverse_left_jacobian(rotvec: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Return the inverse J^-1 of the left Jacobian: log(exp(d) exp(rotvec)) = rotvec + J^-1 d to first order.

    Sola et al. 2018, eq. 146. Its transpose is the inverse right Jacobian. For angles up to pi.
    """
    a2 = rotvec.square().sum(-1)
    small = a2 < (1e-4 if rotvec.dtype == torch.float64 else 1e-2)
    safe2 = torch.where(small, torch.ones_like(a2), a2)
    half = safe2.sqrt() / 2
    e = torch.where(small, (1 + a2 / 60 * (1 + a2 / 42)) / 12, (1 - half / half.tan()) / safe2)
    K = hat(rotvec)
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    return eye - K / 2 + e[..., None, None] * (K @ K)
