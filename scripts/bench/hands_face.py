"""How well hands and faces are fitted, with people whose hands and faces are known.

    python -m scripts.bench.hands_face [--people N] [--rendered N] [--skins FOLDER] [--seed N] [--json FILE]

- hands: open-x bodies with poses of the body prior and hands that the hand prior was not made from (`HELD_OUT_DEG`),
  the wrists turned at random, seen by one camera with 2 px of noise on a hand of about 100 px, with and without a lift
  of the quality of MediaPipe's. PA-MPJPE of the 20 joints but the wrist, mm.
- fingers: a relaxed hand of which one finger is bent by 60 degrees: how far the others move, degrees.
- body: the same people fitted without their hands and with them: PA-MPJPE of the body's 22 joints, mm.
- face: people with jaws, eyes and expressions at random, three times as large in the picture, 478 points with 0.7 px of
  noise on a face of about 300 px: how far the jaw's opening and the gaze are off, degrees, and the face's vertices and
  the gap of the lids, mm, for jaw and expression alone.
- spread: whether fingers, jaw, eyes and expression are off by their deviations (`joints_sd_rel_m`, `covariance`).
- rendered: pictures of N people with such hands and of N portraits go through the shipped detector and a fit. Hands
  count where four fifths of their points are not hidden by more than the hand itself: those that the detector is sure
  of ("hand_pa_mm"), and all, at rest where it is not ("all_pa_mm").
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import roma
import torch

import bodyfit
from bodyfit.app.pipeline import fit_frames
from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.body.model import BodyModel
from bodyfit.images.frame import Frame
from scripts.bench.inputs.rendered_people import Skins, draw_people, portraits, visible_hands
from scripts.bench.inputs.whole_people import FOCAL_PX, HELD_OUT_DEG, hand_points, make_people, pose_of
from scripts.bench.records import harness
from scripts.bench.records.part_errors import (
    body_errors,
    face_errors,
    face_spread,
    hand_errors,
    off_mm,
    spread_ratio,
)

AT_ONCE = 20
"""People that are drawn and fitted together, which bounds memory."""
WIDEST_JAW_DEG = math.degrees(0.4)


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


def held_out(count: int) -> np.ndarray:
    """(N, 45) poses of left hands, one after the other of `HELD_OUT_DEG`."""
    names = list(HELD_OUT_DEG)
    return np.stack([pose_of(*HELD_OUT_DEG[names[i % len(names)]]) for i in range(count)])


def rendered_hands(model: BodyModel, count: int, skins: Skins, rng: np.random.Generator) -> dict[str, float]:
    """Draw people, find and fit them: PA-MPJPE of the 20 points but the wrist of hands that are not hidden."""
    sure, every = [], []
    for start in range(0, count, AT_ONCE):
        people = make_people(model, held_out(min(AT_ONCE, count - start)), rng)
        visible = visible_hands(model, people.params, people.camera)
        results = fitted(model, draw_people(model, people.params, people.camera, skins, rng), FOCAL_PX)
        true = hand_points(model, people.params)
        for i, result in enumerate(results):
            if result is None:
                every += [math.nan] * int(visible[i].sum())
                continue
            off = off_mm(hand_points(model, result.params)[0, :, 1:], true[i, :, 1:])
            hand_joints = [model.skeleton.index(f"{side}_index1") for side in ("left", "right")]
            assert result.observed_joints is not None
            seen = result.observed_joints[0, hand_joints].numpy()
            every += off[visible[i]].tolist()
            sure += off[visible[i] & seen].tolist()
    return {
        "hands": len(every),
        "sure": len(sure),
        "hand_pa_mm": float(np.nanmean(sure)),
        "hand_pa_median_mm": float(np.nanmedian(sure)),
        "hand_pa_90_mm": float(np.nanquantile(sure, 0.9)),
        "all_pa_mm": float(np.nanmean(every)),
    }


def rendered_faces(model: BodyModel, count: int, skins: Skins, rng: np.random.Generator) -> dict[str, float]:
    """Draw portraits, find and fit them: `face_errors`, of those that are found."""
    rows, weights = [], []
    for start in range(0, count, AT_ONCE):
        params, camera = portraits(model, min(AT_ONCE, count - start), rng)
        pictures = draw_people(model, params, camera, skins, rng, shadows=False)
        results = fitted(model, pictures, float(camera.focal_px[0]))
        for i, result in enumerate(results):
            if result is not None:
                rows.append(face_errors(model, params.select(torch.tensor([i])), result))
                weights.append(rows[-1]["faces"])
    found = {name: float(np.nanmean([r[name] for r in rows if r["faces"]])) for name in rows[0] if "share" not in name}
    lids_mm = [r["lids_mm"] / r["lids_share"] for r in rows if r["faces"]]
    found |= {"faces": sum(weights), "jaw_share": found["jaw_deg"] / WIDEST_JAW_DEG}
    return found | {"lids_share": found["lids_mm"] / float(np.mean(lids_mm))}


def fitted(model: BodyModel, pictures: Sequence[np.ndarray], focal_px: float) -> list[bodyfit.FitResult | None]:
    """The largest person of each picture, by the shipped detector."""
    frames = [Frame(picture) for picture in pictures]
    people = fit_frames(frames, model=model, focal_px=focal_px)
    return [some[0] if some else None for some in people]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--rendered", type=int, default=0, help="people and portraits that are drawn and detected")
    parser.add_argument("--skins", type=Path, help="skin textures for the open body; plain tones without")
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    model = bodyfit.load_model("open-x")
    names, poses = list(HELD_OUT_DEG), held_out(args.people)
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
            row["face"] = face_errors(model, people.params, result)
            row["face_spread"] = face_spread(people.params, result)
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
    if args.rendered:
        skins = Skins(model, args.skins)
        found["rendered_hands"] = rendered_hands(model, args.rendered, skins, rng)
        print("rendered_hands", json.dumps(found["rendered_hands"]))
        found["rendered_faces"] = rendered_faces(model, args.rendered, skins, rng)
        print("rendered_faces", json.dumps(found["rendered_faces"]))
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
