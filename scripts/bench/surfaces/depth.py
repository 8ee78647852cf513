"""How right bodies before a depth camera are: one frame of rendered people in poses of held-out clips.

The pictures go through the detector; depth has 2 mm of noise, 3 % of holes, and a wall behind. MPJPE is absolute, of
all 24 joints.

    python -m scripts.bench.surfaces.depth CLIPS [-n 20] [--first 0] [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit import render
from bodyfit.app.pipeline import Lens, fit_detections
from bodyfit.detect import load_detector
from bodyfit.images.frame import Frame
from bodyfit.raster.depth import depth_map
from scripts.bench.records import harness
from scripts.bench.surfaces.scan_kinds import people

SIZE, FOCAL_PX = (640, 480), 525.0
CENTRE = (320.0, 240.0)
NOISE_M, HOLES = 2e-3, 0.03


def main() -> None:
    """Print errors before and after."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of motion clips (npz in AMASS's layout)")
    parser.add_argument("-n", type=int, default=20, help="people")
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    harness.add_json_option(parser)
    args = parser.parse_args()
    neutral, detector, fitters = bodyfit.load_model(), load_detector("movenet"), {}
    rows, missed = [], 0
    for i, (gender, pose, betas) in enumerate(people(args.clips, args.n, args.first), args.first):
        rng = np.random.default_rng([22, i])
        model = bodyfit.load_model(gender=gender)
        turn = Rotation.from_rotvec([np.pi, 0, 0]) * Rotation.from_rotvec([0, rng.uniform(-np.pi, np.pi), 0])
        place = np.array((rng.uniform(-0.3, 0.3), 0.0, rng.uniform(2.4, 4.0)))
        with torch.no_grad():
            out = model(
                betas=torch.from_numpy(betas[None]).float(),
                body_pose=torch.from_numpy(pose.reshape(1, -1)).float(),
                global_orient=torch.from_numpy(turn.as_rotvec()[None]).float(),
            )
        vertices, joints = out.vertices[0].double().numpy(), out.joints[0].double().numpy()
        shift = place - (vertices.min(0) + vertices.max(0)) / 2
        vertices, joints = vertices + shift, joints + shift
        camera = bodyfit.Camera.make(1, SIZE, focal_px=FOCAL_PX)
        plain = np.full((*SIZE[::-1], 3), 150, np.uint8)
        skin = torch.from_numpy(vertices).float()
        image = render.overlay(plain, [(skin, (0.8, 0.62, 0.52))], model.faces, camera)
        drawn = depth_map(vertices, model.faces.numpy(), FOCAL_PX, CENTRE, SIZE).depth_m
        depth = np.where(np.isfinite(drawn), drawn, place[2] + 1.2) + NOISE_M * rng.normal(size=drawn.shape)
        depth[rng.random(depth.shape) < HOLES] = 0
        frame = Frame(image)
        people_found = detector.detect([frame])
        if not people_found[0]:
            missed += 1
            continue
        how = {"model": neutral, "lens": Lens(focal_px=FOCAL_PX), "fitters": fitters}
        alone, result = (fit_detections([frame], people_found, depth=d, **how)[0][0] for d in (None, [depth]))
        errors = [1000 * np.linalg.norm(r.joints[0].numpy() - joints, axis=1).mean() for r in (alone, result)]
        rows.append((*errors, result.reason[0] is not None))
        Console(stderr=True).print(f"{i}: {errors[0]:.0f} -> {errors[1]:.1f} mm, {result.reason[0] or ''}")
    before, after, poor = (np.array(column, float) for column in zip(*rows, strict=True))
    results = {
        "people": len(rows),
        "not_detected": missed,
        "keypoints_mm": float(before.mean()),
        "depth_mm": float(after.mean()),
        "depth_median_mm": float(np.median(after)),
        "beyond_30_mm": int((after > 30).sum()),
        "poor": int(poor.sum()),
        "reliable_mm": float(after[poor == 0].mean()),
        "beyond_30_mm_and_not_poor": int(((after > 30) & (poor == 0)).sum()),
    }
    table = Table(*results)
    table.add_row(*(f"{v:.1f}" if isinstance(v, float) else str(v) for v in results.values()))
    Console().print(table)
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
