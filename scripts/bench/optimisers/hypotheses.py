"""What more starts bring to the fit: orientations, components of the pose prior, limbs mirrored in depth.

All run as entries of a batch, and of each person's the lowest end objective is kept. Printed are the share of people
whose objective falls by more than 1 %, the error of the bodies kept, and what all entries cost in time.

    python -m scripts.bench.optimisers.hypotheses CLIPS [--people 256] [--layout smpl24] [--noise-px 4]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.objective import Observations, StageObjective
from bodyfit.skeleton import layout_names
from bodyfit.solve import minimize
from scripts.bench.fit import Case, make_case
from scripts.bench.records import harness

LIMBS = {
    f"{side}_{limb}": (f"{side}_{root}", tuple(f"{side}_{n}" for n in names))
    for side in ("left", "right")
    for limb, root, names in (
        ("arm", "shoulder", ("elbow", "wrist", "hand")),
        ("leg", "hip", ("knee", "ankle", "foot")),
    )
}


def descend(fitter: Fitter, stages: tuple[StageConfig, ...], x: Tensor, seen: Observations) -> tuple[Tensor, Tensor]:
    """Ends and objectives of some stages from x."""
    cost = x.new_full((len(x),), torch.inf)
    for stage in stages:
        x, summary = minimize(StageObjective(fitter.terms, stage, seen), x, stage.lm)
        cost = summary.cost
    return x, cost


def from_components(case: Case, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The last two stages again, once from the mean of each component of the prior."""
    fitter = case.fitters[torch.float32]
    found = []
    for mean in fitter.terms.mixture.means:
        start = fitter.variables.put(x, body_pose=mean)
        found.append(descend(fitter, fitter.config.stages[-2:], start, case.seen))
    return found


def from_mirrored_limbs(case: Case, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each limb turned to where it would be were its depth mirrored at its root, then the last stage again.

    The mirrored points serve as 3D keypoints until the limb is there.
    """
    fitter = case.fitters[torch.float32]
    last, names = fitter.config.stages[-1], layout_names("smpl24")
    turning = replace(last, lift=3.0, pose=0.5 * last.pose, lm=replace(last.lm, max_iterations=8, cost_tolerance=1e-2))
    params = fitter.model.params(**fitter.variables.params(x))
    joints = fitter.model.joints(params)
    found = []
    for root, limb in LIMBS.values():
        at, rows = names.index(root), [names.index(n) for n in limb]
        lift = joints.clone()
        lift[:, rows, 2] = 2 * joints[:, at, None, 2] - joints[:, rows, 2]
        mirrored = replace(case.seen, lift_m=lift, lift_weight=torch.ones_like(case.seen.weight))
        start, _ = descend(fitter, (turning,), x, mirrored)
        found.append(descend(fitter, (last,), start, case.seen))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--noise-px", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    harness.add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.layout, args.lift_noise_mm = "smpl24", None
    case, everybody = make_case(args), torch.arange(args.people)
    fitter = case.fitters[torch.float32]
    default, results, seconds = fitter.config, {}, {}
    for keep in (1, 2, 3, 4):
        fitter.config = replace(default, hypotheses=keep)
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            results[f"{keep} orientation(s)"] = fitter.variables.pack(case.ours(everybody).params)
            times.append(time.perf_counter() - begin)
        seconds[f"{keep} orientation(s)"] = statistics.median(times)
    fitter.config = default
    base = f"{default.hypotheses} orientation(s)"
    for name, make in (("8 components", from_components), ("4 mirrored limbs", from_mirrored_limbs)):
        begin = time.perf_counter()
        with torch.no_grad():
            ends = [(results[base], case.objective(results[base]).float()), *make(case, results[base])]
        costs = torch.stack([torch.nan_to_num(cost, nan=torch.inf) for _, cost in ends])
        results[name] = torch.stack([x for x, _ in ends])[costs.argmin(0), everybody]
        seconds[name] = seconds[base] + time.perf_counter() - begin
    reference = case.objective(results[base])
    print(f"{'':<20}{'falls > 1 %':>12}{'rises > 1 %':>12}{'objective':>11}{'PA mm':>8}{'ms/person':>11}")
    found = {}
    for name, x in results.items():
        cost, error = case.objective(x), case.error_mm(x)
        falls, rises = ((cost < 0.99 * reference), (cost > 1.01 * reference))
        print(
            f"{name:<20}{falls.double().mean():>12.1%}{rises.double().mean():>12.1%}{cost.mean():>11.2f}"
            f"{error.mean():>8.1f}{1e3 * seconds[name] / args.people:>11.2f}"
        )
        found[name] = {"falls": falls.double().mean(), "objective": cost.mean(), "pa_mpjpe_mm": error.mean()}
        found[name]["ms_a_person"] = 1e3 * seconds[name] / args.people
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
