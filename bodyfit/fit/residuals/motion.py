"""Motion prior: a robust cost of the accelerations of joint rotations and of the translation.

Between frames t and t + 1 a joint turns by omega_t = log(R_t^T R_t+1) in its own axes; its acceleration is
a_t = omega_t - omega_t-1 over the square of the time step. It does not depend on the branch of axis-angles, nor on the
rotation of the camera. With m = |a / sigma|^2 it costs s / p ((1 + m / s)^p - 1): m for small accelerations, less for
large ones, since a Gaussian (p = 1) would flatten the peaks of kicks. For the translation p = 1/2, a pseudo-Huber cost:
bodies do not jump, and a logarithm (p = 0, Student's distribution) would hardly penalise far jumps more than near ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.fit.variables import Variables
from bodyfit.geometry.rotation import exp_and_left_jacobian, inverse_left_jacobian

__all__ = ["Motion", "MotionQuadratic"]

_SIGMA = {
    **{"pelvis": 10.0, "hip": 12.0, "knee": 20.0, "ankle": 20.0, "foot": 20.0},
    **{"spine1": 6.0, "spine2": 6.0, "spine3": 6.0, "neck": 8.0, "head": 6.0, "collar": 6.0},
    **{"shoulder": 16.0, "elbow": 14.0, "wrist": 16.0, "hand": 10.0},
}
"""Typical angular accelerations, rad/s^2: between the median and the root mean square of those in motion clips
(scripts/bench/clips.py --statistics); joints that clips hardly move (collars, hands) are given values of their
neighbours."""
_SIGMA_TRANSL = 1.5
"""Typical acceleration of the translation, m/s^2."""

_POWER, _POWER_TRANSL = 0.1, 0.5
"""Exponents p of joints and of the translation."""


@dataclass(frozen=True)
class MotionQuadratic:
    """Quadratic model about the current motion, by frame.

    Its columns are the translation and the joints' axis-angles (`Variables.motion_size`).
    """

    cost: Float[Tensor, "S"]
    """Cost of each frame but the first and the last."""
    gradient: Float[Tensor, "T N"]
    """Half the gradient."""
    blocks: tuple[Float[Tensor, "_ G 3 3"], ...]
    """Half the approximate Hessian: the 3 x 3 blocks of each of the G = N / 3 triples of variables, of a frame with
    itself (T of them), with the frame before (T - 1) and with the one before that (T - 2)."""


class Motion:
    """Motion prior for one model and frame rate."""

    def __init__(self, model: BodyModel, fps: float, tail: float, layout: Variables | None = None) -> None:
        layout = Variables.of(model) if layout is None else layout
        names = [model.skeleton.names[j] for b in layout.blocks if b.kind == "rotations" for j in b.joints]
        sigma = [_SIGMA.get(name) or _SIGMA[name.split("_")[-1]] for name in names]
        per_triple = torch.tensor([_SIGMA_TRANSL, *sigma], dtype=model.dtype, device=model.device)
        # A frame's share of the integral over time: at any frame rate the same motion is as smooth.
        self.scale = fps**2 / per_triple
        self.tail = tail
        self.power = torch.tensor([_POWER_TRANSL, *[_POWER] * len(sigma)], dtype=model.dtype, device=model.device)

    def __call__(self, x: Float[Tensor, "T N"]) -> MotionQuadratic:
        """Compute the quadratic model at x (T, D)."""
        triples = x.unflatten(1, (-1, 3))
        n_t, n_g = triples.shape[:2]
        blocks = tuple(x.new_zeros(max(n_t - k, 0), n_g, 3, 3) for k in range(3))
        if n_t < 3:
            return MotionQuadratic(x.new_zeros(0), torch.zeros_like(x), blocks)
        velocity, by_next, by_own = _velocities(triples)
        a = self.scale[:, None] * (velocity[1:] - velocity[:-1])
        m = a.square().sum(2)
        grown = (m / self.tail).log1p()
        cost = self.tail / self.power * (self.power * grown).expm1()
        weight = self.scale.square() * ((self.power - 1) * grown).exp()  # of squared unscaled accelerations
        # Derivatives by the frame before, the frame itself and the frame after.
        rows = by_own[:-1], -(by_own[1:] + by_next[:-1]), by_next[1:]
        force = (a / self.scale[:, None] * weight[..., None])[..., None, :]
        gradient = torch.zeros_like(triples)
        for i, row in enumerate(rows):
            gradient[i : n_t - 2 + i] += (force @ row)[..., 0, :]
            weighted = weight[..., None, None] * row.mT
            for j in range(i + 1):
                blocks[i - j][j : n_t - 2 + j] += weighted @ rows[j]
        return MotionQuadratic(cost.sum(1), gradient.flatten(1), blocks)

    def costs(self, x: Float[Tensor, "T N"]) -> Float[Tensor, "S"]:
        """Compute the cost of each frame but the first and the last."""
        return self(x).cost


def _velocities(
    triples: Float[Tensor, "T G 3"],
) -> tuple[Float[Tensor, "S G 3"], Float[Tensor, "S G 3 3"], Float[Tensor, "S G 3 3"]]:
    """Compute the change of each triple from frame to frame.

    Returns it, its derivative by the next frame's triple, and the negative derivative by the frame's own.
    """
    transl, rotvecs = triples[:, :1], triples[:, 1:]
    R, left = exp_and_left_jacobian(rotvecs)
    omega = roma.rotmat_to_rotvec(R[:-1].mT @ R[1:])
    assert isinstance(omega, Tensor)
    inverse_left = inverse_left_jacobian(omega)
    # A change d of an axis-angle turns the joint by J_right d = J_left^T d in its own axes.
    by_next, by_own = inverse_left.mT @ left[1:].mT, inverse_left @ left[:-1].mT
    eye = torch.eye(3, dtype=R.dtype, device=R.device).expand(len(omega), 1, 3, 3)
    return (
        torch.cat([transl[1:] - transl[:-1], omega], 1),
        torch.cat([eye, by_next], 1),
        torch.cat([eye, by_own], 1),
    )
