"""Starts without a detector: typical poses in many orientations, of which the surfaces agree best with the scan."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.geometry.cloud import PointCloud, thinned

__all__ = ["PoseStarts"]

_TRIALS = 3
_POINTS = 1500
_MOST_M = 0.3
"""Distances beyond this count as this."""


class PoseStarts:
    """Starts from the mean poses of the prior's components, in 24 orientations, placed on the scan's middle."""

    def __init__(self, model: BodyModel) -> None:
        self.model = model

    def __call__(self, cloud: PointCloud) -> list[BodyParams]:
        """Find the three starts (batches of 1) that lie best on the points of a cloud in metres."""
        model, prior = self.model, load_pose_prior().of_joints(self.model.body_joints)
        poses = torch.as_tensor(np.concatenate([prior.mean[None], prior.means])).to(model.v_template)
        zero = torch.zeros(len(poses), 3)
        bodies = model(body_pose=poses, global_orient=zero.to(poses)).vertices.double().numpy()
        points = cloud.points[thinned(cloud.points, _POINTS)]
        tree, trials = KDTree(points), []
        some = thinned(model.v_template.double().numpy(), _POINTS)
        middle = (points.min(0) + points.max(0)) / 2
        for row, vertices in enumerate(bodies[:, some]):
            for turn in Rotation.create_group("O"):
                moved = turn.apply(vertices)
                shift = middle - (moved.min(0) + moved.max(0)) / 2
                moved = moved + shift
                there = np.minimum(tree.query(moved)[0], _MOST_M).mean()
                back = np.minimum(KDTree(moved).query(points)[0], _MOST_M).mean()
                trials.append((there + back, row, turn, shift))
        trials.sort(key=lambda trial: trial[0])
        starts = []
        root = model.rest_joints(torch.zeros(1, model.num_betas).to(poses))[0, 0].double().numpy()
        for _, row, turn, shift in trials[:_TRIALS]:
            orient = torch.as_tensor(turn.as_rotvec()[None]).to(poses)
            transl = torch.as_tensor((turn.apply(root) + shift - root)[None]).to(poses)
            starts.append(model.params(body_pose=poses[row : row + 1], global_orient=orient, transl=transl))
        return starts
