"""The conditional pose prior: what a network expects of orientation and joints, given the keypoints, and how surely."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import roma
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.conditional.network import JOINT_FREEDOM
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup

__all__ = ["ConditionalPose"]


class ConditionalArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    freedom: float
    orient: np.ndarray
    """(B, 4) expected orientations of the root, quaternions with the scalar last."""
    pose: np.ndarray
    """(B, P) expected axis-angles."""
    precision: np.ndarray
    """(B, 3 + P, 3 + P)"""
    share: np.ndarray
    """(B,) factors of the cost."""


class ConditionalPose(VariableResidual):
    """Negative log likelihood of orientation and joints, nats: Student's distribution, whose tails are robust.

    w^2 (n + d) / 2 log(1 + e^T P e / n), with n degrees of freedom and P the precision that the network gives this
    person. Of the d errors e three are of the root, 2 sin(a / 2) times the axis of the rotation from its expected
    orientation by an angle a, which is linear in the quaternion; the others are differences of axis-angles. w is the
    noise of this person's keypoints: residuals of keypoints are centimetres and not nats, so that a nat is worth as
    many of them squared as they err by.
    """

    name, group, blocks = "conditional", "pose", ("global_orient", "body_pose")
    loop = Loop("variables", "bodyfit.fit.residuals.loops.conditional:conditional", ConditionalArrays)
    # The mean square of the noise that it is weighed by, centimetres, and some more, for it errs as keypoints do.
    variance = 8.0

    @classmethod
    def of(cls, setup: Setup) -> ConditionalPose:
        """Make the residual, which is the same for every setup."""
        return cls()

    def applies(self, seen: Observations) -> bool:
        """Tell whether there are expectations."""
        return seen.expected_pose is not None

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model, by iteratively reweighted least squares."""
        error, by, P, times = _errors(variables, seen)
        forced = (P @ error[..., None])[..., 0]
        m, half = (error * forced).sum(1), (JOINT_FREEDOM + error.shape[1]) / 2
        share = times * half / (JOINT_FREEDOM + m)
        gradient = share[:, None] * (by.mT @ forced[..., None])[..., 0]
        return Quadratic(times * half * (m / JOINT_FREEDOM).log1p(), gradient, share[:, None, None] * (by.mT @ P @ by))

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the whitened errors, scaled so that |r|^2 is the cost, and their Jacobian."""
        error, by, P, times = _errors(variables, seen)
        # As much more as rounding may have made it indefinite by; people without expectations have none.
        more = 16 * torch.finfo(P.dtype).eps * P.diagonal(dim1=1, dim2=2).amax(1).clamp_min(1e-9)
        eye = torch.eye(P.shape[1], dtype=P.dtype, device=P.device)
        up = torch.linalg.cholesky(P + more[:, None, None] * eye).mT
        white, rows = (up @ error[..., None])[..., 0], up @ by
        m, half = white.square().sum(1, keepdim=True).clamp_min(1e-9), (JOINT_FREEDOM + error.shape[1]) / 2
        cost = half * (m / JOINT_FREEDOM).log1p()
        scale, root = (cost / m).sqrt(), times.sqrt()[:, None]
        by_m = 0.5 / scale * (half / (JOINT_FREEDOM + m) - cost / m) / m
        rows = scale[..., None] * rows + 2 * by_m[..., None] * (white[..., None] * (white[:, None] @ rows))
        return Vector(root * scale * white, by_variables=root[..., None] * rows)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> ConditionalArrays:
        """Make the inputs of the compiled kernel; empty without expectations."""
        like = seen.weight
        values = like.new_empty(0, 4), like.new_empty(0, 0), like.new_empty(0, 0, 0), like.new_empty(0)
        if weight > 0 and seen.expected_orient is not None:
            assert seen.expected_pose is not None
            assert seen.expected_precision is not None
            assert seen.expected_weight is not None
            orient = roma.rotvec_to_unitquat(seen.expected_orient)
            values = orient, seen.expected_pose, seen.expected_precision, seen.expected_weight.square()
        return ConditionalArrays(weight, JOINT_FREEDOM, *(v.to(like.dtype).contiguous().numpy() for v in values))


def _errors(
    variables: Mapping[str, Tensor], seen: Observations
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N N"], Float[Tensor, "B N N"], Float[Tensor, "B"]]:
    """Compute the errors, their Jacobian by the variables, their precision, and the factor of the cost."""
    assert seen.expected_orient is not None
    assert seen.expected_pose is not None
    assert seen.expected_precision is not None
    assert seen.expected_weight is not None
    turn, by_orient = _difference(roma.rotvec_to_unitquat(seen.expected_orient), variables["global_orient"])
    error = torch.cat([turn, variables["body_pose"] - seen.expected_pose], 1)
    by = torch.eye(error.shape[1], dtype=error.dtype, device=error.device).repeat(len(error), 1, 1)
    by[:, :3, :3] = by_orient
    return error, by, seen.expected_precision, seen.expected_weight.square()


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
    v, w = k[:, None] * rotvec, torch.where(small, 1 - a2 / 8, (angle / 2).cos())
    eye = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    by_v = k[:, None, None] * eye + slope[:, None, None] * rotvec[:, :, None] * rotvec[:, None]
    by_w = -0.5 * v
    u, s = expected[:, :3], expected[:, 3:]
    sign = 2 * torch.where((u * v).sum(1) + s[:, 0] * w >= 0, 1.0, -1.0).to(v)
    e = s * v - w[:, None] * u - torch.linalg.cross(u, v)
    by = s[..., None] * by_v - u[:, :, None] * by_w[:, None] - torch.linalg.cross(u[:, :, None], by_v, dim=1)
    return sign[:, None] * e, sign[:, None, None] * by
