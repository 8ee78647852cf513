"""People of known pose and shape, seen by random cameras through a detector's eyes. For the benchmarks.

Poses are those of motion clips, thinned and cleaned as for the pose prior (`build_pose_prior.read_clip`). Clips are
split by name into training and held-out ones, so that nothing is tuned on what it is judged by.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import roma
import torch

import bodyfit
from bodyfit.geometry.camera import Camera
from bodyfit.skeleton import layout_names, mirrored_rows
from scripts.build.pose_prior import Clip, read_clips

SIZE = (1000, 1000)
FOCAL_PX = 1000.0

_WHOLE = ("acro_dance_a", "acro_jump", "acro_getup_facedown")  # whole activities that training never sees


def is_held_out(clip: Clip) -> bool:
    """Every fifth of the numbered clips of an activity, and three activities whole."""
    number = re.search(r"_(\d+)\.npz$", clip.name)
    return clip.activity in _WHOLE or (number is not None and int(number[1]) % 5 == 0)


def split(clips: Path) -> tuple[list[Clip], list[Clip]]:
    """Training and held-out clips of a folder."""
    everything = read_clips(clips, 15.0)
    return [c for c in everything if not is_held_out(c)], [c for c in everything if is_held_out(c)]


@dataclass(frozen=True)
class Detector:
    """How a made-up detector errs. Lengths are in parts of the person's height in the picture."""

    noise: float = 0.010
    """Deviation of a keypoint that is in sight: 4 px of a person of 400 px, as COCO's annotators err at shoulders."""
    noise_px: float = 0.0
    """Deviation of all keypoints besides, pixels."""
    hidden: float = 3.0
    """How many times that a keypoint errs that the body hides."""
    dropped: float = 0.05
    """Share of keypoints that are missing."""
    swapped: float = 0.10
    """Share of people with the left and right of one pair of limbs exchanged in the picture."""
    mistaken: float = 0.0
    """Share of people whom the detector takes for facing the other way: all sides exchanged, in picture and lift."""
    lift_m: float = 0.03
    """Deviation of a joint of the 3D lift in each axis; as much again in depth, and the lift as a whole turned."""
    lift_turn: float = 0.15
    """Deviation of the lift's turn about each axis, radians."""
    lift_bend: float = 0.0
    """Deviation, radians, of the direction in which the lift's head, trunk and each part of a limb point, about the
    picture's axes: what is below moves along, so that errors go together as a network's do."""

    @classmethod
    def like_mediapipe(cls) -> Detector:
        """Whose lift alone errs by as much as MediaPipe's on real pictures (multiview.py: 72 mm PA-MPJPE), by
        limbs and not by joints, and who mistakes front for back as often (5 of 91 people)."""
        return cls(mistaken=0.05, lift_m=0.01, lift_turn=0.08, lift_bend=0.16)

    @classmethod
    def nearly_exact(cls) -> Detector:
        """Who errs by 4 px and finds every point, hidden or not: annotators, or markers."""
        return cls(noise=0.0, noise_px=4.0, hidden=1.0, dropped=0.0, swapped=0.0)


@dataclass(frozen=True)
class People:
    """Ground truth in camera axes, and what the detector says."""

    params: bodyfit.BodyParams
    joints: torch.Tensor
    """(B, J, 3) metres."""
    vertices: torch.Tensor
    """(B, V, 3) metres."""
    points: dict[str, torch.Tensor]
    """The true keypoints of each layout, (B, K, 3) metres."""
    xyc: dict[str, torch.Tensor]
    """Seen keypoints of each layout, (B, K, 3)."""
    lift: dict[str, torch.Tensor]
    """3D lift of each layout, (B, K, 3) metres."""


def people(
    clips: list[Clip],
    n: int,
    model: bodyfit.BodyModel,
    layouts: tuple[str, ...],
    *,
    detector: Detector | None = None,
    depth_m: tuple[float, float] = (2.0, 8.0),
    seed: int = 0,
) -> People:
    """`n` people: as many from each activity, random adults, `depth_m` away, all yaws, pitch within 30 degrees."""
    detector = Detector() if detector is None else detector
    rng = np.random.default_rng(seed)
    by_activity: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_activity[clip.activity].append(clip)
    order = [by_activity[name] for name in sorted(by_activity)]
    pose = []
    for i in range(n):
        clip = order[i % len(order)][rng.integers(len(order[i % len(order)]))]
        pose.append(clip.pose[rng.integers(len(clip.pose))].ravel())
    yaw, pitch = rng.uniform(-np.pi, np.pi, n), rng.uniform(-np.pi / 6, np.pi / 6, n)
    R_yaw = roma.rotvec_to_rotmat(torch.tensor(yaw[:, None] * [0.0, 1, 0]))
    R_pitch = roma.rotvec_to_rotmat(torch.tensor((np.pi + pitch)[:, None] * [1.0, 0, 0]))
    depth = rng.uniform(*depth_m, n)
    side, height = rng.uniform(-0.15, 0.15, n), rng.uniform(-0.05, 0.15, n)
    params = model.params(
        betas=torch.tensor(rng.standard_normal((n, 10)).clip(-2.5, 2.5)),
        body_pose=torch.tensor(np.array(pose)[:, : 3 * (model.body_joints - 1)]),
        global_orient=roma.rotmat_to_rotvec(R_pitch @ R_yaw),
        transl=torch.tensor(np.stack([side * depth, height * depth, depth], 1)),
    )
    with torch.no_grad():
        out = model(**params)
    camera = Camera.make(n, SIZE, focal_px=FOCAL_PX, dtype=model.dtype)
    points, seen, lifts = {}, {}, {}
    for layout in layouts:
        points[layout] = model.keypoints(out, layout)
        seen[layout] = _seen(points[layout], out.vertices, camera, layout, detector, rng)
        lifts[layout] = _lifted(points[layout], layout, detector, rng)
    if detector.mistaken > 0:
        other = torch.tensor(rng.random(n) < detector.mistaken)
        for layout in layouts:
            sides = mirrored_rows(layout_names(layout))
            seen[layout][other] = seen[layout][other][:, sides]
            lifts[layout][other] = lifts[layout][other][:, sides]
    return People(params, out.joints, out.vertices, points, seen, lifts)


def _seen(points, vertices, camera: Camera, layout: str, detector: Detector, rng: np.random.Generator) -> torch.Tensor:
    """Projected keypoints with noise, drop-outs and exchanged sides."""
    xy = camera.project(points)
    of_body = camera.project(vertices)
    height = (of_body[..., 1].amax(1) - of_body[..., 1].amin(1)).numpy()
    hidden = _hidden(points, vertices).numpy()
    n, k = hidden.shape
    deviation = detector.noise * height[:, None] * np.where(hidden, detector.hidden, 1.0)
    xy = xy.numpy() + (deviation + detector.noise_px)[..., None] * rng.standard_normal((n, k, 2))
    confidence = np.where(hidden, rng.uniform(0.2, 0.7, (n, k)), rng.uniform(0.7, 1.0, (n, k)))
    confidence[rng.random((n, k)) < detector.dropped] = 0.0
    known = np.isfinite(xy).all(2)
    xyc = np.concatenate([np.nan_to_num(xy), (confidence * known)[..., None]], 2)
    names = layout_names(layout)
    other = np.array(mirrored_rows(names))
    for i in np.flatnonzero(rng.random(n) < detector.swapped):
        parts = (("elbow", "wrist", "knuckle"), ("knee", "ankle", "heel", "toe"))[rng.integers(2)]
        rows = [row for row, name in enumerate(names) if any(part in name for part in parts)]
        xyc[i, rows] = xyc[i, other[rows]]
    return torch.tensor(xyc, dtype=points.dtype)


def _hidden(points: torch.Tensor, vertices: torch.Tensor) -> torch.Tensor:
    """(B, K) whether the body itself stands before a point: skin within 2 cm of the ray, 12 cm nearer or more."""
    answer = []
    for p, v in zip(points, vertices, strict=True):
        distance = p.norm(dim=1)
        ray = p / distance[:, None]
        along = v @ ray.T  # (V, K)
        away2 = v.square().sum(1, keepdim=True) - along.square()
        answer.append(((away2 < 0.02**2) & (along < distance - 0.12)).any(0))
    return torch.stack(answer)


_BENDS = (
    (
        ("left_hip", "right_hip"),
        ("nose", "eye", "ear", "mouth", "head", "neck", "shoulder", "elbow", "wrist", "knuckle"),
    ),
    (("left_shoulder", "right_shoulder"), ("nose", "eye", "ear", "mouth", "head")),
    *(
        ((f"{s}_shoulder",), (f"{s}_elbow", f"{s}_wrist", *(f"{s}_{f}_k" for f in ("thumb", "index", "pinky"))))
        for s in ("left", "right")
    ),
    *(
        ((f"{s}_elbow",), (f"{s}_wrist", *(f"{s}_{f}_k" for f in ("thumb", "index", "pinky"))))
        for s in ("left", "right")
    ),
    *(((f"{s}_hip",), (f"{s}_knee", f"{s}_ankle", f"{s}_heel", f"{s}_big", f"{s}_small")) for s in ("left", "right")),
    *(((f"{s}_knee",), (f"{s}_ankle", f"{s}_heel", f"{s}_big", f"{s}_small")) for s in ("left", "right")),
)
"""About the middle of which keypoints which others turn."""


def _bent(points: torch.Tensor, layout: str, detector: Detector, rng: np.random.Generator) -> torch.Tensor:
    """The keypoints with each part of the body turned about where it begins, more out of the picture than in it."""
    names, points = layout_names(layout), points.clone()
    for start, parts in _BENDS:
        rows = [i for i, name in enumerate(names) if any(part in name for part in parts)]
        middle = points[:, [names.index(name) for name in start]].mean(1, keepdim=True)
        turn = detector.lift_bend * rng.standard_normal((len(points), 3)) * [1.0, 1.0, 0.5]
        R = roma.rotvec_to_rotmat(torch.tensor(turn)).to(points)
        points[:, rows] = middle + (points[:, rows] - middle) @ R.mT
    return points


def _lifted(points: torch.Tensor, layout: str, detector: Detector, rng: np.random.Generator) -> torch.Tensor:
    """The keypoints about their mean as a network lifts them: bent, turned as a whole, noisy, most in depth."""
    n, k = points.shape[:2]
    if detector.lift_bend > 0:
        points = _bent(points, layout, detector, rng)
    turn = roma.rotvec_to_rotmat(torch.tensor(detector.lift_turn * rng.standard_normal((n, 3)))).to(points)
    noise = detector.lift_m * rng.standard_normal((n, k, 3)) * [1.0, 1.0, 2.0]
    centred = points - points.nanmean(1, keepdim=True)
    return centred @ turn.mT + torch.tensor(noise).to(points)
