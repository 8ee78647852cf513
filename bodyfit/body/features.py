"""What pose blend shapes respond to, with its derivative: the entries of R - I of each joint, or STAR's quaternions."""

from __future__ import annotations

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.geometry.rotation import hat

__all__ = ["pose_features", "pose_features_derivative"]


def pose_features(rotvecs: Float[Tensor, "B M 3"], R: Float[Tensor, "B M 3 3"], columns: int) -> Float[Tensor, "B M C"]:
    """Of each joint the 9 entries of R - I, row-major (Loper et al. 2015, eq. 9), or the 4 of its unit quaternion
    (x, y, z, w) less the identity's (Osman et al. 2020, STAR)."""
    if columns == 9:
        return (R - torch.eye(3, dtype=R.dtype, device=R.device)).flatten(2)
    return roma.rotvec_to_unitquat(rotvecs) - R.new_tensor([0.0, 0.0, 0.0, 1.0])


def pose_features_derivative(
    rotvecs: Float[Tensor, "B M 3"], R: Float[Tensor, "B M 3 3"], left: Float[Tensor, "B M 3 3"], columns: int
) -> Float[Tensor, "B M C 3"]:
    """By the axis-angle: a change d turns by the left Jacobian's omega = J d; dR = hat(omega) R, dq = omega q / 2."""
    if columns == 9:
        turned = hat(left.mT) @ R[:, :, None]  # one 3x3 for each component of the axis-angle
        return turned.flatten(3).mT
    q = roma.rotvec_to_unitquat(rotvecs)
    omega = torch.cat([left.mT, torch.zeros_like(left[..., :1])], -1)
    return 0.5 * roma.quat_product(omega, q[:, :, None].expand(*q.shape[:2], 3, 4)).mT
