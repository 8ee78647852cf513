"""How right and how fast the fit is on bodies whose pose and shape are known.

Poses come from AMASS-layout motion clips, shapes are random adults, cameras stand 2.5 to 6 m away all around with a
focal length of 1000 px, and the 24 joints are seen with 4 px of Gaussian noise. Everybody is fitted in one call.

    python -m scripts.bench.synthetic CLIPS [--people 256] [--layout smpl24] [--noise-px 4] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import roma
import torch

import bodyfit
from bodyfit.evaluate import pa_mpjpe
from bodyfit.geometry.camera import Camera
from scripts.bench.records import harness

SIZE = (1000, 1000)
FOCAL_PX = 1000.0


def poses_from(clips: Path, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n, 69) body poses, as many from each clip; a clip's first frame can be a calibration pose and is left out."""
    files = sorted(clips.glob("*.npz"))
    if not files:
        raise SystemExit(f"error: no .npz clips in {clips}")
    rows = []
    for i in range(n):
        with np.load(files[i % len(files)]) as clip:
            poses = clip["poses"]
        rows.append(poses[rng.integers(1, len(poses)), 3:72])
    return np.array(rows)


def people(clips: Path, n: int, model: bodyfit.BodyModel, layout: str, noise_px: float, seed: int):
    """Ground-truth parameters and noisy keypoints (n, K, 3) of bodies in camera axes."""
    rng = np.random.default_rng(seed)
    pose = torch.tensor(poses_from(clips, n, rng), dtype=model.dtype)
    yaw, pitch = rng.uniform(-np.pi, np.pi, n), rng.uniform(-np.pi / 12, np.pi / 6, n)
    R_yaw = roma.rotvec_to_rotmat(torch.tensor(yaw[:, None] * [0.0, 1, 0]))
    R_pitch = roma.rotvec_to_rotmat(torch.tensor((np.pi + pitch)[:, None] * [1.0, 0, 0]))
    orient = roma.rotmat_to_rotvec(R_pitch @ R_yaw).to(model.dtype)
    betas = torch.tensor(rng.standard_normal((n, 10)).clip(-2.5, 2.5), dtype=model.dtype)
    depth = rng.uniform(2.5, 6.0, n)
    transl = torch.tensor(np.stack([rng.uniform(-0.1, 0.1, n) * depth, rng.uniform(-0.05, 0.15, n) * depth, depth], 1))
    params = model.params(betas=betas, body_pose=pose, global_orient=orient, transl=transl)
    out = model(**params)
    camera = Camera.make(n, SIZE, focal_px=FOCAL_PX, dtype=model.dtype)
    points = model.keypoints(out, layout)
    xy = camera.project(points).numpy() + noise_px * rng.standard_normal((n, points.shape[1], 2))
    seen = np.isfinite(xy).all(2)
    xyc = np.concatenate([np.nan_to_num(xy), seen[..., None]], 2)
    return params, out, xyc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--layout", default="smpl24")
    parser.add_argument("--noise-px", type=float, default=4.0)
    parser.add_argument("--lift-noise-mm", type=float, help="also give the 3D keypoints with this noise")
    parser.add_argument("--config", choices=["default", "smplify"], default="default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    harness.add_json_option(parser)
    args = parser.parse_args()
    model = bodyfit.load_model()
    _, truth, xyc = people(args.clips, args.people, model, args.layout, args.noise_px, args.seed)
    lift = None
    if args.lift_noise_mm is not None:
        exact = model.keypoints(truth, args.layout)
        lift = exact + 1e-3 * args.lift_noise_mm * torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    config = bodyfit.FitConfig() if args.config == "default" else bodyfit.FitConfig.smplify()
    seconds, cpu_seconds = [], []
    for _ in range(args.repeats):
        begin, cpu = time.perf_counter(), time.process_time()
        result = bodyfit.fit_keypoints(
            xyc,
            layout=args.layout,
            image_size=SIZE,
            focal_px=FOCAL_PX,
            model=model,
            joints3d=lift,
            config=config,
            device=args.device,
        )
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu)
    error = torch.from_numpy(pa_mpjpe(result.joints.cpu(), truth.joints).per_item)
    root = 1e3 * (result.joints.cpu() - result.joints[:, :1].cpu() - truth.joints + truth.joints[:, :1]).norm(dim=2)
    found = {
        "people": args.people,
        "layout": args.layout,
        "pa_mpjpe_mm": round(float(error.nanmean()), 1),
        "pa_mpjpe_p95_mm": round(float(error.nanquantile(0.95)), 1),
        "mpjpe_pelvis_mm": round(float(root.nanmean()), 1),
        "reprojection_px": round(float(result.reprojection_error_px.nanmean()), 2),
        "iterations": round(float(result.iterations.double().mean()), 1),
        "ms_per_person": [round(1e3 * s / args.people, 2) for s in seconds],
        "cpu_ms_per_person": [round(1e3 * s / args.people, 2) for s in cpu_seconds],
        "status": Counter(s.value for s in result.status),
        "flipped": int(result.flipped.sum()),
    }
    print(json.dumps(found))
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
