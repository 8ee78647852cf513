"""How like real footage avatars and fields are: four calibrated cameras about one man, moments and a camera held out.

The footage is the demonstration of Pose2Sim (BSD-3-Clause; `scripts.bench.multiview` says where it is). By MediaPipe's
landmarks of the whole clips the cameras are brought to one clock and, for their file is about a degree off, to agree
(`scripts.bench.avatars.calibration`), and the man is told from bystanders. His bodies are fitted to keypoints and masks
of `--detector` in all cameras, and refined together with the field. PSNR and SSIM in the boxes of the masks, on white:

- moments: every sixth moment, of which neither the field nor the refinement has used a picture; his body there is the
  fitted one, with the corrections of the moments around,
- camera: the fourth camera, by what the other three saw; the fits have its keypoints and mask.

`as fitted` are the same pictures with bodies not corrected, `own poses` with bodies refined by these very pictures, of
cameras that the field knows: what it has, errors of poses apart. Seconds are the process's own.

    python -m scripts.bench.avatars.footage DEMO [--held-out moments,camera] [--moments 24] [--passes 1] [--rounds 3]
        [--no-refine] [--detector movenet:accurate] [--landmarks FILE] [--detections FOLDER] [--pictures FOLDER]
        [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console

import bodyfit
from bodyfit.app.avatars.drawn import score_avatar
from bodyfit.app.avatars.field import draw_field_view, reduced, score_field, views_to_learn
from bodyfit.app.avatars.refine import fit_field_of
from bodyfit.app.avatars.rig import gather_rig_views
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import AvatarView, make_avatar
from bodyfit.body.params import BodyParams
from bodyfit.fields.radiance import RadianceConfig, RadianceField
from bodyfit.fields.radiance.joint import JointConfig
from bodyfit.fields.radiance.poses import refine_poses
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.result import FitResult
from bodyfit.fit.sequence.track import Track
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.images.frame import Frame
from bodyfit.io.picture import save_picture
from bodyfit.io.results.track import save_track
from bodyfit.keypoints import Keypoints2D, SoftMask
from scripts.bench import multiview
from scripts.bench.avatars.calibration import agreeing
from scripts.bench.multiview import LIMBS, read_views, remembered_landmarks
from scripts.bench.records import harness

CONSOLE = Console()
_FPS = 60.0


def material_of(demo: Path, args: argparse.Namespace) -> AvatarMaterial:
    """Fit the man in all cameras at once, and gather the views."""
    views = read_views(next(demo.glob("calibration/*.qca.txt")))
    seen = np.nan_to_num(remembered_landmarks(demo, views, args.landmarks)["xyc"])
    views, late = agreeing(seen, views)
    rig = [CalibratedCamera(K=v.K, R=v.R, t=-v.R @ v.C_m, distortion=v.distortion) for v in views]
    times = np.arange(8, seen.shape[1] - 8, max(1, (seen.shape[1] - 16) // args.moments))[: args.moments]
    model = bodyfit.load_model("open")
    clips = [demo / "videos" / f"{view.name}.mp4" for view in views]
    frames = [times + k for k in late]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if args.detections is None else args.detections
        if not (folder / "keypoints.npz").exists():
            watch(clips, frames, seen, args.detector, folder)
        xyc = np.load(folder / "keypoints.npz")["xyc"]
        rows = range(len(times))
        masks = [[_mask(folder, clips[c], frames[c][row]) for c in range(len(clips))] for row in rows]
        result = bodyfit.fit(Evidence(keypoints=xyc, layout="mediapipe33", cameras=rig, masks=masks), model=model)
        save_track(_track(result, times), Path(scratch) / "person0.npz")
        person, most = Path(scratch) / "person0.npz", args.moments
        return gather_rig_views(person, rig, clips, detector=None, masks=folder, frames=most, delays=late)


def watch(clips: Sequence[Path], frames: Sequence[np.ndarray], seen: np.ndarray, detector: str, folder: Path) -> None:
    """Detect the man in some frames of each clip; write keypoints.npz, (T, C, 33, 3), and a mask for each frame.

    seen: (C, T, 33, 3) landmarks of the whole clips; whose limbs are nearest to these is the man.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finder = bodyfit.load_detector(detector, masks=True)
    xyc = np.zeros((len(frames[0]), len(clips), 33, 3))
    for c, clip in enumerate(clips):
        pictures = multiview.frames_of(clip)
        for row, number in enumerate(frames[c]):
            frame = Frame(pictures[number])
            people: list[Keypoints2D] = list(finder.detect([frame])[0])
            like = seen[c, number][LIMBS, :2]
            apart = [float(np.median(np.linalg.norm(one.xyc[LIMBS, :2] - like, axis=1))) for one in people]
            if people:
                man = people[int(np.argmin(apart))]
                xyc[row, c] = np.nan_to_num(man.xyc)
                if isinstance(man.mask, SoftMask):
                    cv2.imwrite(str(_file(folder, clip, number)), man.mask.full(frame.size))
    np.savez(folder / "keypoints.npz", xyc=xyc)


def _file(folder: Path, clip: Path, number: int) -> Path:
    """Name the mask of a frame as `ClipMasks` does."""
    return folder / f"{clip.stem}_{number:06d}.png"


def _mask(folder: Path, clip: Path, number: int) -> np.ndarray | None:
    """Read the mask of a frame, if there is one."""
    path = _file(folder, clip, number)
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) if path.exists() else None


def _track(result: FitResult, times: np.ndarray) -> Track:
    """Make a track of moments of one man: the mean of his shapes for all."""
    params = result.params
    betas = params.betas.mean(0, keepdim=True).expand_as(params.betas).contiguous()
    result = replace(result, params=BodyParams(**dict(params) | {"betas": betas}))
    return Track(0, times, times / _FPS, _FPS, np.ones(len(times), bool), result)


def measure(material: AvatarMaterial, unseen: int | None, args: argparse.Namespace) -> dict[str, Any]:
    """Make an avatar and a field, and score both by moments held out, or by a camera that neither has seen."""
    training, fitted = material, material.test_views
    if unseen is not None:
        training = _without(material, unseen)
        fitted = tuple(view for view in material.views if view.camera_number == unseen)
    start = time.process_time()
    joint = JointConfig(rounds=args.rounds, coarse_rounds=args.rounds)
    field, better = fit_field_of(training, refine=args.refine, config=RadianceConfig(passes=args.passes), joint=joint)
    middle = time.process_time()
    avatar = make_avatar(better.views, model=material.model, size=1024)
    end = time.process_time()
    tests = better.test_views
    if unseen is not None:
        numbers = [
            row for view, row in zip(material.views, material.rows, strict=False) if view.camera_number == unseen
        ]
        bodies = [better.motion.select([row]) for row in numbers]
        tests = tuple(replace(view, params=body) for view, body in zip(fitted, bodies, strict=True))
    baked = score_avatar(avatar, tests)
    assert baked is not None
    return {
        "pictures": len(training.views),
        "iou": float(avatar.iou.mean()),
        "baked": {"psnr_db": baked.psnr_db, "ssim": baked.ssim, "seconds": end - middle},
        "field": {**(score_field(field, tests) or {}), "seconds": middle - start},
        "as fitted": score_field(field, fitted),
        "own poses": score_field(field, _own_poses(field, tests)) if unseen is None else None,
        "drawn": (field, tests),
    }


def _without(material: AvatarMaterial, camera: int) -> AvatarMaterial:
    """Leave out the pictures of a camera."""
    count = len(material.views)
    stay = [k for k, view in enumerate(material.views) if view.camera_number != camera]
    rows = tuple(material.rows[k] for k in stay) + material.rows[count:]
    return replace(material, views=tuple(material.views[k] for k in stay), rows=rows)


def _own_poses(field: RadianceField, views: Sequence[AvatarView]) -> list[AvatarView]:
    """Refine the bodies of views by these views, the field as it is."""
    those, bodies = views_to_learn([reduced(view) for view in views])
    better = refine_poses(field, those, bodies)
    return [replace(view, params=better.select([one.frame])) for view, one in zip(views, those, strict=True)]


def sheet(field: RadianceField, views: Sequence[AvatarView]) -> np.ndarray:
    """Lay pictures beside the field."""
    rows = []
    for view in (reduced(one) for one in views[:4]):
        pair = np.concatenate([np.where(view.mask[..., None], view.image, 255), draw_field_view(field, view)], 1)
        rows.append(np.pad(pair, ((0, 320 - len(pair)), (0, 640 - pair.shape[1]), (0, 0)), constant_values=255))
    return np.concatenate(rows, 1).astype(np.uint8)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--moments", type=int, default=24)
    parser.add_argument("--held-out", default="moments,camera", help="what to hold out, in turn")
    parser.add_argument("--passes", type=float, default=1.0, help="how often each ray is drawn in training (1)")
    parser.add_argument("--side-px", type=int, default=224, help="of the pictures' longer side (224)")
    parser.add_argument("--rounds", type=int, default=3, help="of refining bodies (3)")
    parser.add_argument("--no-refine", dest="refine", action="store_false", help="leave the bodies as they are fitted")
    parser.add_argument("--detector", default="movenet:accurate", help="of keypoints and masks")
    parser.add_argument("--landmarks", type=Path, help="keep what MediaPipe sees here, or take it from here")
    parser.add_argument(
        "--detections", type=Path, help="folder to keep the detector's keypoints and masks in, likewise"
    )
    parser.add_argument("--pictures", type=Path, help="folder for drawn pictures beside the truth")
    harness.add_json_option(parser)
    args = parser.parse_args()
    material = material_of(args.demo, args)
    small = [tuple(reduced(view, args.side_px) for view in some) for some in (material.views, material.test_views)]
    material = replace(material, views=small[0], test_views=small[1])
    results: dict[str, Any] = {"notes": list(material.notes)}
    last = max(view.camera_number or 0 for view in material.views)
    for name in args.held_out.split(","):
        unseen = {"moments": None, "camera": last}[name]
        results[name] = measure(material, unseen, args)
        field, tests = results[name].pop("drawn")
        if args.pictures is not None:
            save_picture(args.pictures / f"{name}.png", sheet(field, tests[:: max(1, len(tests) // 4)]))
        CONSOLE.print(name, results[name])
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
