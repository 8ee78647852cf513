"""The conditional pose prior's expectation of the root's orientation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.conditional.network import FREEDOM
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["ConditionalRoot"]

_HALF = (FREEDOM + 3) / 2


class RootArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    freedom: float
    expected: np.ndarray
    """(B, 4) quaternions, the scalar last."""
    factor: np.ndarray
    share: np.ndarray


class ConditionalRoot(VariableResidual):
    """Negative log likelihood of the root's orientation, nats: Student's distribution of 2 Im(conj(q_mu) q).

    It is the rotation from the expected orientation, 2 sin(a / 2) times its axis for an angle a: what the network's
    precision was trained on, and linear in the quaternion. It weighs as `ConditionalPose` does in the same stage.
    """

    name, group, weight, blocks = "conditional_root", "pose", 1.0, ("global_orient",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.conditional:conditional_root", RootArrays)
    variance = 8.0

    @classmethod
    def of(cls, setup: Setup) -> ConditionalRoot:
        """Make the residual, which is the same for every setup."""
        return cls()

    def applies(self, seen: Observations) -> bool:
        """Tell whether there are expectations."""
        return seen.expected_orient is not None

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model, by iteratively reweighted least squares."""
        white, by, times = self._white(variables, seen, stage)
        m = white.square().sum(1)
        share = times * _HALF / (FREEDOM + m)
        gradient = share[:, None] * (by.mT @ white[..., None])[..., 0]
        return Quadratic(times * _HALF * (m / FREEDOM).log1p(), gradient, share[:, None, None] * (by.mT @ by))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the whitened residual, scaled so that |r|^2 is the cost, and its Jacobian."""
        white, by, times = self._white(variables, seen, stage)
        m = white.square().sum(1).clamp_min(1e-9)
        cost = _HALF * (m / FREEDOM).log1p()
        scale, root = (cost / m).sqrt()[:, None], times.sqrt()[:, None]
        by_m = 0.5 / scale * ((_HALF / (FREEDOM + m) - cost / m) / m)[:, None]
        rows = scale[..., None] * by + 2 * by_m[..., None] * (white[..., None] * (white[:, None] @ by))
        return Vector(root * scale * white, by_variables=root[..., None] * rows)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> RootArrays:
        """Make the inputs of the compiled kernel; empty without expectations."""
        like = seen.weight
        values = like.new_empty(0, 4), like.new_empty(0, 3, 3), like.new_empty(0)
        if weight > 0 and seen.expected_orient is not None:
            assert seen.expected_root_factor is not None
            assert seen.expected_weight is not None
            expected = roma.rotvec_to_unitquat(seen.expected_orient)
            values = expected, seen.expected_root_factor, seen.expected_weight.square()
        arrays = (value.to(like.dtype).contiguous().numpy() for value in values)
        return RootArrays(weight * stage.conditional, FREEDOM, *arrays)

    @staticmethod
    def _white(
        variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3 3"], Float[Tensor, "B"]]:
        """Compute L^T e, its Jacobian by the axis-angle, and the factor of the cost."""
        assert seen.expected_orient is not None
        assert seen.expected_root_factor is not None
        assert seen.expected_weight is not None
        e, by = _difference(roma.rotvec_to_unitquat(seen.expected_orient), variables["global_orient"])
        up = seen.expected_root_factor.mT
        times = (stage.conditional * seen.expected_weight).square()
        return (up @ e[..., None])[..., 0], up @ by, times


def _difference(
    expected: Float[Tensor, "B 4"], rotvec: Float[Tensor, "B 3"]
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3 3"]]:
    """Compute 2 Im(conj(expected) q) for the unit quaternion q of an axis-angle, and its Jacobian.

    Of the two quaternions of a rotation it takes the nearer one.
    """
    a2 = rotvec.square().sum(1)
    angle = a2.clamp_min(1e-8).sqrt()
    small = a2 < 1e-6
    k = torch.where(small, 0.5 - a2 / 48, (angle / 2).sin() / angle)
    slope = torch.where(small, -1 / 24 + a2 / 960, (0.5 * (angle / 2).cos() - k) / angle.square())
    v, w = k[:, None] * rotvec, (a2.sqrt() / 2).cos()
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    by_v = k[:, None, None] * eye + slope[:, None, None] * rotvec[:, :, None] * rotvec[:, None]
    by_w = -0.5 * v
    u, s = expected[:, :3], expected[:, 3:]
    sign = 2 * torch.where((u * v).sum(1) + s[:, 0] * w >= 0, 1.0, -1.0).to(v)
    e = s * v - w[:, None] * u - torch.linalg.cross(u, v)
    by = s[..., None] * by_v - u[:, :, None] * by_w[:, None] - torch.linalg.cross(u[:, :, None], by_v, dim=1)
    return sign[:, None] * e, sign[:, None, None] * by
