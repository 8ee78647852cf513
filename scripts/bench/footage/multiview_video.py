"""How right fits of whole clips are on real footage, beside those of their single frames.

The footage, its reference and the moments that are judged are those of `scripts.bench.multiview`. Each camera's clip
goes by itself through what `bodyfit video` does: everyone is watched through all frames, and the trail of the largest
person is fitted at once. Lenses are straightened and the focal length is given, as for single frames. Judged are the
same people at the same moments by all methods:

- frame by frame: every moment a photograph by itself, as `bodyfit fit` takes it,
- tracked, frame by frame: the keypoints that watching the clip gives, fitted one by one,
- at once: these, by `fit_sequence`.

    python -m scripts.bench.footage.multiview_video DEMO [--sure-px 30] [--detector movenet] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.app.video import DETECT_SIDE_PX, watch_clip
from bodyfit.detect import load_detector
from bodyfit.detect.base import Detector
from bodyfit.fit.config import SequenceConfig
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.result import FitResult
from bodyfit.fit.sequence.fitter import SequenceFitter
from bodyfit.io import VideoReader
from bodyfit.tracker import height_px
from scripts.bench import multiview
from scripts.bench.records import harness

LAYOUT = "mediapipe33"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--every", type=int, default=3, help="frames from one to the next that is judged")
    parser.add_argument("--sure-px", type=float, default=15.0, help="as in scripts.bench.multiview")
    parser.add_argument("--landmarks", type=Path, help="keep what the reference is made of here, or take it from here")
    parser.add_argument("--detector", default="movenet")
    parser.add_argument("--no-learned-prior", action="store_true")
    harness.add_json_option(parser)
    args = parser.parse_args()
    demo, detector = args.demo, load_detector(args.detector)
    views = multiview.read_views(next(demo.glob("calibration/*.qca.txt")))
    marks = multiview.remembered_landmarks(demo, views, args.landmarks)
    pick, truth, spread = multiview.reference(marks, views, args.every)
    mask = spread < args.sure_px
    config = bodyfit.FitConfig.without_conditional_prior() if args.no_learned_prior else bodyfit.FitConfig()
    single = multiview.landmarks(demo, views, detector, pick)
    single["xyc"] = multiview.straight(np.nan_to_num(single["xyc"]), views)
    errors = []
    for c, view in enumerate(views):
        start = time.process_time()
        tracked = watched(demo / "videos" / f"{view.name}.mp4", view, detector)
        middle = time.process_time()
        frames = {name: single[name][c] for name in ("xyc", "lift", "centre")}
        errors.append(errors_of_view(view, single["sizes"][c], frames, tracked, pick[c], truth, mask, config))
        seen, end = (tracked["xyc"][..., 2] > 0).any(1), time.process_time()
        print(
            f"{view.name}: followed in {seen.sum()} of {len(seen)} frames; {middle - start:.0f} s of CPU watching, "
            f"{end - middle:.0f} fitting; betas {[round(float(b), 1) for b in tracked['betas']]}"
        )
    harness.write_json(args, report(errors))


def watched(clip: Path, view: multiview.View, detector: Detector) -> dict[str, np.ndarray]:
    """What watching a clip tells of the largest person: `xyc` (T, 33, 3), straightened and 0 where unseen, `lift`
    and `centre` as `multiview.landmarks` has them, and the rate `fps`."""
    found = watch_clip(VideoReader(clip, max_side_px=DETECT_SIDE_PX), detector)
    trail = max(found.trails, key=lambda trail: np.median([height_px(person) for person in trail.people]))
    n = int(found.frames[-1]) + 1
    xyc, lift, centre = np.zeros((n, 33, 3)), np.full((n, 33, 3), np.nan), np.full((n, 2), np.nan)
    for frame, person in zip(trail.frames, trail.people, strict=True):
        xyc[frame] = person.xyc
        if person.lift_m is not None and person.lift_centre_px is not None:
            lift[frame], centre[frame] = person.lift_m, person.lift_centre_px
    return {
        "xyc": multiview.straight(xyc[None], [view])[0],
        "lift": lift,
        "centre": centre,
        "fps": np.array(found.fps),
    }


def errors_of_view(
    view: multiview.View,
    size: np.ndarray,
    frames: dict[str, np.ndarray],
    tracked: dict[str, np.ndarray],
    pick: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray,
    config: bodyfit.FitConfig,
) -> dict[str, np.ndarray]:
    """PA-MPJPE and MPJPE (T', 2), mm, by method, of the moments at which the person was found both ways."""
    fitter, known = Fitter(layout=LAYOUT, config=config), multiview.camera_of(view, size)
    sequence = SequenceConfig(covariance=False)
    clip = SequenceFitter(layout=LAYOUT, config=config, sequence=sequence)
    some = {name: tracked[name][pick] for name in ("xyc", "lift", "centre")}
    rows = multiview.usable_moments(mask)
    rows &= (frames["xyc"][..., 2] > 0).any(1) & (some["xyc"][..., 2] > 0).any(1)
    lift = multiview.in_camera_axes(tracked["lift"], tracked["centre"], view)
    at_once = {"fps": float(tracked["fps"]), **known}
    whole = clip(tracked["xyc"], joints3d=lift, **at_once)
    tracked["betas"] = whole.params.betas[pick[rows][0]].numpy()
    found = {}
    for name, one in (("frame by frame", frames), ("tracked, frame by frame", some)):
        turned = multiview.in_camera_axes(one["lift"][rows], one["centre"][rows], view)
        found[f"{name}: 2D alone"] = fitter(one["xyc"][rows], **known)
        found[f"{name}: 2D and lift"] = fitter(one["xyc"][rows], joints3d=turned, **known)
    joints = {name: _joints(fitter, fit) for name, fit in found.items()}
    joints["tracked: the lift alone"] = lift[pick[rows]][:, multiview.LIMBS]
    joints["at once: 2D alone"] = _joints(fitter, clip(tracked["xyc"], **at_once))[pick[rows]]
    joints["at once: 2D and lift"] = _joints(fitter, whole)[pick[rows]]
    return {name: multiview.errors_of(one, truth[rows], mask[rows], view) for name, one in joints.items()}


def _joints(fitter: Fitter, fit: FitResult) -> np.ndarray:
    """The limbs' landmarks (T, 12, 3) of bodies."""
    return fitter.model.keypoints(fit.params, LAYOUT)[:, multiview.LIMBS].double().numpy()


def report(errors: Sequence[dict[str, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Print the table, and give its means: of the moments at which every method gave joints."""
    usable = [np.isfinite(np.stack(list(one.values()))).all((0, 2)) for one in errors]
    table, means = Table("", "people", "PA-MPJPE mm", "MPJPE mm", "by camera, PA-MPJPE mm"), {}
    for name in errors[0]:
        parts = [one[name][rows] for one, rows in zip(errors, usable, strict=True)]
        every = np.concatenate(parts)
        pa, mpjpe = every.mean(0)
        cameras = ", ".join(f"{part[:, 0].mean():.0f}" for part in parts)
        table.add_row(name, str(len(every)), f"{pa:.1f}", f"{mpjpe:.1f}", cameras)
        means[name] = {"views": len(every), "pa_mpjpe_mm": pa, "mpjpe_mm": mpjpe}
    Console(width=120).print(table)
    return means


if __name__ == "__main__":
    main()
