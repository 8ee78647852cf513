"""How much better a track is fitted at once than frame by frame, on clips of known motion, and how fast.

Each clip is seen through a made-up detector (`synthetic_clips.py`); the same keypoints and lift go to `fit_keypoints`
frame by frame and to `fit_sequence`. The pose prior is trained on the training clips, unless `--prior shipped`; clips
that are held out are judged, unless `--split train` asks for those that settings are chosen on.

    python -m scripts.bench.clips CLIPS [--frames 120] [--split held-out|train] [--layouts mediapipe33,...]
    python -m scripts.bench.clips CLIPS --speed           # fit time at T = 60, 240, 960
    python -m scripts.bench.clips CLIPS --focal           # the focal length found from wrong guesses
    python -m scripts.bench.clips CLIPS --statistics      # how joints accelerate: fit/residuals/motion.py's table
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import roma
import torch
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.app.pipeline import rotation_to_ray
from bodyfit.evaluate import metrics
from bodyfit.fit.config import FitConfig, SequenceConfig
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.sequence.fitter import SequenceFitter
from bodyfit.fit.sequence.focal import Focal
from bodyfit.skeleton import SMPL
from scripts.bench.accuracy import trained_prior
from scripts.bench.inputs.synthetic_clips import FPS, Film, clip_paths, film, read_motion
from scripts.bench.inputs.synthetic_people import FOCAL_PX, SIZE, split
from scripts.bench.records import harness

_BENDING = ("left_knee", "right_knee", "left_elbow", "right_elbow")
_PEAK_RAD = 0.8
"""Bends of knees and elbows that are at least this deeper than the lowest angle about them are looked at."""


@dataclass(frozen=True)
class Scores:
    """Of one clip."""

    pa_mm: float
    mpjpe_mm: float
    acceleration: float
    """Mean distance of second differences about the pelvis, mm/frame^2."""
    shape_sd: float
    """Largest standard deviation of a beta over the frames."""
    skate_mm: float
    """How far feet go in a frame while those of the truth stand (move by less than 3 mm), mm."""
    lag_frames: float
    """Where the cross-correlation of the joints' velocities with the truth's peaks."""
    peaks: list[float]
    """Highest angle of each fast bend of a knee or elbow in parts of the truth's."""


def bends(pose: np.ndarray) -> np.ndarray:
    """(T, 4) how far knees and elbows are bent, radians."""
    rows = [SMPL.index(name) - 1 for name in _BENDING]
    return np.linalg.norm(pose.reshape(len(pose), -1, 3)[:, rows], axis=2)


def lag(found: np.ndarray, truth: np.ndarray) -> float:
    """The shift, in frames, of joints found (T, J, 3) at which their velocities go best with the truth's; the peak of
    the cross-correlation lies between frames where a parabola through its three highest points has its top."""
    a, b = (np.diff(v - v[:, :1], axis=0) for v in (found, truth))
    shifts, n = np.arange(-4, 5), len(a)
    score = [
        float((a[max(0, s) : n + min(0, s)] * b[max(0, -s) : n + min(0, -s)]).sum() / (n - abs(s))) for s in shifts
    ]
    k = int(np.argmax(score))
    if not 0 < k < len(shifts) - 1:
        return float(shifts[k])
    before, at, after = score[k - 1 : k + 2]
    return float(shifts[k] + 0.5 * (before - after) / (before - 2 * at + after))


def peaks(found: np.ndarray, truth: np.ndarray) -> list[float]:
    """For each fast peak of the truth (bent by 0.8 rad more than somewhere within 0.3 s), the highest angle found about
    it in parts of the truth's."""
    reach, ratios = round(0.3 * FPS), []
    for f, t in zip(found.T, truth.T, strict=True):
        for at in range(reach, len(t) - reach):
            about = slice(at - reach, at + reach + 1)
            if t[at] < t[about].max() or t[at] - t[about].min() < _PEAK_RAD:
                continue
            ratios.append(float(f[at - 3 : at + 4].max() / t[at]))
    return ratios


def scores(result: bodyfit.FitResult, who: Film) -> Scores:
    """All of them."""
    found, truth = (p.body_pose.double().numpy() for p in (result.params, who.params))
    feet = [SMPL.index(name) for name in ("left_foot", "right_foot")]
    moves = [(j[1:, feet] - j[:-1, feet]).norm(dim=2).numpy() for j in (result.joints, who.joints)]
    stands = moves[1] < 0.003
    ok = np.isfinite(found).all(1)
    return Scores(
        float(np.nanmean(metrics.pa_mpjpe(result.joints, who.joints).per_item)),
        float(np.nanmean(metrics.mpjpe(result.joints, who.joints, root=0).per_item)),
        float(np.nanmean(metrics.acceleration_error(result.joints, who.joints, root=0, fps=None).per_item)),
        float(result.params.betas[torch.from_numpy(ok)].std(0).max()),
        float(1e3 * np.nanmean(moves[0][stands])) if stands.any() else float("nan"),
        lag(result.joints.double().numpy(), who.joints.double().numpy()) if ok.all() else float("nan"),
        peaks(bends(found), bends(truth)) if ok.all() else [],
    )


def compare(films: list[Film], layout: str, config: FitConfig, model: bodyfit.BodyModel) -> dict[str, list[Scores]]:
    """Scores of the clips frame by frame and at once."""
    alone = Fitter(layout=layout, model=model, config=replace(config, uncertainty=False))
    together = SequenceFitter(layout=layout, model=model, config=config)
    answer: dict[str, list[Scores]] = {"frame by frame": [], "at once": []}
    for who in films:
        seen = {"image_size": SIZE, "focal_px": FOCAL_PX, "joints3d": who.lift}
        answer["frame by frame"].append(scores(alone(who.xyc, **seen), who))
        answer["at once"].append(scores(together(who.xyc, fps=FPS, **seen), who))
    return answer


def means(scores: list[Scores]) -> dict[str, float]:
    """The numbers of the table's row."""
    bent = [p for s in scores for p in s.peaks]
    names = ("pa_mm", "mpjpe_mm", "acceleration", "skate_mm")
    row = {name: float(np.nanmean([getattr(s, name) for s in scores])) for name in names}
    row |= {"shape_sd": max(s.shape_sd for s in scores), "peaks": float(np.median(bent)) if bent else math.nan}
    return row | {"lag_frames": float(np.nanmedian([s.lag_frames for s in scores]))}


def show(answer: dict[str, list[Scores]], title: str) -> None:
    """A table."""
    table = Table(title=title)
    for name in (
        "",
        "PA-MPJPE mm",
        "MPJPE mm",
        "acc. mm/frame²",
        "sd of betas",
        "skate mm/frame",
        "lag frames",
        "peaks",
    ):
        table.add_column(name, justify="left" if not name else "right")
    for name, found in answer.items():
        bent = [p for s in found for p in s.peaks]
        row = [np.nanmean([getattr(s, k) for s in found]) for k in ("pa_mm", "mpjpe_mm", "acceleration")]
        row += [max(s.shape_sd for s in found), np.nanmean([s.skate_mm for s in found])]
        row += [np.nanmedian([s.lag_frames for s in found])]
        deep = f"{np.median(bent):.2f} ({len(bent)})" if bent else "-"
        table.add_row(name, *(f"{value:.2f}" for value in row), deep)
    Console(width=130).print(table)


def guessed_lift(who: Film, factor: float) -> torch.Tensor:
    """The lift as it comes to camera axes with a focal length `factor` times the true one: a detector's lift is that of
    a camera that looks straight at the person (`pipeline.lift_to_camera`)."""
    shown = (who.xyc[..., 2:] > 0).to(who.xyc)
    middle = (shown * who.xyc[..., :2]).sum(1) / shown.sum(1).clamp_min(1) - torch.tensor(SIZE) / 2
    turns = []
    for x, y in (middle / FOCAL_PX).tolist():
        turns.append(rotation_to_ray((x / factor, y / factor, 1.0)) @ rotation_to_ray((x, y, 1.0)).T)
    return who.lift @ torch.tensor(np.array(turns)).to(who.lift).mT


def focal(films: list[Film], layout: str, config: FitConfig, model: bodyfit.BodyModel) -> dict:
    """How far focal length and depth are off, as guessed and as found."""
    table = Table(title=f"focal length, {layout}, {len(films)} clips")
    for name in (
        "guess",
        "found (median)",
        "off by",
        "depth off, guess",
        "depth off, found",
        "PA mm, guess",
        "PA mm, found",
    ):
        table.add_column(name, justify="right")
    sequence = SequenceConfig(focal_frames=32)
    fitter = SequenceFitter(layout=layout, model=model, config=config, sequence=sequence)
    answer = {}
    for factor in (0.7, 0.85, 1.0, 1.2, 1.4):
        found, off = [], []
        for who in films:
            at = FOCAL_PX * factor
            seen = {"image_size": SIZE, "fps": FPS}
            believed = Focal(at, fitter.focal_precision(who.xyc))
            better = fitter.focal(who.xyc, believed=believed, joints3d=guessed_lift(who, factor), **seen).px
            row = []
            for px in (at, better):
                lift = guessed_lift(who, px / FOCAL_PX)
                result = fitter(who.xyc, focal_px=px, joints3d=lift, **seen)
                z = result.joints[:, 0, 2] / who.joints[:, 0, 2]
                pa = metrics.pa_mpjpe(result.joints, who.joints).per_item
                row += [float(np.nanmedian(np.abs(z - 1))), float(np.nanmean(pa))]
            found.append(better / FOCAL_PX)
            off.append(row)
        log = np.abs(np.log(found))
        depth, pa, depth_found, pa_found = np.mean(off, 0)
        cells = [f"{factor:.2f}", f"{np.median(found):.2f}", f"{100 * np.expm1(np.median(log)):.0f} %"]
        cells += [f"{100 * depth:.0f} %", f"{100 * depth_found:.0f} %", f"{pa:.1f}", f"{pa_found:.1f}"]
        table.add_row(*cells)
        answer[factor] = {"found": np.median(found), "pa_mm_guess": pa, "pa_mm_found": pa_found}
    Console(width=110).print(table)
    return answer


def speed(who: Film, layout: str, model: bodyfit.BodyModel) -> dict[str, float]:
    """Fit time by length, the clip repeated forwards and backwards."""
    table = Table(title=f"fit time, {layout}, {torch.get_num_threads()} threads")
    for name in ("frames", "seconds", "ms a frame"):
        table.add_column(name, justify="right")
    fitter = SequenceFitter(layout=layout, model=model)
    ms_a_frame = {}
    there = torch.cat([torch.arange(len(who)), torch.arange(len(who)).flip(0)])
    for n in (60, 60, 240, 960):
        rows = there.repeat(n // len(there) + 1)[:n]
        begin = time.perf_counter()
        fitter(who.xyc[rows], image_size=SIZE, focal_px=FOCAL_PX, joints3d=who.lift[rows], fps=FPS)
        seconds = time.perf_counter() - begin
        ms_a_frame[f"ms_a_frame_of_{n}"] = 1e3 * seconds / n
        table.add_row(str(n), f"{seconds:.2f}", f"{1e3 * seconds / n:.1f}")
    Console(width=100).print(table)
    return ms_a_frame


def statistics(clips: Path) -> dict[str, list[float]]:
    """Angular accelerations of joints, rad/s^2, and the translation's, m/s^2, of the training clips."""
    table = Table(title="accelerations at 30 frames/s (any axis)")
    for name in ("joint", "median", "root mean square"):
        table.add_column(name, justify="left" if name == "joint" else "right")
    turns, moves = [], []
    for path in clip_paths(clips, held_out=False):
        body, root, trans = read_motion(path)
        R = roma.rotvec_to_rotmat(torch.tensor(np.concatenate([root[:, None], body], 1)))
        omega = roma.rotmat_to_rotvec(R[:-1].mT @ R[1:]).numpy()
        turns.append(FPS**2 * np.diff(omega, axis=0))
        moves.append(FPS**2 * np.diff(trans, n=2, axis=0))
    everything = {"translation": np.concatenate(moves)}
    everything |= {name: np.concatenate(turns)[:, j] for j, name in enumerate(SMPL.names)}
    found = {}
    for name, a in everything.items():
        found[name] = [float(np.median(np.linalg.norm(a, axis=1))), float(np.sqrt(np.square(a).sum(1).mean()))]
        table.add_row(name, *(f"{value:.1f}" for value in found[name]))
    Console(width=100).print(table)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--frames", type=int, default=120, help="of a clip at most")
    parser.add_argument("--every", type=int, default=1, help="only every n-th clip")
    parser.add_argument("--split", choices=["held-out", "train"], default="held-out")
    parser.add_argument("--prior", choices=["trained", "shipped"], default="trained")
    parser.add_argument("--layouts", default="mediapipe33")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--focal", action="store_true")
    parser.add_argument("--statistics", action="store_true")
    harness.add_json_option(parser)
    args = parser.parse_args()
    if args.statistics:
        harness.write_json(args, statistics(args.clips))
        return
    model, layouts = bodyfit.load_model(), args.layouts.split(",")
    paths = clip_paths(args.clips, held_out=args.split == "held-out")[:: args.every]
    if args.speed:
        longest = film(paths[-1], model, layouts[0], seed=args.seed, frames=args.frames)
        harness.write_json(args, speed(longest, layouts[0], model))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        config = FitConfig()
        if args.prior == "trained":
            config = FitConfig(pose_prior=trained_prior(split(args.clips)[0], Path(folder)))
        for layout in layouts:
            films = [film(path, model, layout, seed=args.seed, frames=args.frames) for path in paths]
            if args.focal:
                found[layout] = focal(films, layout, config, model)
                continue
            answer = compare(films, layout, config, model)
            show(answer, f"{layout}, {len(films)} {args.split} clips, {sum(map(len, films))} frames")
            found[layout] = {"clips": len(films), **{name: means(some) for name, some in answer.items()}}
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
