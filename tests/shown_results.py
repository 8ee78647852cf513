"""Folders as `bodyfit fit` and `bodyfit video` write them, made without a detector: bodies of known parameters."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.fit.sequence.track import Track
from bodyfit.geometry.camera import Camera
from bodyfit.io import save, save_track

__all__ = ["SIZE", "result_of", "standing", "write_clip", "write_picture"]

SIZE = (320, 240)


def result_of(model: BodyModel, params: BodyParams, *, name: str = "open") -> FitResult:
    """A fit that ended at these parameters (camera axes), with coco17 keypoints where the body has them."""
    n = params.batch
    camera = Camera.make(n, SIZE)
    with torch.no_grad():
        body = model(**params)
        xy = camera.project(model.keypoints(body, "coco17"))
    return FitResult(
        params=params,
        camera=camera,
        joints=body.joints,
        status=(FitStatus.CONVERGED,) * n,
        objective=torch.ones(n),
        reprojection_error_px=torch.arange(1.0, n + 1),
        layout="coco17",
        keypoints=torch.cat([xy, torch.ones(n, 17, 1)], 2),
        model_name=name,
        gender="neutral",
        iterations=torch.full((n,), 9),
        flipped=torch.zeros(n, dtype=torch.bool),
        focal_source="guess",
        joints_sd_m=torch.full((n, 24), 0.1),
        joints_sd_rel_m=torch.linspace(0.0, 0.069, 24).expand(n, 24).contiguous(),
    )


def standing(model: BodyModel, betas: torch.Tensor, poses: torch.Tensor, x_m: float = 0.0) -> BodyParams:
    """Upright before the camera, 4 m away."""
    n = len(poses)
    upright, place = torch.tensor([[math.pi, 0.0, 0.0]]), torch.tensor([[x_m, 0.0, 4.0]])
    return model.params(
        betas=betas.expand(n, -1), body_pose=poses, global_orient=upright.expand(n, 3), transl=place.expand(n, 3)
    )


def write_picture(
    out: Path, model: BodyModel, people: int = 1, *, name: str = "photo", size: tuple[int, int] = SIZE, seed: int = 0
) -> list[FitResult]:
    """out/NAME with an overlay and people, and its entry in out/summary.json; the photograph lies beside out."""
    rng, torch_rng = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    folder = out / name
    folder.mkdir(parents=True)
    # Noise over a gradient: as hard to compress as a sharp photograph.
    picture = np.linspace(0, 200, size[0])[None, :, None] + rng.normal(0, 12, (size[1], size[0], 3))
    picture = picture.clip(0, 255).astype(np.uint8)
    Image.fromarray(255 - picture).save(folder / "overlay.jpg", quality=92)
    Image.fromarray(picture).save(out.parent / f"{name}.jpg", quality=92)
    results = []
    for i in range(people):
        betas = torch.randn(1, 10, generator=torch_rng)
        poses = 0.1 * torch.randn(1, model.kind.body_joints * 3 - 3, generator=torch_rng)
        results.append(result_of(model, standing(model, betas, poses, 0.8 * i)))
        save(results[-1], folder / f"person{i}.npz")
    persons = [{"person": i, "status": "converged", "files": [f"{name}/person{i}.npz"]} for i in range(people)]
    entry = {"input": str(out.parent / f"{name}.jpg"), "status": "ok", "people": persons, "files": []}
    _add(out, entry)
    return results


def write_clip(out: Path, model: BodyModel, frames: int = 12, *, name: str = "clip", first: int = 3) -> FitResult:
    """out/NAME/person0.npz as a track: an arm that rises through frames from `first` on; two of them not seen."""
    poses = torch.zeros(frames, model.kind.body_joints * 3 - 3)
    poses[:, 3 * (model.skeleton.index("left_shoulder") - 1) + 2] = torch.linspace(-1.2, 1.2, frames)
    result = result_of(model, standing(model, torch.full((1, 10), 0.5), poses))
    seen = np.ones(frames, bool)
    seen[4:6] = False
    numbers = np.arange(first, first + frames)
    track = Track(id=0, frames=numbers, times_s=numbers / 30.0, fps=30.0, seen=seen, result=result)
    (out / name).mkdir(parents=True)
    save_track(track, out / name / "person0.npz")
    _add(out, {"input": str(out.parent / f"{name}.mp4"), "status": "ok", "files": [f"{name}/person0.npz"]})
    return result


def _add(out: Path, entry: dict) -> None:
    path = out / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else {"bodyfit": "0.1.0", "model": "open", "inputs": []}
    summary["inputs"].append(entry)
    path.write_text(json.dumps(summary))
