"""Whether drawn scenes are as hard for the detector and the fit as footage is, by size of the person and by view.

    bodyfit scene -n 500 --people 1:4 --seed 7 --labels masks -o data
    python -m scripts.bench.scenes.as_real data --footage DEMO [--landmarks FILE] [--limit N] [--json FILE]

Scenes have exact truth. The footage is that of multiview.py, four calibrated cameras about one balancing man; each
limb's place is triangulated from three cameras and measured in the fourth, and its pictures are looked at in full, at a
half and at a quarter of their resolution, for other sizes. Both are detected and fitted alike, in one view, focal
length known. Errors are those of shoulders, elbows, wrists, hips, knees and ankles: in the picture, in per cent of the
longer side of the box about them, where they are visible; of the fit PA-MPJPE, mm. Views are those of the trunk: front
within 45 degrees, side, back. Of scenes people count of whom eight of the twelve are visible.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from bodyfit.app.pipeline import rotation_to_ray
from bodyfit.detect import load_detector
from bodyfit.evaluate import metrics
from bodyfit.fit.fitter import Fitter
from bodyfit.images.frame import Frame, read_image
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names
from scripts.bench.multiview import LIMBS, delays, frames_of, read_views, remembered_landmarks, straight, triangulated
from scripts.bench.records import harness

SIZES_PX = (0, 150, 300, 10_000)
VIEWS = ("front", "side", "back")
SCALES = (1.0, 0.5, 0.25)
_COCO = [layout_names("coco17").index(layout_names("mediapipe33")[row]) for row in LIMBS]
_APART = 0.25
"""A person of whom the limbs are farther from the truth than this part of the box, at the median, is somebody else."""
_VISIBLE = 8
_MOST_PX = 30.0
"""A triangulated joint is used where the views agree so far, in full resolution."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Limbs (12) of one person in one picture."""

    xy_px: np.ndarray
    cam_m: np.ndarray
    """Camera axes: x right, y down, z away."""
    visible: np.ndarray
    known: np.ndarray
    """Joints whose place in 3D is known."""

    @property
    def size_px(self) -> float:
        """The longer side of the box about the limbs."""
        return float(np.ptp(self.xy_px[self.known], axis=0).max())

    @property
    def view(self) -> str:
        """From where the trunk is seen."""
        left = self.cam_m[[0, 6]].mean(0) - self.cam_m[[1, 7]].mean(0)
        up = self.cam_m[:2].mean(0) - self.cam_m[6:8].mean(0)
        ahead = np.cross(left, up)
        to_camera = -self.cam_m[[0, 1, 6, 7]].mean(0)
        axis = up / np.linalg.norm(up)
        ahead, to_camera = (v - (v @ axis) * axis for v in (ahead, to_camera))
        cosine = ahead @ to_camera / (np.linalg.norm(ahead) * np.linalg.norm(to_camera))
        return VIEWS[0 if cosine > np.sqrt(0.5) else 2 if cosine < -np.sqrt(0.5) else 1]


@dataclass(frozen=True, eq=False)
class Row:
    """What was measured on one person."""

    size_px: float
    view: str
    found: bool
    limbs: np.ndarray
    """Errors of the visible ones, per cent of the size; empty where nobody was found."""
    pa_mm: float
    """NaN where there is no fit, or too little truth."""


def scene_pictures(folder: Path, limit: int | None) -> Iterator[tuple[Frame, float, tuple[float, float], list[Truth]]]:
    """Each scene's picture, focal length, middle and people."""
    for path in sorted((folder / "scenes").glob("[0-9]*.json"))[:limit]:
        record = json.loads(path.read_text(encoding="utf-8"))
        image, people = record["image"], []
        for one in record["annotations"]:
            xyv = np.asarray(one["keypoints"], float).reshape(17, 3)[_COCO]
            cam = np.array([[np.nan if c is None else c for c in row] for row in one["keypoints_cam_m"]])[_COCO]
            inside = xyv[:, 2] > 0
            if (xyv[:, 2] == 2).sum() >= _VISIBLE:
                xy = np.where(inside[:, None], xyv[:, :2] + 0.5, np.nan)
                people.append(Truth(xy, cam, xyv[:, 2] == 2, inside))
        middle = (image["width"] / 2, image["height"] / 2)
        yield read_image(folder / image["file_name"]), image["focal_px"], middle, people


def footage_pictures(
    demo: Path, landmarks: Path | None, every: int, detector
) -> Iterator[tuple[Frame, float, tuple[float, float], list[Truth]]]:
    """The same of four cameras, at each scale, with limbs triangulated from the other three cameras.

    Pictures are without the lenses' distortion.
    """
    views = read_views(next(demo.glob("calibration/*.qca.txt")))
    first = remembered_landmarks(demo, views, landmarks)
    dense = straight(np.nan_to_num(first["xyc"]), views)
    shift = delays(dense, views)
    times = np.arange(8, dense.shape[1] - 8, every)
    found, pictures = np.zeros((len(views), len(times), 33, 3)), []
    for c, view in enumerate(views):
        frames = frames_of(demo / "videos" / f"{view.name}.mp4")
        pictures.append([cv2.undistort(frames[t + shift[c]], view.K, view.distortion) for t in times])
        for i, picture in enumerate(pictures[c]):
            people = detector.detect([Frame(picture)])[0]
            if people:  # the largest: others stand in the background
                found[c, i] = people[0].xyc
    for c, view in enumerate(views):
        others = [k for k in range(len(views)) if k != c]
        points, spread = triangulated(found[others][:, :, LIMBS], [views[k] for k in others])
        cam = (points - view.C_m) @ view.R.T
        xy = cam @ view.K.T
        xy = xy[..., :2] / xy[..., 2:]
        for i, scale in ((i, scale) for i in range(len(times)) for scale in SCALES):
            known = spread[i] < _MOST_PX
            if known.sum() >= 10 and known[[0, 1, 6, 7]].all():
                small = cv2.resize(pictures[c][i], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                truth = Truth(scale * xy[i], cam[i], known, known)
                middle = scale * view.K[:2, 2]
                yield Frame(small), scale * float(view.K[0, 0]), (float(middle[0]), float(middle[1])), [truth]


def measured(
    frame: Frame, focal_px: float, middle: tuple[float, float], people: list[Truth], detector, fitter
) -> list[Row]:
    """Detect and fit the people of a picture."""
    seen = list(detector.detect([frame])[0])
    rows = []
    for truth in sorted(people, key=lambda one: -one.size_px):
        distances = [
            float(np.median(np.linalg.norm(one.xyc[LIMBS, :2] - truth.xy_px, axis=1)[truth.known])) for one in seen
        ]
        best = int(np.argmin(distances)) if distances else -1
        if best < 0 or distances[best] > _APART * truth.size_px:
            rows.append(Row(truth.size_px, truth.view, False, np.zeros(0), np.nan))
            continue
        person = seen.pop(best)
        off = np.linalg.norm(person.xyc[LIMBS, :2] - truth.xy_px, axis=1)[truth.visible]
        rows.append(
            Row(
                truth.size_px,
                truth.view,
                True,
                100 * off / truth.size_px,
                _fit_error(person, focal_px, middle, frame.size, truth, fitter),
            )
        )
    return rows


def _fit_error(
    person: Keypoints2D,
    focal_px: float,
    middle: tuple[float, float],
    size: tuple[int, int],
    truth: Truth,
    fitter: Fitter,
) -> float:
    """PA-MPJPE of the limbs of one fit, mm."""
    lift = None
    if person.lift_m is not None and person.lift_centre_px is not None:
        ray = ((np.array(person.lift_centre_px) - middle) / focal_px).tolist()
        lift = (person.lift_m @ rotation_to_ray((*ray, 1.0)).T)[None]
    fit = fitter(person.xyc[None], joints3d=lift, image_size=size, focal_px=focal_px, principal_point_px=middle)
    joints = fitter.model.keypoints(fit.params, "mediapipe33")[:, LIMBS].double().numpy()
    known = truth.known & np.isfinite(truth.cam_m).all(1)
    return float(metrics.pa_mpjpe(joints, truth.cam_m[None], mask=known[None]).per_item[0])


def bins(rows: list[Row]) -> dict[str, list[Row]]:
    """People by size and by view."""
    named = {"all": rows}
    for low, high in pairwise(SIZES_PX):
        name = f"{low} px and more" if high == SIZES_PX[-1] else f"{low} to {high} px"
        named[name] = [row for row in rows if low <= row.size_px < high]
    return named | {view: [row for row in rows if row.view == view] for view in VIEWS}


def summary(rows: list[Row]) -> dict[str, float | int | None]:
    """Count people and average their errors; None where there are none."""

    def number(values: np.ndarray, of) -> float | None:
        return None if not len(values) else float(of(values))

    limbs = np.concatenate([row.limbs for row in rows] or [np.zeros(0)])
    pa = np.array([row.pa_mm for row in rows if np.isfinite(row.pa_mm)])
    return {
        "people": len(rows),
        "found_percent": number(np.array([100.0 * row.found for row in rows]), np.mean),
        "limbs_median_percent": number(limbs, np.median),
        "limbs_mean_percent": number(limbs, np.mean),
        "pa_mpjpe_mm": number(pa, np.mean),
        "pa_mpjpe_median_mm": number(pa, np.median),
    }


def main() -> None:
    """Measure both, print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", type=Path, help="a folder of bodyfit scene")
    parser.add_argument("--footage", type=Path, help="Pose2Sim's Demo_SinglePerson")
    parser.add_argument("--landmarks", type=Path, help="keep what synchronises the cameras here, or take it from here")
    parser.add_argument("--every", type=int, default=6, help="frames of the footage from one to the next that is used")
    parser.add_argument("--limit", type=int, help="the first so many scenes alone")
    harness.add_json_option(parser)
    args = parser.parse_args()
    detector, fitter = load_detector("movenet"), Fitter(layout="mediapipe33")
    sources = {"scenes": scene_pictures(args.scenes, args.limit)}
    if args.footage:
        sources["footage"] = footage_pictures(args.footage, args.landmarks, args.every, detector)
    results = {}
    for name, pictures in sources.items():
        rows = [row for picture in pictures for row in measured(*picture, detector, fitter)]
        results[name] = {bin_: summary(some) for bin_, some in bins(rows).items()}
    show(results)
    harness.write_json(args, results)


def show(results: dict[str, dict[str, dict[str, float | int | None]]]) -> None:
    """Print a table."""
    table = Table(
        "", *(f"{source}: {what}" for source in results for what in ("people", "found %", "limbs %", "PA mm"))
    )
    for bin_ in results["scenes"]:
        cells = []
        for source in results.values():
            row = source[bin_]
            pairs = ("limbs_median_percent", "limbs_mean_percent"), ("pa_mpjpe_median_mm", "pa_mpjpe_mm")
            cells += [str(row["people"]), "-" if row["found_percent"] is None else f"{row['found_percent']:.1f}"]
            cells += ["-" if row[a] is None else f"{row[a]:.1f}, mean {row[b]:.1f}" for a, b in pairs]
        table.add_row(bin_, *cells)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
