"""How deep fingers are in each other where they cross, fold into the palm or pinch, with and without the residual.

    python -m scripts.bench.hand_overlap [--people N] [--seed N] [--json FILE]

Left hands are those of `CROSSING_DEG`, which no prior was made from, moved as little as frees their fingers of each
other (`parted`), right ones the mirror images of others'; 21 points of a hand of about 100 px with 2 px of noise, no
lift. Depths are of capsules about fingers and palms (`HandCapsules`) with radii of 0.85 of the skin's distance from the
axis: the mean of each person's deepest, mm, and the share of people above 2 mm; of the truth and of both fits, with the
PA-MPJPE of 20 joints.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

import numpy as np
import torch

import bodyfit
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.points.posed import pose_tree
from bodyfit.fit.residuals.parts.hand_overlap import HandOverlap
from scripts.bench.inputs.whole_people import make_people, pose_of
from scripts.bench.records import harness
from scripts.bench.records.part_errors import hand_errors

# Angles as in `whole_people.HELD_OUT_DEG`.
CROSSING_DEG = {
    "crossed": (((12, 12, -9), (22, 16, 12), (70, 84, 0), (72, 84, 3)), (30, 4, 14, 34, 40)),
    "fist": (((84, 98, 0), (86, 100, 0), (86, 98, 2), (84, 92, 6)), (34, 2, 18, 40, 52)),
    "thumb between": (((72, 92, 0), (74, 96, 0), (84, 98, 2), (82, 92, 6)), (24, 6, 24, 20, 20)),
    "pinch of three": (((54, 44, -2), (56, 44, 3), (20, 14, 0), (14, 10, -6)), (26, 10, 20, 24, 26)),
    "ring on thumb": (((10, 8, 4), (12, 8, 0), (60, 58, -2), (16, 12, -8)), (44, 4, 24, 34, 40)),
}
MEASURED_COVER, PARTED_COVER = 0.85, 0.9
STEPS, STEP_RAD = 200, 0.01


def depths_cm(overlap: HandOverlap, params: BodyParams, model: BodyModel) -> torch.Tensor:
    """Depths of all pairs of capsules (B, N)."""
    coefficients = model.coefficients(params)
    points = overlap.own_points.place(pose_tree(model, coefficients, model.full_pose(params)), coefficients).positions
    return overlap.residuals(points, overlap.radius.expand(len(points), -1))[0]


def parted(model: BodyModel, poses: np.ndarray) -> np.ndarray:
    """The nearest poses of left hands (B, 45) whose fingers do not overlap, by gradient descent."""
    overlap, start = HandOverlap(model, cover=PARTED_COVER), torch.tensor(poses, dtype=model.dtype)
    pose = (start - model.hand_means[0]).requires_grad_()
    optimiser = torch.optim.Adam([pose], lr=STEP_RAD)
    zero = torch.zeros(len(poses), model.num_betas, dtype=model.dtype)
    for _ in range(STEPS):
        depth = depths_cm(overlap, model.params(betas=zero, left_hand_pose=pose), model)
        loss = depth.square().sum() + 0.02 * (pose + model.hand_means[0] - start).square().sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (pose.detach() + model.hand_means[0]).double().numpy()


def summary(model: BodyModel, params: BodyParams) -> dict[str, float]:
    """How deep fingers of some people are in each other."""
    deepest = 10 * depths_cm(HandOverlap(model, cover=MEASURED_COVER), params, model).amax(1)
    return {"deepest_mm": float(deepest.mean()), "above_2mm": float((deepest > 2).float().mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    args = parser.parse_args()
    rng, model = np.random.default_rng(args.seed), bodyfit.load_model("open-x")
    poses = parted(model, np.stack([pose_of(*angles) for angles in CROSSING_DEG.values()]))
    people = make_people(model, poses[np.arange(args.people) % len(poses)], rng)
    found: dict[str, object] = {"people": args.people, "seed": args.seed, "truth": summary(model, people.params)}
    print("truth", json.dumps(found["truth"]))
    stages = bodyfit.FitConfig().stages
    for name, weights in (("with", {}), ("without", {HandOverlap.name: 0.0})):
        last = replace(stages[-1], weights={**stages[-1].weights, **weights})
        config = bodyfit.FitConfig(stages=(*stages[:-1], last))
        result = bodyfit.fit(people.evidence(hands=True), model=model, config=config)
        found[name] = summary(model, result.params) | {"hand_pa_mm": float(hand_errors(people, result).nanmean())}
        print(name, json.dumps(found[name]))
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
