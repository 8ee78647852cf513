"""How well hands and faces are fitted, with people whose hands and faces are known.

    python -m scripts.bench.hands_face [--people N] [--seed N] [--json FILE]

- hands: open-x bodies with poses of the body prior and hands that the hand prior was not made from (`HELD_OUT_DEG`),
  the wrists turned at random, seen by one camera with 2 px of noise on a hand of about 100 px, with and without a lift
  of the quality of MediaPipe's. PA-MPJPE of the 20 joints but the wrist, mm.
- fingers: a relaxed hand of which one finger is bent by 60 degrees: how far the others move, degrees.
- body: the same people fitted without their hands and with them: PA-MPJPE of the body's 22 joints, mm.
- face: people with jaws, eyes and expressions at random, three times as large in the picture, 478 points with 0.7 px of
  noise on a face of about 300 px: how far the jaw's opening and the gaze are off, degrees, and the face's vertices and
  the gap of the lids, mm, for jaw and expression alone.
- spread: whether fingers are off by their deviations (`joints_sd_rel_m` about the wrist).
"""

from __future__ import annotations

import argparse
import json
import math
import time
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
from bodyfit.geometry.procrustes import align
from bodyfit.skeleton import hand_entries
from scripts.bench.records import harness
from scripts.build.open_body.hand_poses import COUPLING, LEFT_FINGER_JOINTS, REST_DEG, joint_kind, pose_vectors

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


def off_mm(found: Tensor, true: Tensor) -> Tensor:
    """(N,) mean distance after similarity alignment, mm."""
    moved = align(found.double().numpy(), true.double().numpy())(found.double().numpy())
    return 1000 * (torch.from_numpy(moved) - true).norm(dim=-1).mean(-1)


def hand_errors(people: People, result: bodyfit.FitResult) -> Tensor:
    """(N,) PA-MPJPE of the 20 points but the wrist of each hand."""
    found, true = hand_points(people.model, result.params), hand_points(people.model, people.params)
    return off_mm(found[:, :, 1:].flatten(0, 1), true[:, :, 1:].flatten(0, 1))


def body_errors(people: People, result: bodyfit.FitResult) -> Tensor:
    """(N,) PA-MPJPE of the body's joints."""
    n = people.model.body_joints
    return off_mm(result.joints[:, :n], people.model.joints(people.params)[:, :n])


def spread_ratio(people: People, result: bodyfit.FitResult) -> float:
    """Root mean square of how far finger joints are off about the root, by how far they say they are."""
    joints = people.model.joints(people.params)
    fingers = [i for i, n in enumerate(people.model.skeleton.names) if n.split("_")[-1][:-1] in FINGER_NAMES]
    off = ((result.joints - result.joints[:, :1]) - (joints - joints[:, :1])).norm(dim=2)[:, fingers]
    assert result.joints_sd_rel_m is not None
    said = result.joints_sd_rel_m[:, fingers]
    return float((off.square().mean() / said.square().mean()).sqrt())


def face_errors(people: People, result: bodyfit.FitResult) -> dict[str, float]:
    """How far faces are off, of who looks at the camera by less than 60 degrees."""
    model, true, found = people.model, people.params, result.params
    head = model.skeleton.index("head")
    toward = roma_world(model, true)[:, head, 2, 2]  # the face's forward axis against the camera's
    who = toward < -0.5
    neutral = {"betas": true.betas[who]}
    shapes = [model(**neutral, expression=p.expression[who], jaw_pose=p.jaw_pose[who]).vertices for p in (true, found)]
    rows = sorted({v for e in face_entries(model, 468) if isinstance(e, VertexSum) for v in e.vertices})
    off = 1000 * (shapes[0] - shapes[1])[:, rows].norm(dim=2)
    lids = [1000 * (on_face(model, v)[:, [159, 386]] - on_face(model, v)[:, [145, 374]]).norm(dim=2) for v in shapes]
    gazes = [roma_world(model, p)[who][:, [j for j in range(23, 25)], :, 2] for p in (true, found)]
    gaze = torch.rad2deg((gazes[0] * gazes[1]).sum(-1).clamp(-1, 1).acos())
    return {
        "faces": int(who.sum()),
        "jaw_deg": float(torch.rad2deg((true.jaw_pose - found.jaw_pose)[who][:, 0].abs()).mean()),
        "face_vertices_mm": float(off.mean()),
        "lids_mm": float((lids[0] - lids[1]).abs().mean()),
        "lids_true_sd_mm": float(lids[0].std()),
        "gaze_deg": float(gaze.mean()),
    }


def roma_world(model: BodyModel, params: BodyParams) -> Tensor:
    """(B, J, 3, 3) rotations of the bones in camera axes."""
    full = model.full_pose(params)
    return pose_tree(model, model.coefficients(params), full).R_world


FINGER_NAMES = ("thumb", "index", "middle", "ring", "pinky")


def bent_fingers(model: BodyModel, rng: np.random.Generator) -> dict[str, float]:
    """A relaxed hand of which one finger is bent by 60 degrees more: how far other fingers' joints turn for it."""
    prior = load_hand_prior()[0]
    poses = np.tile(prior.relaxed, (5, 1))
    fingers = ("index", "middle", "pinky", "ring", "thumb")
    for i in range(5):  # spread over the knuckle and the middle joint
        for joint, part in ((3 * i, 0.5), (3 * i + 1, 0.5)):
            row = slice(3 * joint, 3 * joint + 3)
            poses[i, row] += math.radians(60 * part) * prior.axes[joint, 0]
    both = np.concatenate([np.tile(prior.relaxed, (5, 1)), poses])
    moved = []
    for _ in range(4):
        state = rng.bit_generator.state
        half = []
        for part in (both[:5], both[5:]):
            rng.bit_generator.state = state  # the same bodies, wrists and noise
            people = make_people(model, part, rng)
            result = bodyfit.fit(people.evidence(hands=True, lift=True), model=model)
            assert result.params.left_hand_pose is not None
            half.append(result.params.left_hand_pose + model.hand_means[0])
        R = [roma.rotvec_to_rotmat(h.view(5, 15, 3)) for h in half]
        turned = roma.rotmat_geodesic_distance(*R) * 180 / math.pi
        moved.append(turned)
    turned = torch.stack(moved).mean(0)
    rows = {}
    for i, finger in enumerate(fingers):
        others = [j for j in range(15) if j // 3 != i]
        rows[finger] = float(turned[i, others].max())
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    model = bodyfit.load_model("open-x")
    names = list(HELD_OUT_DEG)
    poses = np.stack([pose_of(*HELD_OUT_DEG[names[i % len(names)]]) for i in range(args.people)])
    far, near = make_people(model, poses, rng), make_people(model, poses, rng, zoom=3.0)
    found: dict[str, object] = {"people": args.people, "seed": args.seed, "threads": torch.get_num_threads()}
    for name, people, kind in (
        ("body", far, {}),
        ("hands", far, {"hands": True}),
        ("hands_lift", far, {"hands": True, "lift": True}),
        ("near_body", near, {}),
        ("near_face", near, {"face": True}),
        ("near_whole", near, {"hands": True, "lift": True, "face": True}),
    ):
        bodyfit.fit(people.evidence(**kind).select(slice(0, 2)), model=model)  # compiled, loaded
        start = time.perf_counter()
        result = bodyfit.fit(people.evidence(**kind), model=model)
        row = {"ms_a_person": 1000 * (time.perf_counter() - start) / args.people, "backend": result.backend}
        row["body_pa_mm"] = float(body_errors(people, result).nanmean())
        if kind.get("face"):
            row["face"] = face_errors(people, result)
        if kind.get("hands"):
            errors = hand_errors(people, result)
            row |= {"hand_pa_mm": float(errors.nanmean()), "hand_pa_90_mm": float(errors.nanquantile(0.9))}
            row["finger_spread"] = spread_ratio(people, result)
            each = errors.view(-1, 2)[:, 0]
            row["by_pose"] = {n: round(float(each[i :: len(names)].nanmean()), 2) for i, n in enumerate(names)}
        found[name] = row
        print(name, json.dumps(row))
    found["bent_finger_moves_deg"] = bent_fingers(model, rng)
    print("bent", found["bent_finger_moves_deg"])
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
