"""Which of the body's joints the evidence bears on: those that keypoints mark, and those on the way between them."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from bodyfit.body.points.posed import Points

__all__ = ["ObservedJoints"]

_SHARE = 0.25
"""A keypoint marks a joint whose bone carries at least so much of it."""


class ObservedJoints:
    """The joints that keypoints of one layout bear on: the smallest part of the kinematic tree that joins what the
    keypoints mark. With ears and shoulders seen it holds neck, collars and spine3, and no hip."""

    def __init__(self, points: Points) -> None:
        parents, device = points.model.parents[: points.model.body_joints], points.model.device
        above = torch.eye(len(parents), dtype=torch.int64)
        for joint, parent in enumerate(parents):
            if parent >= 0:
                above[joint] += above[parent]
        child_of = torch.zeros_like(above)
        for joint, parent in enumerate(parents):
            if parent >= 0:
                child_of[joint, parent] = 1
        known = torch.tensor(points.known, device=device)
        self.marks = (points.weight >= _SHARE) & known[:, None]  # (K, N): keypoint k marks joint j
        self.above = above.to(device, points.weight.dtype)  # (N, N): of the row's joint, itself and all above
        self.child_of = child_of.to(device, points.weight.dtype)

    def __call__(self, present: Bool[Tensor, "B K"]) -> Bool[Tensor, "B N"]:
        """For people whose keypoints are present or not."""
        kind = self.above.dtype
        marked = (present.to(kind) @ self.marks.to(kind)) > 0
        below = marked.to(kind) @ self.above  # how many marked joints are in the subtree of each
        branches = (below > 0).to(kind) @ self.child_of
        inner = (below > 0) & (below < below[:, :1])  # the root's subtree is all
        return marked | inner | (branches >= 2)
