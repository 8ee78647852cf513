"""Whether fits are off by as much as they say: observed error over foretold deviation, by what is seen of people.

People from held-out clips (`--split train` for those that `Calibration` was chosen on), the pose prior trained on the
training clips, as in accuracy.py: whole bodies and parts of them, with and without a lift, upright, lying and
upside down, by one camera and several. A ratio is the root mean square of the errors of joints over that of
`joints_sd_rel_m` (about the pelvis), of all joints and of groups of them: by kind of joint, whether the layout's own
keypoint of the joint is seen, how far the person is, and by fifths of the foretold deviation. The last columns are
the rank correlation of both and the ratio of `joints_sd_m` (in space).

    python -m scripts.bench.uncertainty CLIPS [--people 256] [--split held-out|train] [--seed 0]
    python -m scripts.bench.uncertainty CLIPS --tracks 12 --layouts mediapipe33   # clips as wholes (fit_sequence)
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import bodyfit
from bodyfit.evaluate import metrics
from bodyfit.fit.config import FitConfig
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.result import FitResult, join
from bodyfit.fit.sequence.fitter import SequenceFitter
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.skeleton import correspondence, layout_names
from scripts.bench.accuracy import trained_prior
from scripts.bench.inputs.synthetic_clips import FPS, Film, clip_paths, film
from scripts.bench.inputs.synthetic_people import FOCAL_PX, SIZE, People, people, split
from scripts.bench.records import harness

LAYOUTS = ("coco17", "openpose25", "mediapipe33", "lsp14")
_LEGS = ("hip", "knee", "ankle", "toe", "heel", "foot", "pelvis")
_ARMS = ("elbow", "wrist", "pinky", "index", "thumb", "hand")
MISSING = {
    "whole": lambda name: False,
    "no legs": lambda name: any(p in name for p in _LEGS),
    "head, shoulders": lambda name: any(p in name for p in _LEGS + _ARMS),
    "legs only": lambda name: not any(p in name for p in _LEGS),
    "one arm": lambda name: name.startswith("left") and any(p in name for p in _ARMS),
}
"""What of a body is not seen, by the name of a keypoint."""
JOINTS = {
    "trunk": ("hip", "spine", "neck", "head", "collar", "shoulder"),
    "middle": ("elbow", "knee"),
    "ends": ("wrist", "ankle", "hand", "foot"),
}


@dataclass(frozen=True)
class Sight:
    """What is seen of the people."""

    name: str
    layout: str
    xyc: torch.Tensor
    joints: torch.Tensor
    """The truth, (B, J, 3) metres, camera axes."""
    lift: torch.Tensor | None = None
    cameras: tuple[CalibratedCamera, ...] | None = None
    points: torch.Tensor | None = None
    betas: torch.Tensor | None = None


def sights(who: People, layouts: tuple[str, ...], seed: int) -> Iterator[Sight]:
    """Every layout's whole bodies and those of no legs; the first two layouts' other parts, and turned in the picture;
    the second by several cameras, in 3D, and with its shape known."""
    for i, layout in enumerate(layouts):
        for part, is_missing in MISSING.items():
            if i > 1 and part not in ("whole", "no legs"):
                continue
            missing = torch.tensor([is_missing(name) for name in layout_names(layout)])
            xyc, lift = who.xyc[layout].clone(), who.lift[layout].clone()
            xyc[:, missing, 2], lift[:, missing] = 0, torch.nan
            yield Sight(part, layout, xyc, who.joints)
            yield Sight(part, layout, xyc, who.joints, lift)
        for name, roll in (("lying", math.pi / 2), ("upside down", math.pi)):
            if i < 2:
                R = torch.tensor([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
                xyc, joints = who.xyc[layout].clone(), who.joints.clone()
                xyc[..., :2] = (xyc[..., :2] - 500) @ R.T + 500
                joints[..., :2] = joints[..., :2] @ R.T
                yield Sight(name, layout, xyc, joints)
    layout, rng = layouts[min(1, len(layouts) - 1)], np.random.default_rng(seed)
    yield Sight("shape known", layout, who.xyc[layout], who.joints, betas=who.params.betas)
    # Several cameras around a place 5 m before the first, the people brought there; 4 px of noise.
    moved = torch.tensor([0.0, 0.0, 5.0]) - who.joints[:, :1]
    points = (who.points[layout] + moved).double().numpy()
    for count in (2, 4):
        cameras = tuple(_camera(2 * math.pi * c / count) for c in range(count))
        xy = np.stack([camera.project(np.nan_to_num(points)) for camera in cameras], 1)
        seen = np.isfinite(points).all(2)[:, None] & (rng.random(xy.shape[:3]) > 0.05)
        xyc = np.concatenate([xy + rng.normal(0, 4, xy.shape), seen[..., None]], 3)
        yield Sight(f"{count} cameras", layout, torch.tensor(xyc).float(), who.joints + moved, cameras=cameras)
    measured = torch.tensor(points + rng.normal(0, 0.02, points.shape)).float()
    nothing = torch.zeros(*measured.shape)
    yield Sight("3D points", layout, nothing, who.joints + moved, points=measured)


def _camera(angle: float) -> CalibratedCamera:
    cos, sin = math.cos(angle), math.sin(angle)
    R = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    K = np.array([[FOCAL_PX, 0, SIZE[0] / 2], [0, FOCAL_PX, SIZE[1] / 2], [0, 0, 1]])
    return CalibratedCamera(K=K, R=R, t=np.array([0, 0, 5.0]) - R @ [0, 0, 5.0])


def marked(sight: Sight, names: tuple[str, ...]) -> np.ndarray:
    """(B, J) whether a joint's own keypoint is seen by any camera."""
    confidence = sight.xyc[..., 2].amax(1) if sight.xyc.ndim == 4 else sight.xyc[..., 2]
    seen = np.zeros((len(sight.xyc), len(names)), bool)
    for k, entry in enumerate(correspondence(sight.layout)):
        if len(entry) == 1 and (name := next(iter(entry))) in names:
            seen[:, names.index(name)] |= confidence[:, k].numpy() >= 0.1
    return seen


def ratio(error: np.ndarray, sd: np.ndarray, where: np.ndarray) -> float:
    """Root mean square of the errors over that of the deviations; NaN of fewer than 50."""
    return math.sqrt((error[where] ** 2).mean() / (sd[where] ** 2).mean()) if where.sum() >= 50 else math.nan


def fitted(sight: Sight, fitter: Fitter) -> FitResult:
    """Everybody by themselves."""
    view = {} if sight.cameras else {"image_size": SIZE, "focal_px": FOCAL_PX}
    more = {"joints3d": sight.lift, "cameras": sight.cameras, "points3d": sight.points, "betas": sight.betas}
    return fitter(sight.xyc, **view, **more)


def track_sights(films: list[Film], layout: str) -> Iterator[tuple[Sight, list[int]]]:
    """What is seen of people in clips, and how many frames each clip has: all, with gaps of a third of a second every
    one and a third, and no legs; with and without a lift."""
    lengths = [len(film) for film in films]
    whole, lifts, joints = (torch.cat([getattr(film, name) for film in films]) for name in ("xyc", "lift", "joints"))
    in_gap = torch.cat([torch.arange(n) % 40 >= 30 for n in lengths])
    legs = torch.tensor([MISSING["no legs"](name) for name in layout_names(layout)])
    for name, missing in (
        ("clip", torch.zeros_like(whole[..., 2], dtype=torch.bool)),
        ("clip with gaps", in_gap[:, None].expand(whole.shape[:2])),
        ("clip, no legs", legs.expand(whole.shape[:2])),
    ):
        xyc, lift = whole.clone(), lifts.clone()
        xyc[missing], lift[missing] = 0, torch.nan
        yield Sight(name, layout, xyc, joints), lengths
        yield Sight(name, layout, xyc, joints, lift), lengths


def fitted_tracks(sight: Sight, lengths: list[int], fitter: SequenceFitter) -> FitResult:
    """Each clip as a whole."""
    ends = np.cumsum([0, *lengths])
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    view = {"image_size": SIZE, "focal_px": FOCAL_PX, "fps": FPS}
    lifts = [None if sight.lift is None else sight.lift[part] for part in parts]
    return join([fitter(sight.xyc[p], joints3d=lift, **view) for p, lift in zip(parts, lifts, strict=True)])


def judge(sight: Sight, result: FitResult, names: tuple[str, ...]) -> tuple[list[str], list[float]]:
    """A row of the table, and every ratio in it; `names` of the model's joints."""
    assert result.joints_sd_m is not None
    assert result.joints_sd_rel_m is not None
    n = result.joints_sd_m.shape[1]
    names = names[:n]
    ok = torch.isfinite(result.joints).all(2).all(1).numpy()
    found, truth = result.joints[:, :n], sight.joints[:, :n]
    in_space = (found - truth).norm(dim=2).numpy()[ok]
    error = (found - found[:, :1] - truth + truth[:, :1]).norm(dim=2).numpy()[ok]
    sd, sd_space = result.joints_sd_rel_m.numpy()[ok], result.joints_sd_m.numpy()[ok]
    every = np.broadcast_to(np.arange(n) > 0, error.shape)  # the pelvis is off by nothing from itself
    kinds = [np.array([any(p in name for p in parts) for name in names]) for parts in JOINTS.values()]
    own, depth = marked(sight, names)[ok], truth[ok][:, :1, 2].numpy()
    edges = np.quantile(sd[every], [0.2, 0.4, 0.6, 0.8])
    fifth = np.searchsorted(edges, sd)
    groups = {
        "all": [every],
        "kinds": [every & kind for kind in kinds],
        "seen": [every & own, every & ~own],
        "far": [every & (depth < 4), every & (depth > 6)],
        "fifths": [every & (fifth == i) for i in range(5)],
    }
    ratios = {key: [ratio(error, sd, where) for where in masks] for key, masks in groups.items()}
    rank = spearmanr(error[every], sd[every]).statistic
    space = ratio(in_space, sd_space, np.ones_like(every))
    pa = np.nanmean(metrics.pa_mpjpe(result.joints, sight.joints).per_item)
    rms = [1e3 * math.sqrt((v[every] ** 2).mean()) for v in (error, sd)]
    how = " + lift" if sight.lift is not None else ""
    cells = [sight.layout, sight.name + how, f"{ok.mean():.0%}", f"{pa:.0f}", *(f"{v:.0f}" for v in rms)]
    cells += [" ".join("-" if math.isnan(v) else f"{v:.2f}" for v in values) for values in ratios.values()]
    everything = [*(v for values in ratios.values() for v in values), space]
    return [*cells, f"{rank:.2f}", f"{space:.2f}"], [v for v in everything if math.isfinite(v)]


def results(args, model, layouts, config, paths, training, held_out) -> Iterator[tuple[Sight, FitResult]]:
    """What is seen of people or of clips, and what was made of it."""
    if paths is not None:
        for layout in layouts[:2]:
            films = [film(path, model, layout, seed=args.seed, frames=args.frames) for path in paths]
            fitter = SequenceFitter(layout=layout, model=model, config=config)
            for sight, lengths in track_sights(films, layout):
                yield sight, fitted_tracks(sight, lengths, fitter)
        return
    who = people(held_out if args.split == "held-out" else training, args.people, model, layouts, seed=args.seed)
    fitters = {layout: Fitter(layout=layout, model=model, config=config) for layout in layouts}
    for sight in sights(who, layouts, args.seed):
        yield sight, fitted(sight, fitters[sight.layout])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--split", choices=["held-out", "train"], default="held-out")
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    parser.add_argument("--tracks", type=int, default=0, help="fit so many clips as wholes instead of people alone")
    parser.add_argument("--frames", type=int, default=120, help="of a clip at most")
    args = parser.parse_args()
    model, layouts = bodyfit.load_model(), tuple(args.layouts.split(","))
    training, held_out = split(args.clips)
    chosen = f"{args.people} people of {args.split} clips"
    if args.tracks:
        paths = clip_paths(args.clips, held_out=args.split == "held-out")
        paths = paths[:: max(len(paths) // args.tracks, 1)][: args.tracks]
        chosen = f"{len(paths)} {args.split} clips as wholes"
    table = Table(
        *("layout", "what is seen", "fitted", "PA mm", "rms mm", "foretold", "ratio", "trunk middle ends"),
        *("seen, not", "near, far", "by fifths", "rank", "in space"),
        title=f"error over foretold deviation, {chosen}",
    )
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        config = FitConfig(pose_prior=trained_prior(training, Path(folder)))
        for sight, result in results(args, model, layouts, config, paths if args.tracks else None, training, held_out):
            cells, values = judge(sight, result, model.skeleton.names)
            table.add_row(*cells)
            ratios += values
    Console(width=200).print(table)
    low, high = min(ratios), max(ratios)
    within = np.mean([0.5 <= r <= 2 for r in ratios])
    harness.write_json(args, {"ratios": len(ratios), "least": low, "most": high, "share_within_0.5_to_2": within})
    print(f"{len(ratios)} ratios from {low:.2f} to {high:.2f}, {within:.1%} of them within 0.5 to 2")


if __name__ == "__main__":
    main()
