"""Fits that are given another program's estimates: made-up estimates of held-out people, errors before and after.

An estimate is the true body with its joints turned at random, more at the ends of limbs, and its root turned; its error
is scaled to what published regressors have. Keypoints are exact, or those of a made-up detector.

    python -m scripts.bench.estimate CLIPS [--people 100] [--error-mm 45] [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.evaluate.metrics import mpjpe, pa_mpjpe
from bodyfit.fit.estimate import PoseEstimate
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.skeleton import SMPL
from scripts.bench.accuracy import DETECTORS
from scripts.bench.inputs.synthetic_people import FOCAL_PX, SIZE, Detector, People, people, split
from scripts.bench.records import harness

LAYOUT = "mediapipe33"
KEYPOINTS = {"exact": Detector(noise=0, dropped=0, swapped=0), "MediaPipe-like": None}
_LIMBS = {"hip": 1.0, "shoulder": 1.0, "knee": 1.3, "elbow": 1.6, "wrist": 1.6, "ankle": 1.3}


def estimates(model: bodyfit.BodyModel, who: People, error_mm: float, seed: int) -> bodyfit.BodyParams:
    """Turn the joints of true bodies at random until their error after a similarity alignment is `error_mm`."""
    rng = np.random.default_rng(seed)
    names = SMPL.names[: model.body_joints]
    share = [max((f for part, f in _LIMBS.items() if part in name), default=0.5) for name in names]
    noise = torch.tensor(rng.normal(size=(len(who.joints), len(names), 3)) * np.array(share)[:, None]).float()
    true = torch.cat([who.params.global_orient, who.params.body_pose], 1).unflatten(1, (-1, 3))

    def turned(scale: float) -> bodyfit.BodyParams:
        pose = so3_log(so3_exp(true) @ so3_exp(scale * noise)).flatten(1)
        return model.params(global_orient=pose[:, :3], body_pose=pose[:, 3:])

    low, high = 0.0, 1.0
    for _ in range(12):
        middle = 0.5 * (low + high)
        off = pa_mpjpe(model.joints(turned(middle)), who.joints).mean
        low, high = (middle, high) if off < error_mm else (low, middle)
    return turned(low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--error-mm", type=float, default=45.0)
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    args = parser.parse_args()
    model = bodyfit.load_model()
    rows: dict[str, dict[str, float]] = {}
    for name, detector in KEYPOINTS.items():
        detector = detector or DETECTORS["mediapipe"]()
        who = people(split(args.clips)[1], args.people, model, (LAYOUT,), detector=detector, seed=args.seed)
        estimate = estimates(model, who, args.error_mm, args.seed + 1)
        seen = {"keypoints": who.xyc[LAYOUT], "layout": LAYOUT, "image_size": SIZE, "focal_px": FOCAL_PX}
        alone = bodyfit.fit(bodyfit.Evidence(**seen), model=model)
        both = bodyfit.fit(bodyfit.Evidence(**seen, estimate=PoseEstimate(estimate)), model=model)
        for what, joints in (("estimate", model.joints(estimate)), ("2D", alone.joints), ("both", both.joints)):
            rows[f"{name}: {what}"] = {
                "pa_mpjpe_mm": pa_mpjpe(joints, who.joints).mean,
                "mpjpe_mm": mpjpe(joints, who.joints, root=0).mean,
            }
    table = Table("keypoints: result", "PA-MPJPE, mm", "MPJPE, mm")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.1f}" for value in row.values()))
    Console().print(table)
    harness.write_json(args, {"people": args.people, "error_mm": args.error_mm, "rows": rows})


if __name__ == "__main__":
    main()
