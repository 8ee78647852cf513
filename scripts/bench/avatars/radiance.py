"""How like the truth a radiance field draws a dressed person: new poses, new cameras, both; and with wrong bodies.

One drawn person in clothes, poses of the prior before four cameras, 256x256 pictures, exact bodies; PSNR and SSIM in
the box of the mask, on white. Times are of the processor.

    python -m scripts.bench.avatars.radiance [--seed 4] [--poses 24] [--passes 1.5] [--wrong-deg 3] [--rounds 3]
        [--pictures out.png] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

import bodyfit
from bodyfit.app.avatars.field import draw_field_view
from bodyfit.avatars import AvatarView
from bodyfit.fields.radiance import RadianceConfig, RadianceField, fit_field
from bodyfit.fields.radiance.fit import fit_views
from bodyfit.fields.radiance.joint import JointConfig, fit_field_and_bodies
from bodyfit.fields.radiance.views import View, frames_of
from bodyfit.images.similarity import box_of, psnr_db, ssim
from bodyfit.io.picture import save_picture
from scripts.bench.avatars.people import Studio, studio
from scripts.bench.records import harness

HELD_OUT_POSES = 6
YAWS, NEW_YAWS = (0, 90, 180, 270), (45, 135, 225, 315)
CONSOLE = Console()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=4, help="the person, outfit and poses (default 4)")
    parser.add_argument("--poses", type=int, default=24, help="poses of training, before four cameras each (24)")
    parser.add_argument("--passes", type=float, default=1.5, help="how often each ray is drawn in training (1.5)")
    parser.add_argument("--wrong-deg", type=float, default=0.0, help="disturb each angle of the bodies by this (0)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of refining wrong bodies (3)")
    parser.add_argument("--pictures", type=Path, help="write drawn pictures beside the truth")
    harness.add_json_option(parser)
    args = parser.parse_args()
    person = studio(args.seed, args.poses + HELD_OUT_POSES)
    training, tests = person.views(range(args.poses), YAWS), held_out(person, args.poses)
    config = RadianceConfig(passes=args.passes, background=(1.0, 1.0, 1.0))
    results: dict[str, Any] = {"exact": measure(person.model, training, tests, config)}
    field = results["exact"].pop("field")
    if args.pictures is not None:
        save_picture(args.pictures, sheet(field, tests))
    if args.wrong_deg:
        results["wrong"] = wrong_bodies(person.model, training, tests, config, args)
    CONSOLE.print(results)
    harness.write_json(args, results)


def trained(
    model: bodyfit.BodyModel, views: Sequence[AvatarView], bodies: Sequence[bodyfit.BodyParams], config: RadianceConfig
) -> RadianceField:
    """Train the compiled field."""
    pictures, masks = [view.image for view in views], [view.mask for view in views]
    return fit_field(pictures, masks, bodies, [view.camera for view in views], model, config=config)


def measure(
    model: bodyfit.BodyModel,
    training: Sequence[AvatarView],
    tests: dict[str, list[AvatarView]],
    config: RadianceConfig,
) -> dict[str, Any]:
    """Train on exact bodies and score what is drawn."""
    trained(model, training[:2], [view.params for view in training[:2]], replace(config, passes=0.01))  # compiles
    start = time.process_time()
    field = trained(model, training, [view.params for view in training], config)
    seconds = time.process_time() - start
    start = time.process_time()
    scores = {name: score(field, views) for name, views in tests.items()}
    each = (time.process_time() - start) / sum(map(len, tests.values()))
    return {"seconds": seconds, "seconds_a_picture": each, **scores, "field": field}


def score(
    field: RadianceField, views: Sequence[AvatarView], bodies: Sequence[bodyfit.BodyParams] | None = None
) -> dict[str, float]:
    """Score views, with other bodies than theirs if given."""
    bodies = [view.params for view in views] if bodies is None else bodies
    psnrs, ssims = [], []
    for view, body in zip(views, bodies, strict=True):
        drawn, box = draw_field_view(field, replace(view, params=body)), box_of(view.mask)
        psnrs.append(psnr_db(drawn[box], view.image[box]))
        ssims.append(ssim(drawn[box], view.image[box]))
    return {"psnr_db": float(np.mean(psnrs)), "ssim": float(np.mean(ssims))}


def wrong_bodies(
    model: bodyfit.BodyModel,
    training: Sequence[AvatarView],
    tests: dict[str, list[AvatarView]],
    config: RadianceConfig,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Train on disturbed bodies, as they are and refined; score new cameras on the bodies of training."""
    right, frames = frames_of([view.params for view in training])
    rng, turned = np.random.default_rng(args.seed), dict(right)
    for name in ("global_orient", "body_pose"):
        noise = np.radians(args.wrong_deg) * rng.standard_normal(turned[name].shape)
        turned[name] = turned[name] + torch.from_numpy(noise).to(turned[name])
    wrong = model.params(**turned)
    _, of_tests = frames_of([*(right.select([k]) for k in range(right.batch)), *(v.params for v in tests["camera"])])
    views = [View(v.image, v.mask, v.camera, frame) for v, frame in zip(training, frames, strict=True)]
    rounds: list[dict[str, float]] = []
    start = time.process_time()

    def report(number: int, bodies: bodyfit.BodyParams) -> None:
        with torch.no_grad():
            apart = (model.joints(bodies) - model.joints(right))[:, : model.body_joints].norm(dim=2).mean()
        rounds.append({"round": number, "joints_mm": 1e3 * float(apart), "seconds": time.process_time() - start})
        CONSOLE.print(rounds[-1])

    def scored(field: RadianceField, bodies: bodyfit.BodyParams) -> dict[str, float]:
        return score(field, tests["camera"], [bodies.select([frame]) for frame in of_tests[right.batch :]])

    report(0, wrong)
    before = scored(fit_views(views, wrong, model, config=config), wrong)
    start = time.process_time()
    joint = JointConfig(rounds=args.rounds, coarse_rounds=args.rounds)
    field, bodies = fit_field_and_bodies(views, wrong, model, config=config, joint=joint, progress=report)
    seconds = time.process_time() - start
    return {"rounds": rounds, "as they are": before, "refined": scored(field, bodies), "seconds": seconds}


def held_out(person: Studio, poses: int) -> dict[str, list[AvatarView]]:
    """Draw the pictures to score by: new poses, new cameras of a quarter of the poses of training, and both."""
    old, new = range(poses), range(poses, poses + HELD_OUT_POSES)
    sets = {"pose": (new, YAWS), "camera": (old[:: max(1, poses // 6)], NEW_YAWS), "both": (new, NEW_YAWS)}
    return {name: person.views(some, yaws) for name, (some, yaws) in sets.items()}


def sheet(field: RadianceField, tests: dict[str, list[AvatarView]]) -> np.ndarray:
    """Lay drawn pictures beside the truth."""
    rows = []
    for views in tests.values():
        row = [np.concatenate([view.image, draw_field_view(field, view)], 1) for view in views[::7][:4]]
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
