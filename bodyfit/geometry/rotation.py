"""Compute the exponential map of SO(3) and its left Jacobian, batched and smooth at zero.

roma has the conversions; this module has the derivatives that closed-form Jacobians of points need.
"""

from __future__ import annotations

import math
from functools import lru_cache

import roma
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["exp_and_left_jacobian", "hat", "inverse_left_jacobian", "so3_exp", "so3_log", "unit"]


@lru_cache(maxsize=16)
def _constants(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the generators of SO(3) as (3, 9), and the coefficients of the series by powers of the squared angle,
    (4, 3); made once, because a device waits for what is copied to it."""
    powers = [[(-1) ** n / math.factorial(2 * n + first) for first in (1, 2, 3)] for n in range(4)]
    with torch.inference_mode(False):  # for graphs, too
        generators = torch.zeros(3, 3, 3, dtype=dtype)
        for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            generators[i, k, j], generators[i, j, k] = 1, -1
        return generators.flatten(1).to(device), torch.tensor(powers, dtype=dtype).to(device)


@lru_cache(maxsize=32)
def unit(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the unit matrix, made once for a type and a device; it must not be written to."""
    with torch.inference_mode(False):
        return torch.eye(size, dtype=dtype).to(device)


def hat(v: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Return the skew-symmetric matrix with hat(v) w = v x w."""
    return (v @ _constants(v.dtype, v.device)[0]).unflatten(-1, (3, 3))


def _coefficients(rotvec: Float[Tensor, "*B 3"]) -> Float[Tensor, "3 *B 1 1"]:
    """Return sin(a)/a, (1 - cos a)/a^2 and (a - sin a)/a^3 of the angle a, by series where a is small.

    Both branches stay finite, so that gradients do: the closed forms use a = 1 where the series applies.
    """
    a2 = rotvec.square().sum(-1)[..., None, None]
    small = a2 < (1e-4 if rotvec.dtype == torch.float64 else 1e-2)
    safe2 = a2.masked_fill(small, 1.0)
    a = safe2.sqrt()
    s = a.sin() / a
    closed = torch.cat([s[None], (1 - torch.stack([a.cos(), s])) / safe2])
    c0, c1, c2, c3 = _constants(rotvec.dtype, rotvec.device)[1].view(4, 3, *[1] * a2.ndim)
    series = torch.addcmul(c0, a2, torch.addcmul(c1, a2, torch.addcmul(c2, a2, c3)))
    return torch.where(small, series, closed)


def so3_exp(rotvec: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Convert axis-angle vectors, radians, to rotation matrices (Rodrigues)."""
    s, c, _ = _coefficients(rotvec)
    K = hat(rotvec)
    return torch.addcmul(torch.addcmul(unit(3, rotvec.dtype, rotvec.device), s, K), c, K @ K)


def so3_log(R: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3"]:
    """Convert rotation matrices to axis-angle vectors, radians (roma)."""
    rotvec = roma.rotmat_to_rotvec(R)
    assert isinstance(rotvec, Tensor)
    return rotvec


def exp_and_left_jacobian(
    rotvec: Float[Tensor, "*B 3"],
) -> tuple[Float[Tensor, "*B 3 3"], Float[Tensor, "*B 3 3"]]:
    """Return R = exp(rotvec) and J with exp(rotvec + d) = exp(J d) R to first order (Sola et al. 2018, eq. 145)."""
    coefficients = _coefficients(rotvec)
    K = hat(rotvec)
    eye = unit(3, rotvec.dtype, rotvec.device)
    R, J = torch.addcmul(torch.addcmul(eye, coefficients[:2], K), coefficients[1:], K @ K)
    return R, J


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
    return unit(3, rotvec.dtype, rotvec.device) - K / 2 + e[..., None, None] * (K @ K)
