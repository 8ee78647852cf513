"""People whose hands and faces are known, and the points that are seen of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import roma
import torch
from torch import Tensor

import bodyfit
from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.points.face import face_entries
from bodyfit.body.points.posed import VertexSum, pose_tree
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.geometry.camera import Camera
from bodyfit.skeleton import hand_entries
from scripts.build.open_body.hand_poses import COUPLING, LEFT_FINGER_JOINTS, REST_DEG, joint_kind, pose_vectors

__all__ = ["FOCAL_PX", "HELD_OUT_DEG", "People", "hand_points", "make_people", "on_face", "pose_of", "world_rotations"]

SIZE, FOCAL_PX = (1600, 1600), 1500.0
NOISE_PX, HAND_PX, HAND_M = 2.0, 100.0, 0.18
BODY_NOISE_PX, FACE_NOISE_PX = 6.0, 0.7
LIFT_M, LIFT_DEPTH, LIFT_TURN = 0.005, 2.0, 0.12
"""Deviation of a lift's points, how many times that in depth, and of the turn of the lift as a whole, radians."""

# Signs and grasps that `hand_poses.POSES_DEG` does not have; angles as there.
HELD_OUT_DEG = {
    "I love you": (((8, 6, 2), (82, 96, -1), (83, 96, 2), (10, 8, -6)), (-12, 12, 0, 0, 0)),
    "L": (((6, 4, 2), (82, 95, 0), (84, 96, 3), (84, 95, 8)), (-14, 20, 0, 0, 0)),
    "W": (((6, 5, 8), (4, 5, 0), (8, 6, -8), (70, 80, -2)), (32, 4, 15, 30, 40)),
    "OK": (((52, 55, -2), (22, 18, 0), (14, 10, -3), (8, 8, -8)), (22, 8, 14, 22, 28)),
    "claw": (((10, 62, 6), (8, 64, 1), (8, 64, -4), (8, 60, -8)), (-4, 14, 4, 20, 40)),
    "mug": (((42, 70, -3), (48, 74, 0), (52, 76, 3), (50, 70, 7)), (10, 16, 8, 8, 20)),
    "plate": (((38, 10, -4), (40, 10, 0), (40, 12, 3), (38, 12, 8)), (12, 20, 10, 8, 8)),
    "scissors": (((14, 12, 6), (10, 10, -5), (64, 86, 3), (62, 84, 8)), (24, 8, 12, 30, 36)),
    "beckon": (((30, 70, 0), (20, 18, 0), (20, 18, 2), (22, 20, 5)), (4, 6, 2, 8, 8)),
    "bowl": (((20, 30, 6), (22, 32, 1), (24, 34, -3), (26, 34, -6)), (8, 26, 8, 6, 10)),
}


def pose_of(fingers: Sequence[Sequence[float]], thumb: Sequence[float]) -> np.ndarray:
    """(45,) axis-angle of a left hand from angles in degrees."""
    angles = np.zeros((len(LEFT_FINGER_JOINTS), 3))
    for finger, (knuckle, middle, aside) in zip(("index", "middle", "ring", "pinky"), fingers, strict=True):
        row = LEFT_FINGER_JOINTS.index(f"left_{finger}1")
        angles[row, :2] = knuckle, aside
        angles[row + 1 : row + 3, 0] = middle, COUPLING * middle
    row = LEFT_FINGER_JOINTS.index("left_thumb1")
    angles[row], angles[row + 1, 0], angles[row + 2, 0] = thumb[:3], thumb[3], thumb[4]
    angles[:, 0] -= [REST_DEG[joint_kind(n)] for n in LEFT_FINGER_JOINTS]
    return pose_vectors(np.radians(angles)[None], load_hand_prior()[0].axes)[0].ravel()


@dataclass(frozen=True)
class People:
    """Bodies before a camera, and what is seen of them."""

    model: BodyModel
    params: BodyParams
    camera: Camera
    zoom: float
    keypoints: Tensor
    hands: Tensor
    lift: Tensor
    face: Tensor

    def evidence(self, *, hands: bool = False, lift: bool = False, face: bool = False) -> bodyfit.Evidence:
        """What a fit is given."""
        more = {"hands": self.hands, "hands_lift": self.lift if lift else None} if hands else {}
        more |= {"face": self.face} if face else {}
        seen = {"keypoints": self.keypoints, "layout": "openpose25", "image_size": self.camera.image_size}
        seen["focal_px"] = FOCAL_PX * self.zoom
        return bodyfit.Evidence(**seen, **more)


def mirrored(pose: np.ndarray) -> np.ndarray:
    """The pose of the other hand."""
    return pose * np.tile([1.0, -1.0, -1.0], pose.shape[-1] // 3)


def hand_points(model: BodyModel, params: BodyParams) -> Tensor:
    """(B, 2, 21, 3) points of both hands, metres, camera axes."""
    out = model(**params)
    rows = []
    for side in ("left", "right"):
        rows += [model.point(out, next(iter(entry))) for entry in hand_entries(side)]
    return torch.stack(rows, 1).unflatten(1, (2, 21))


def make_people(
    model: BodyModel, poses: np.ndarray, rng: np.random.Generator, *, wrists: bool = True, zoom: float = 1.0
) -> People:
    """People with these left-hand poses (B, 45), the right ones those of others, mirrored, before a camera that sees
    a hand at about `HAND_PX` times `zoom`."""
    n = len(poses)
    prior = load_pose_prior().of_joints(model.body_joints)
    body = 0.6 * (prior.sample(n, seed=int(rng.integers(1 << 30))) - prior.mean) + prior.mean
    if wrists:  # turned all ways that a wrist and a forearm turn
        for side in ("left", "right"):
            elbow, wrist = (3 * (model.skeleton.index(f"{side}_{j}") - 1) for j in ("elbow", "wrist"))
            body[:, elbow] += rng.uniform(-0.7, 0.7, n)
            body[:, wrist : wrist + 3] = rng.uniform((-0.7, -0.4, -0.9), (0.7, 0.4, 0.9), (n, 3))
    yaw = roma.rotvec_to_rotmat(torch.tensor(np.outer(rng.uniform(-math.pi, math.pi, n), [0.0, 1.0, 0.0])))
    flip = roma.rotvec_to_rotmat(torch.tensor([math.pi, 0.0, 0.0], dtype=torch.float64))
    means = model.hand_means.double().numpy()
    gaze = rng.standard_normal((n, 3)) * [0.12, 0.2, 0.0]
    distance = FOCAL_PX * HAND_M / HAND_PX
    params = model.params(
        betas=torch.tensor(rng.standard_normal((n, model.num_betas))),
        body_pose=torch.tensor(body),
        global_orient=roma.rotmat_to_rotvec(flip @ yaw),
        transl=torch.tensor(np.stack([rng.uniform(-0.3, 0.3, n), np.full(n, 0.2), np.full(n, distance)], 1)),
        left_hand_pose=torch.tensor(poses - means[0]),
        right_hand_pose=torch.tensor(mirrored(np.roll(poses, 1, 0)) - means[1]),
        jaw_pose=torch.tensor(np.stack([rng.uniform(0, 0.4, n), *(0.03 * rng.standard_normal((2, n)))], 1)),
        leye_pose=torch.tensor(gaze),
        reye_pose=torch.tensor(gaze + 0.02 * rng.standard_normal((n, 3)) * [0.3, 1.0, 0.0]),
        expression=torch.tensor(rng.standard_normal((n, model.num_expression_coeffs))),
    )
    size = round(SIZE[0] * zoom), round(SIZE[1] * zoom)
    camera = Camera.make(n, size, focal_px=FOCAL_PX * zoom, dtype=model.dtype)
    points = hand_points(model, params)

    def seen(at: Tensor, noise: float) -> Tensor:
        xy = camera.project(at.flatten(1, -2)).view(*at.shape[:-1], 2)
        xy = xy + noise * torch.tensor(rng.standard_normal(xy.shape), dtype=xy.dtype)
        return torch.cat([xy, torch.ones_like(xy[..., :1])], -1)

    turn = roma.rotvec_to_rotmat(torch.tensor(LIFT_TURN * rng.standard_normal((n, 2, 3)), dtype=model.dtype))
    noise = LIFT_M * torch.tensor(rng.standard_normal(points.shape) * [1.0, 1.0, LIFT_DEPTH], dtype=model.dtype)
    lift = (points - points.mean(2, keepdim=True) + noise) @ turn.mT
    keypoints = seen(torch.nan_to_num(model.keypoints(params, "openpose25")), BODY_NOISE_PX)
    face = seen(on_face(model, model(**params).vertices), FACE_NOISE_PX)
    face[:, 469:473] = face[:, 474:] = torch.nan  # of the irises only the middles
    return People(model, params, camera, zoom, keypoints, seen(points, NOISE_PX), lift, face)


def on_face(model: BodyModel, vertices: Tensor) -> Tensor:
    """(B, 478, 3) points of faces."""
    rows = []
    for entry in face_entries(model, 478):
        at, weights = (entry.vertices, entry.weights) if isinstance(entry, VertexSum) else ((0,), (1.0,))
        rows.append(torch.einsum("k,bkc->bc", vertices.new_tensor(weights), vertices[:, list(at)]))
    return torch.stack(rows, 1)


def world_rotations(model: BodyModel, params: BodyParams) -> Tensor:
    """(B, J, 3, 3) rotations of the bones in camera axes."""
    full = model.full_pose(params)
    return pose_tree(model, model.coefficients(params), full).R_world
