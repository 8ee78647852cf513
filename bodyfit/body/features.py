"""Compute pose features, the inputs of pose blend shapes, and their derivatives: R - I, or quaternions for STAR."""

from __future__ import annotations

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.geometry.rotation import hat, unit

__all__ = ["pose_features", "pose_features_derivative"]


def pose_features(rotvecs: Float[Tensor, "B M 3"], R: Float[Tensor, "B M 3 3"], columns: int) -> Float[Tensor, "B M C"]:
    """Compute each joint's pose features.

    9 columns: the entries of R - I, row-major (Loper et al. 2015, eq. 9). 4 columns: the unit quaternion (x, y, z, w)
    minus the identity's (Osman et al. 2020, STAR).
    """
    if columns == 9:
        return (R - unit(3, R.dtype, R.device)).flatten(2)
    return roma.rotvec_to_unitquat(rotvecs) - R.new_tensor([0.0, 0.0, 0.0, 1.0])


def pose_features_derivative(
    rotvecs: Float[Tensor, "B M 3"], R: Float[Tensor, "B M 3 3"], left: Float[Tensor, "B M 3 3"], columns: int
) -> Float[Tensor, "B M C 3"]:
    """Compute the derivative of the pose features by axis-angles; `left` are left Jacobians J of SO(3).

    A change d of the axis-angle is the rotation omega = J d, with dR = hat(omega) R and dq = omega q / 2.
    """
    if columns == 9:
        dR = hat(left.mT) @ R[:, :, None]  # one 3x3 for each component of the axis-angle
        return dR.flatten(3).mT
    q = roma.rotvec_to_unitquat(rotvecs)
    omega = torch.cat([left.mT, torch.zeros_like(left[..., :1])], -1)
    return 0.5 * roma.quat_product(omega, q[:, :, None].expand(*q.shape[:2], 3, 4)).mT
