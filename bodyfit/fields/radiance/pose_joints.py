"""How joints move the vertices of one posed body, and how the body's parameters turn the joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor

from bodyfit.body.lbs import forward_kinematics
from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.geometry.rotation import exp_and_left_jacobian, so3_exp

__all__ = ["PoseJoints"]

_LEAST_SHARE = 1e-3


@dataclass(frozen=True, eq=False)
class PoseJoints:
    """The body's own joints (no hands' and face's), posed."""

    places: Float[np.ndarray, "K 3"]
    """Metres, in the axes of the parameters."""
    owner_ptr: Int32[np.ndarray, "V1"]
    """Vertex v is moved by the joints `owner[owner_ptr[v] : owner_ptr[v + 1]]`."""
    owner: Int32[np.ndarray, "N"]
    """Joints."""
    share: Float[np.ndarray, "N"]
    """By how much: the skinning weights of the joint and of what hangs on it."""
    turning: Float[Tensor, "K 3 3"]
    """Rotation of each joint, radians in the axes of the parameters, by the change of its axis-angle parameters."""

    @classmethod
    def of(cls, model: BodyModel, params: BodyParams) -> PoseJoints:
        """Pose the joints of one body."""
        count, parents = model.body_joints, model.parents
        with torch.no_grad():
            pose = model.full_pose(params)
            R_world, _ = forward_kinematics(so3_exp(pose), model.rest_joints(model.coefficients(params)), parents)
            places = model.joints(params)[0, :count].cpu().double().numpy()
            above = torch.stack([R_world[0, p] if p >= 0 else torch.eye(3).to(R_world) for p in parents[:count]])
            turning = above @ exp_and_left_jacobian(pose[0, :count])[1]
        share = model.weights.cpu().double().numpy().copy()
        for joint in range(len(parents) - 1, 0, -1):  # parents come first
            share[:, parents[joint]] += share[:, joint]
        vertex, joint = np.nonzero(share[:, :count] > _LEAST_SHARE)
        ptr = np.r_[0, np.bincount(vertex, minlength=len(share)).cumsum()].astype(np.int32)
        return cls(places, ptr, joint.astype(np.int32), share[vertex, joint], turning.cpu().double())

    def by_params(self, matrix: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
        """Turn a matrix by rotations and the translation into one by axis-angles and the translation."""
        blocks = torch.block_diag(*self.turning, torch.eye(3, dtype=torch.float64))
        return blocks.T @ matrix @ blocks
