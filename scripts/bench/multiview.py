"""How right single-view fits are on real pictures: against joints triangulated from four calibrated cameras.

The footage is the demonstration of Pose2Sim (BSD-3-Clause): a person who walks along a beam and balances, filmed by
four cameras. `pip download --no-deps pose2sim`, unzip the wheel, and give the folder Pose2Sim/Demo_SinglePerson.

Every camera's landmarks (MediaPipe) are found on their own; the reference is where the four views agree. Each view is
then fitted alone, to the same landmarks or to those of another detector. Joints: shoulders, elbows, wrists, hips,
knees, ankles. MPJPE is about the middle of the hips.

    python -m scripts.bench.multiview DEMO [--every 3] [--sure-px 15] [--config default|smplify] [--json FILE]
    python -m scripts.bench.multiview DEMO --detector movenet:accurate
"""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import least_squares

import bodyfit
from bodyfit.app.pipeline import rotation_to_ray
from bodyfit.detect import load_detector
from bodyfit.detect.base import Detector
from bodyfit.detect.mediapipe import MediapipeDetector
from bodyfit.evaluate import metrics
from bodyfit.fit.fitter import Fitter
from bodyfit.images.frame import Frame
from scripts.bench.records import harness

LIMBS = np.array([11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
HIPS = (6, 7)  # rows of LIMBS


@dataclass(frozen=True)
class View:
    """One calibrated camera: pixels = K (R (X - C)), after undoing `distortion`; OpenCV axes."""

    name: str
    K: np.ndarray
    distortion: np.ndarray
    R: np.ndarray
    C_m: np.ndarray

    def undistorted(self, xy: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) of the same camera without distortion."""
        return cv2.undistortPoints(xy[:, None].astype(np.float64), self.K, self.distortion, P=self.K)[:, 0]

    @property
    def projection(self) -> np.ndarray:
        """The projection matrix, (3, 4)."""
        return self.K @ self.R @ np.concatenate([np.eye(3), -self.C_m[:, None]], 1)


def read_views(path: Path) -> list[View]:
    """Cameras of a Qualisys calibration: axes right, up, back; millimetres; intrinsics in 1/64 pixel."""
    views = []
    for camera in ET.parse(path).getroot().iter("camera"):
        pose = {k: float(v) for k, v in camera.find("transform").attrib.items()}
        lens = {k: float(v) for k, v in camera.find("intrinsic").attrib.items()}
        axes = np.array([[pose[f"r{i}{j}"] for j in (1, 2, 3)] for i in (1, 2, 3)])
        K = np.array(
            [
                [lens["focalLengthU"] / 64, 0, lens["centerPointU"] / 64],
                [0, lens["focalLengthV"] / 64, lens["centerPointV"] / 64],
                [0, 0, 1],
            ]
        )
        names = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
        views.append(
            View(
                camera.attrib["serial"],
                K,
                np.array([lens[n] for n in names]),
                np.diag([1.0, -1.0, -1.0]) @ axes,
                1e-3 * np.array([pose[a] for a in "xyz"]),
            )
        )
    return views


def frames_of(path: Path) -> list[np.ndarray]:
    """The pictures of a video, RGB."""
    video, pictures = cv2.VideoCapture(str(path)), []
    while (picture := video.read()[1]) is not None:
        pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    return pictures


def linear(xyc: np.ndarray, views: list[View]) -> tuple[np.ndarray, np.ndarray]:
    """Points (..., 3), metres, by linear triangulation of xyc (C, ..., 3), and their distances (C, ...) in pixels."""
    P = np.stack([view.projection for view in views]).reshape(len(views), *[1] * (xyc.ndim - 2), 3, 4)
    uv, weight = xyc[..., :2], xyc[..., 2]
    rows = np.concatenate([weight[..., None] * (uv[..., i : i + 1] * P[..., 2, :] - P[..., i, :]) for i in (0, 1)])
    x = np.linalg.eigh(np.einsum("c...i,c...j->...ij", rows, rows))[1][..., 0]
    x = x[..., :3] / x[..., 3:]
    h = np.einsum("c...ij,...j->c...i", P[..., :3], x) + P[..., 3]
    return x, np.linalg.norm(h[..., :2] / h[..., 2:] - uv, axis=-1)


def delays(xyc: np.ndarray, views: list[View], most: int = 8) -> list[int]:
    """By how many frames each camera started earlier than the first, for the footage is not quite synchronous."""
    shift, times = [0] * len(views), np.arange(most, xyc.shape[1] - most)

    def disagreement(shift: list[int]) -> float:
        return np.median(linear(np.stack([xyc[c][times + shift[c]][:, LIMBS] for c in range(len(views))]), views)[1])

    for _ in range(3):
        for c in range(1, len(views)):
            tried = [(disagreement([*shift[:c], k, *shift[c + 1 :]]), k) for k in range(-most, most + 1)]
            shift[c] = min(tried)[1]
    return shift


def triangulated(xyc: np.ndarray, views: list[View]) -> tuple[np.ndarray, np.ndarray]:
    """(T, K, 3) points, metres, that robustly fit the views (C, T, K, 3) best, and their median residuals, pixels."""
    points = linear(xyc, views)[0]
    P = np.stack([view.projection for view in views])
    spread = np.empty(points.shape[:2])
    for t, k in np.ndindex(*points.shape[:2]):
        uv, weight = xyc[:, t, k, :2], xyc[:, t, k, 2]

        def error(x: np.ndarray, uv=uv, weight=weight) -> np.ndarray:
            h = P[:, :, :3] @ x + P[:, :, 3]
            return (weight[:, None] * (h[:, :2] / h[:, 2:] - uv)).ravel()

        points[t, k] = least_squares(error, points[t, k], loss="cauchy", f_scale=5.0).x
        h = P[:, :, :3] @ points[t, k] + P[:, :, 3]
        spread[t, k] = np.median(np.linalg.norm(h[:, :2] / h[:, 2:] - uv, axis=1))
    return points, spread


def landmarks(
    demo: Path, views: list[View], detector: Detector | None = None, pick: list[np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """What a detector (MediaPipe if None) sees in all frames or those that are picked for each camera: `xyc` and `lift`
    (C, T, 33, 3), `scale` of the lift's error along the view (C, T, 33), `centre` (C, T, 2), NaN where nobody is or
    none is given; `sizes` (C, 2)."""
    found, sizes = [], []
    detector = MediapipeDetector(tiled=False) if detector is None else detector
    for c, view in enumerate(views):
        pictures = frames_of(demo / "videos" / f"{view.name}.mp4")
        sizes.append(pictures[0].shape[1::-1])
        pictures = pictures if pick is None else [pictures[t] for t in pick[c]]
        found.append([(people or [None])[0] for people in detector.detect([Frame(picture) for picture in pictures])])
    n = min(map(len, found))
    nothing, nowhere = np.full((33, 3), np.nan), (np.nan, np.nan)
    scales = [[None if p is None else p.lift_scale_m for p in row[:n]] for row in found]
    return {
        "xyc": np.array([[nothing if p is None else p.xyc for p in row[:n]] for row in found]),
        "lift": np.array([[nothing if p is None or p.lift_m is None else p.lift_m for p in row[:n]] for row in found]),
        "scale": np.array([[nothing[:, 0] if s is None else s[:, 1] for s in row] for row in scales]),
        "centre": np.array([[(p and p.lift_centre_px) or nowhere for p in row[:n]] for row in found]),
        "sizes": np.array(sizes),
    }


def remembered_landmarks(demo: Path, views: list[View], path: Path | None) -> dict[str, np.ndarray]:
    """`landmarks`, kept in a file or taken from there."""
    if path and path.exists():
        seen = dict(np.load(path))
        return {"scale": np.full(seen["xyc"].shape[:3], np.nan), **seen}
    seen = landmarks(demo, views)
    if path:
        np.savez(path, **seen)
    return seen


def straight(xyc: np.ndarray, views: list[View]) -> np.ndarray:
    """Keypoints (C, T, K, 3) without the lenses' distortion."""
    xyc = xyc.copy()
    for c, view in enumerate(views):
        xyc[c, ..., :2] = view.undistorted(xyc[c, ..., :2].reshape(-1, 2)).reshape(xyc[c, ..., :2].shape)
    return xyc


def reference(
    seen: dict[str, np.ndarray], views: list[View], every: int
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The frames of each camera at each `every`-th moment, and what `triangulated` gives of the limbs' landmarks."""
    xyc = straight(np.nan_to_num(seen["xyc"]), views)
    times = np.arange(8, xyc.shape[1] - 8, every)
    pick = [times + k for k in delays(xyc, views)]
    return pick, *triangulated(np.stack([xyc[c][pick[c]][:, LIMBS] for c in range(len(views))]), views)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--every", type=int, default=3, help="frames from one to the next that is used")
    parser.add_argument(
        "--sure-px", type=float, default=15.0, help="a reference joint is used where the views that see it agree so far"
    )
    parser.add_argument("--config", choices=["default", "smplify"], default="default")
    parser.add_argument("--landmarks", type=Path, help="keep what MediaPipe sees here, or take it from here")
    parser.add_argument("--detector", help="whose keypoints are fitted, in place of MediaPipe's")
    harness.add_json_option(parser)
    args = parser.parse_args()
    views = read_views(next(args.demo.glob("calibration/*.qca.txt")))
    seen = remembered_landmarks(args.demo, views, args.landmarks)
    pick, truth, spread = reference(seen, views, args.every)
    if args.detector:
        seen = landmarks(args.demo, views, load_detector(args.detector), pick)
    else:
        names = ("xyc", "lift", "scale", "centre")
        seen |= {name: np.stack([a[pick[c]] for c, a in enumerate(seen[name])]) for name in names}
    seen["xyc"] = straight(np.nan_to_num(seen["xyc"]), views)
    config = bodyfit.FitConfig() if args.config == "default" else bodyfit.FitConfig.smplify()
    errors = [
        errors_of_view(view, {k: v[c] for k, v in seen.items()}, truth, spread < args.sure_px, config)
        for c, view in enumerate(views)
    ]
    harness.write_json(args, report(errors, spread))


def errors_of_view(
    view: View, seen: dict[str, np.ndarray], truth: np.ndarray, mask: np.ndarray, config: bodyfit.FitConfig
) -> dict[str, np.ndarray]:
    """PA-MPJPE and MPJPE (T', 2), mm, of one camera's people by method; `seen` is its part of `landmarks`."""
    xyc = seen["xyc"]
    rows = (xyc[..., 2] > 0).any(1) & usable_moments(mask)
    lift = in_camera_axes(seen["lift"][rows], seen["centre"][rows], view)
    lifted = {"joints3d": lift, "joints3d_scale": seen["scale"][rows]}
    fitter = Fitter(layout="mediapipe33", config=config)
    known = camera_of(view, seen["sizes"])
    as_seen = Fitter(layout="mediapipe33", config=replace(config, swaps=False))
    fits = {
        "2D alone": fitter(xyc[rows], **known),
        "2D and lift, sides as seen": as_seen(xyc[rows], **lifted, **known),
        "2D and lift": fitter(xyc[rows], **lifted, **known),
    }
    predicted = {"the lift alone": lift[:, LIMBS]}
    for name, fit in fits.items():
        predicted[name] = fitter.model.keypoints(fit.params, "mediapipe33")[:, LIMBS].double().numpy()
    return {name: errors_of(joints, truth[rows], mask[rows], view) for name, joints in predicted.items()}


def usable_moments(mask: np.ndarray) -> np.ndarray:
    """The moments (T,) whose reference `mask` (T, 12) has ten joints or more, and both hips."""
    return (mask.sum(1) >= 10) & mask[:, HIPS].all(1)


def in_camera_axes(lift: np.ndarray, centre: np.ndarray, view: View) -> np.ndarray:
    """Lifts (N, K, 3), metres, of looks at `centre` (N, 2), pixels, turned to the axes of the camera."""
    focal, middle = view.K[0, 0], view.K[:2, 2]
    rays = [(*((c - middle) / focal), 1.0) for c in centre]
    return np.stack([one @ rotation_to_ray(ray).T for one, ray in zip(lift, rays, strict=True)])


def camera_of(view: View, size: np.ndarray) -> dict[str, Any]:
    """The arguments by which a fitter is told of a camera."""
    return {
        "image_size": tuple(size.tolist()),
        "focal_px": view.K[0, 0],
        "principal_point_px": tuple(view.K[:2, 2]),
    }


def errors_of(joints: np.ndarray, truth: np.ndarray, mask: np.ndarray, view: View) -> np.ndarray:
    """PA-MPJPE and MPJPE (T, 2), mm, of joints (T, 12, 3) in a camera's axes, metres; truth in the room's."""
    reference = (truth - view.C_m) @ view.R.T
    counted = mask & np.isfinite(joints).all(2)
    joints = np.nan_to_num(joints)
    pa_mpjpe = metrics.pa_mpjpe(joints, reference, mask=counted).per_item
    return np.stack([pa_mpjpe, metrics.mpjpe(joints, reference, root=HIPS, mask=counted).per_item], 1)


def report(errors: list[dict[str, np.ndarray]], spread: np.ndarray) -> dict[str, dict[str, float]]:
    """Print the table, and give its means."""
    rows = {name: np.concatenate([one[name] for one in errors]) for name in errors[0]}
    table = Table("", "people", "PA-MPJPE mm", "MPJPE mm", "by camera, PA-MPJPE mm")
    for name, error in rows.items():
        cameras = ", ".join(f"{np.nanmean(one[name][:, 0]):.0f}" for one in errors)
        table.add_row(
            name, str(len(_measured(error))), *(f"{value:.1f}" for value in _measured(error).mean(0)), cameras
        )
    Console().print(table)
    Console().print(f"The views agree on a joint within {np.median(spread):.1f} px at the median.")
    return {
        name: {"views": len(error), "pa_mpjpe_mm": error[:, 0].mean(), "mpjpe_mm": error[:, 1].mean()}
        for name, error in ((name, _measured(error)) for name, error in rows.items())
    }


def _measured(errors: np.ndarray) -> np.ndarray:
    """Leave out whose lift lacks the joints that errors are measured at."""
    return errors[np.isfinite(errors).all(1)]


if __name__ == "__main__":
    main()
