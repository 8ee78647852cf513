"""How like real footage avatars and fields are: four calibrated cameras about one man, moments and a camera held out.

The footage is the demonstration of Pose2Sim (BSD-3-Clause; `scripts.bench.multiview` says where it is). Bodies are
fitted to MediaPipe's landmarks of all four cameras, masks are the shipped detector's. PSNR and SSIM in the boxes of the
masks, on white: `moments` are every sixth moment, of which no picture was used; `camera` is the fourth camera, by what
the other three saw. Seconds are the process's own.

    python -m scripts.bench.avatars.footage DEMO [--moments 24] [--passes 3] [--landmarks FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import bodyfit
from bodyfit.app.avatars.drawn import score_avatar
from bodyfit.app.avatars.field import draw_field_view, fit_view_field, reduced, score_field
from bodyfit.app.avatars.rig import gather_rig_views
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import AvatarView, make_avatar
from bodyfit.body.params import BodyParams
from bodyfit.fields.radiance import RadianceConfig, RadianceField
from bodyfit.fit.result import FitResult
from bodyfit.fit.sequence.track import Track
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.io.picture import save_picture
from bodyfit.io.results.track import save_track
from scripts.bench.multiview import delays, read_views, remembered_landmarks, straight
from scripts.bench.records import harness

CONSOLE = Console()
_FPS = 60.0


def material_of(demo: Path, landmarks: Path | None, moments: int) -> AvatarMaterial:
    """Fit the man in all cameras at once, and gather the views."""
    views = read_views(next(demo.glob("calibration/*.qca.txt")))
    seen = np.nan_to_num(remembered_landmarks(demo, views, landmarks)["xyc"])
    late = delays(straight(seen, views), views)
    rig = [CalibratedCamera(K=v.K, R=v.R, t=-v.R @ v.C_m, distortion=v.distortion) for v in views]
    times = np.arange(8, seen.shape[1] - 8, max(1, (seen.shape[1] - 16) // moments))[:moments]
    xyc = np.stack([seen[c][times + late[c]] for c in range(len(views))], 1)
    model = bodyfit.load_model("open")
    result = bodyfit.fit_keypoints(xyc, layout="mediapipe33", cameras=rig, model=model)
    with tempfile.TemporaryDirectory() as folder:
        save_track(_track(result, times), Path(folder) / "person0.npz")
        return gather_rig_views(
            Path(folder) / "person0.npz",
            rig,
            [demo / "videos" / f"{view.name}.mp4" for view in views],
            detector=bodyfit.load_detector(masks=True),
            frames=moments,
            delays=late,
        )


def _track(result: FitResult, times: np.ndarray) -> Track:
    """Make a track of moments of one man: the mean of his shapes for all."""
    params = result.params
    betas = params.betas.mean(0, keepdim=True).expand_as(params.betas).contiguous()
    result = replace(result, params=BodyParams(**dict(params) | {"betas": betas}))
    return Track(0, times, times / _FPS, _FPS, np.ones(len(times), bool), result)


def measure(material: AvatarMaterial, tests: Sequence[AvatarView], passes: float) -> dict[str, Any]:
    """Make an avatar and a field, and score both."""
    start = time.process_time()
    avatar = make_avatar(material.views, model=material.model, size=1024)
    baked = score_avatar(avatar, tests)
    middle = time.process_time()
    field = fit_view_field(material, config=RadianceConfig(passes=passes))
    assert baked is not None
    return {
        "pictures": len(material.views),
        "iou": float(avatar.iou.mean()),
        "baked": {"psnr_db": baked.psnr_db, "ssim": baked.ssim, "seconds": middle - start},
        "field": {**(score_field(field, tests) or {}), "seconds": time.process_time() - middle},
        "drawn": field,
    }


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
    parser.add_argument("--passes", type=float, default=3.0, help="how often each ray is drawn in training (3)")
    parser.add_argument("--landmarks", type=Path, help="keep what is detected here, or take it from here")
    parser.add_argument("--pictures", type=Path, help="folder for drawn pictures beside the truth")
    harness.add_json_option(parser)
    args = parser.parse_args()
    material = material_of(args.demo, args.landmarks, args.moments)
    last = max(view.camera_number or 0 for view in material.views)
    others = tuple(view for view in material.views if view.camera_number != last)
    unseen = [view for view in material.views if view.camera_number == last]
    results: dict[str, Any] = {"notes": list(material.notes)}
    for name, some, tests in (("moments", material.views, material.test_views), ("camera", others, unseen)):
        results[name] = measure(replace(material, views=tuple(some)), tests, args.passes)
        field = results[name].pop("drawn")
        if args.pictures is not None:
            save_picture(args.pictures / f"{name}.png", sheet(field, tests))
        CONSOLE.print(name, results[name])
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
