"""How like the truth a radiance field draws a dressed person: new poses, new cameras, both; and with wrong bodies.

One drawn person in clothes, poses of the prior before four cameras, 256x256 pictures, exact bodies; PSNR and SSIM in
the box of the mask, on white. Times are of the processor.

    python -m scripts.bench.avatars.radiance [--seed 4] [--poses 24] [--passes 3] [--wrong-deg 3] [--rounds 4]
        [--networks grid,encoding] [--network-seconds 120] [--pictures out.png] [--json FILE]
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
from bodyfit.fields.radiance.field import start_field
from bodyfit.fields.radiance.networks import NetworkConfig, network_rays, train_network
from bodyfit.fields.radiance.poses import PoseConfig, refine_poses
from bodyfit.fields.radiance.views import View, frames_of, training_rays
from bodyfit.images.similarity import box_of, psnr_db, ssim
from bodyfit.io.picture import save_picture
from scripts.bench.avatars.people import studio
from scripts.bench.records import harness

HELD_OUT_POSES = 6
_QUICK_PASSES = 1.0
YAWS, NEW_YAWS = (0, 90, 180, 270), (45, 135, 225, 315)
CONSOLE = Console()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=4, help="the person, outfit and poses (default 4)")
    parser.add_argument("--poses", type=int, default=24, help="poses of training, before four cameras each (24)")
    parser.add_argument("--passes", type=float, default=3.0, help="how often each ray is drawn in training (3)")
    parser.add_argument("--wrong-deg", type=float, default=0.0, help="disturb each angle of the bodies by this (0)")
    parser.add_argument("--rounds", type=int, default=4, help="rounds of refining wrong bodies (4)")
    parser.add_argument("--networks", default="", help="fields of torch to compare: grid, encoding")
    parser.add_argument("--network-seconds", type=float, default=120.0, help="training of each (120)")
    parser.add_argument("--fine", type=int, default=0, help="samples a ray drawn again in those (0: all, once)")
    parser.add_argument("--pictures", type=Path, help="write drawn pictures beside the truth")
    harness.add_json_option(parser)
    args = parser.parse_args()
    person = studio(args.seed, args.poses + HELD_OUT_POSES)
    old, new = range(args.poses), range(args.poses, args.poses + HELD_OUT_POSES)
    training = person.views(old, YAWS)
    sets = {"pose": (new, YAWS), "camera": (old[:: max(1, args.poses // 6)], NEW_YAWS), "both": (new, NEW_YAWS)}
    tests = {name: person.views(poses, yaws) for name, (poses, yaws) in sets.items()}
    config = RadianceConfig(passes=args.passes, background=(1.0, 1.0, 1.0))
    results: dict[str, Any] = {"exact": measure(person.model, training, tests, config)}
    field = results["exact"].pop("field")
    if args.pictures is not None:
        save_picture(args.pictures, sheet(field, tests))
    if args.wrong_deg:
        results["wrong"] = wrong_bodies(person.model, training, tests, config, args)
    for kind in filter(None, args.networks.split(",")):
        results[f"torch {kind}"] = by_network(person.model, training, tests, config, kind, args)
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
    of_tests = of_tests[right.batch :]
    views = [View(v.image, v.mask, v.camera, frame) for v, frame in zip(training, frames, strict=True)]
    bodies, out = wrong, []
    start = time.process_time()
    for number in range(args.rounds + 1):
        whole = number in (0, args.rounds)  # between, a field that has seen each ray once will do
        if number:
            first = replace(config, passes=_QUICK_PASSES)
            field = trained(model, training, [bodies.select([frame]) for frame in frames], first)
            settings = PoseConfig(every_px=3 if number <= args.rounds // 2 else 2)
            bodies = refine_poses(field, views, bodies, start=wrong, config=settings, seed=number)
        with torch.no_grad():
            apart = (model.joints(bodies) - model.joints(right))[:, : model.body_joints].norm(dim=2).mean()
        entry: dict[str, Any] = {"round": number, "joints_mm": 1e3 * float(apart)}
        if whole:
            field = trained(model, training, [bodies.select([frame]) for frame in frames], config)
            entry["camera"] = score(field, tests["camera"], [bodies.select([frame]) for frame in of_tests])
        out.append(entry | {"seconds": time.process_time() - start})
        CONSOLE.print(out[-1])
    return {"rounds": out}


def by_network(
    model: bodyfit.BodyModel,
    training: Sequence[AvatarView],
    tests: dict[str, list[AvatarView]],
    config: RadianceConfig,
    kind: str,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Train a field of torch and score its pictures."""
    bodies, frames = frames_of([view.params for view in training])
    views = [View(v.image, v.mask, v.camera, frame) for v, frame in zip(training, frames, strict=True)]
    field = start_field(model, bodies.betas[:1].numpy(), config, len(YAWS))
    rays = training_rays(views, bodies, model, field.canonical, config.cast, config.seed)
    settings = NetworkConfig(kind=kind, seconds=args.network_seconds, fine=args.fine)
    network, losses = train_network(field, rays, settings)
    out: dict[str, Any] = {"steps": len(losses), "seconds": args.network_seconds}
    for name, some in tests.items():
        psnrs = [network_psnr(network, field, view, config) for view in some]
        out[name] = {"psnr_db": float(np.mean(psnrs))}
    return out


def network_psnr(network: torch.nn.Module, field: RadianceField, view: AvatarView, config: RadianceConfig) -> float:
    """Draw a view by a network and score it."""
    whole = [View(view.image, np.ones_like(view.mask), view.camera, 0)]
    rays = training_rays(whole, view.params, field.model, field.canonical, config.cast, config.seed)
    drawn = np.full((*view.mask.shape, 3), 255, np.uint8)
    with torch.no_grad():
        sums, opacity = network_rays(network, field, rays, np.arange(len(rays)))
    picture = (sums + 1 - opacity[:, None]).clamp(0, 1).numpy()
    drawn.reshape(-1, 3)[rays.pixels] = np.round(255 * picture)
    return psnr_db(drawn[box_of(view.mask)], view.image[box_of(view.mask)])


def sheet(field: RadianceField, tests: dict[str, list[AvatarView]]) -> np.ndarray:
    """Lay drawn pictures beside the truth."""
    rows = []
    for views in tests.values():
        row = [np.concatenate([view.image, draw_field_view(field, view)], 1) for view in views[::7][:4]]
        rows.append(np.concatenate(row, 1))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
