"""How right fits are on people of known pose and shape, by keypoint layout, and what each term of the objective brings.

The pose prior is trained anew on the training clips (half a minute) and judged on people from the held-out ones, unless
`--split train` asks for the clips that settings are chosen on; the conditional prior that ships has not seen the
held-out ones. Differences are to the default settings on the same
people, with their standard error.

    python -m scripts.bench.accuracy CLIPS [--people 256] [--split held-out|train] [--detector plain|mediapipe|exact]
        [--layouts coco17,...] [--activities acro] [--depth 3 6] [--json FILE]
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.evaluate import metrics
from bodyfit.fit.config import FitConfig
from bodyfit.fit.fitter import Fitter
from scripts.bench.inputs.synthetic_people import FOCAL_PX, SIZE, Detector, People, people, split
from scripts.bench.records import harness
from scripts.build import pose_prior as build_pose_prior

DETECTORS = {"plain": Detector, "mediapipe": Detector.like_mediapipe, "exact": Detector.nearly_exact}
LAYOUTS = ("mediapipe33", "coco17", "openpose25", "lsp14")


def trained_prior(clips: list, folder: Path) -> Path:
    """A pose prior of these clips alone, made as the shipped one is."""
    x, w = build_pose_prior.balanced_frames(clips, 0.5)
    mixture = build_pose_prior.fit_mixture(x, w, 8, 3, 0.05, 0)
    lower, upper = build_pose_prior.joint_limits(x, w)
    path = folder / "prior.npz"
    arrays = {"means": mixture.means, "covars": mixture.covars, "weights": mixture.weights}
    build_pose_prior.write_npz(path, {**arrays, "limits_lower": lower, "limits_upper": upper})
    return path


def stages(**changes: float) -> Callable[[FitConfig], FitConfig]:
    """The settings with a change in every stage."""
    return lambda config: replace(config, stages=tuple(replace(stage, **changes) for stage in config.stages))


VARIANTS: dict[str, tuple[Callable[[FitConfig], FitConfig], bool]] = {
    "default": (lambda c: c, True),
    "no lift": (lambda c: c, False),
    "no pose prior": (stages(pose=0.3), True),
    "no conditional prior": (stages(conditional=0.0), True),
    "no conditional prior, no lift": (stages(conditional=0.0), False),
    "no bending angles": (stages(angle=0.0), True),
    "no joint limits": (stages(limits=0.0), True),
    "no interpenetration": (stages(interpenetration=0.0), True),
    "no shape prior": (stages(shape=0.3), True),
    "Gaussian tails of the prior": (stages(pose_tail=math.inf), True),
    "no robustifier": (stages(sigma_cm=1e4), True),
    "no noise of the detector": (lambda c: replace(c, noise_px=0.0), True),
    "one start": (lambda c: replace(c, hypotheses=1), True),
    "three starts": (lambda c: replace(c, hypotheses=3), True),
    "sides as seen": (lambda c: replace(c, swaps=False), True),
    "SMPLify's settings, no lift": (lambda c: replace(FitConfig.smplify(), pose_prior=c.pose_prior), False),
}
"""Name -> (change of the settings, whether the lift is given)."""


def errors(who: People, layout: str, config: FitConfig, lift: bool, model: bodyfit.BodyModel) -> np.ndarray:
    """(B, 3) PA-MPJPE, MPJPE about the pelvis and PVE of the posed body, mm; and how long a person takes, ms."""
    fitter = Fitter(layout=layout, model=model, config=config)
    result = fitter(who.xyc[layout], image_size=SIZE, focal_px=FOCAL_PX, joints3d=who.lift[layout] if lift else None)
    with torch.no_grad():
        vertices = model(**result.params).vertices
    roots = who.joints[:, :1], result.joints[:, :1]
    return np.stack(
        [
            metrics.pa_mpjpe(result.joints, who.joints).per_item,
            metrics.mpjpe(result.joints, who.joints, root=0).per_item,
            metrics.pve(vertices, who.vertices, roots=(roots[1], roots[0])).per_item,
        ],
        1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--split", choices=["held-out", "train"], default="held-out")
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--variants", help="only these, separated by semicolons")
    parser.add_argument("--detector", choices=list(DETECTORS), default="plain", help="how the keypoints err")
    parser.add_argument("--activities", default="", help="only clips whose activity begins so")
    parser.add_argument("--depth", type=float, nargs=2, default=(2.0, 8.0), help="how far away people are, metres")
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    args = parser.parse_args()
    model, layouts = bodyfit.load_model(), tuple(args.layouts.split(","))
    chosen = args.variants.split(";") if args.variants else list(VARIANTS)
    training, held_out = split(args.clips)
    chosen_from = held_out if args.split == "held-out" else training
    clips = [clip for clip in chosen_from if clip.activity.startswith(args.activities)]
    if not clips:
        raise SystemExit(f"error: no clip of an activity that begins with {args.activities!r}")
    detector, depth = DETECTORS[args.detector](), tuple(args.depth)
    who = people(clips, args.people, model, layouts, detector=detector, depth_m=depth, seed=args.seed)
    found: dict[str, dict[str, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = FitConfig(pose_prior=trained_prior(training, Path(folder)))
        for name in ["default", *[v for v in chosen if v != "default"]]:
            change, lift = VARIANTS[name]
            begin = time.perf_counter()
            found[name] = {layout: errors(who, layout, change(base), lift, model) for layout in layouts}
            ms = 1e3 * (time.perf_counter() - begin) / (args.people * len(layouts))
            means = {layout: np.nanmean(e, 0).round(1).tolist() for layout, e in found[name].items()}
            Console(stderr=True).print(f"{name}: {ms:.1f} ms a person", means, highlight=False)
    report(found, layouts, args)


def report(found: dict[str, dict[str, np.ndarray]], layouts: tuple[str, ...], args: argparse.Namespace) -> None:
    """Prints both tables; writes the means as JSON if asked."""
    first = Table("layout", "PA-MPJPE mm", "p95", "MPJPE mm", "PVE mm", title=f"default settings, {args.split} clips")
    for layout in layouts:
        e = found["default"][layout]
        first.add_row(layout, f"{np.nanmean(e[:, 0]):.1f}", f"{np.nanquantile(e[:, 0], 0.95):.0f}", *_means(e[:, 1:]))
    second = Table("settings", "PA-MPJPE mm", "MPJPE mm", "PVE mm", title="all layouts together; change to the default")
    base = np.concatenate([found["default"][layout] for layout in layouts])
    for name, by_layout in found.items():
        e = np.concatenate([by_layout[layout] for layout in layouts])
        cells = [name]
        for column in range(3):
            d = (e - base)[:, column]
            d = d[np.isfinite(d)]
            change = "" if name == "default" else f" ({d.mean():+.1f} ± {d.std() / math.sqrt(len(d)):.1f})"
            cells.append(f"{np.nanmean(e[:, column]):.1f}{change}")
        second.add_row(*cells)
    Console().print(first, second)
    means = {n: {k: np.nanmean(e, 0) for k, e in by_layout.items()} for n, by_layout in found.items()}
    harness.write_json(args, {"columns": ["pa_mpjpe_mm", "mpjpe_mm", "pve_mm"], "means": means})


def _means(e: np.ndarray) -> list[str]:
    return [f"{value:.1f}" for value in np.nanmean(e, 0)]


if __name__ == "__main__":
    main()
