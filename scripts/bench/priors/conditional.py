"""What the conditional pose prior alone knows: its errors on held-out clips, whether it knows them, and its speed.

People are those of accuracy.py: clips that neither prior was trained on, through made-up detectors. A ratio is the root
mean square of the errors over that of the predicted deviations, by quantity and by fifths of what is predicted.

    python -m scripts.bench.priors.conditional CLIPS [--people 256] [--layouts mediapipe33,coco17] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

import bodyfit
from bodyfit.body.conditional.network import FREEDOM, Predicted
from bodyfit.body.conditional.prior import ConditionalPrior, load_conditional_prior
from bodyfit.evaluate import metrics
from bodyfit.geometry.rotation import so3_exp, so3_log
from scripts.bench.accuracy import DETECTORS
from scripts.bench.inputs.synthetic_people import FOCAL_PX, SIZE, People, people, split
from scripts.bench.records import harness

_SPREAD = FREEDOM / (FREEDOM - 2)
"""Variance of a Student distribution of scale 1."""
BATCH = 64


def predicted(prior: ConditionalPrior, who: People, layout: str, *, lift: bool) -> Predicted:
    """Ask the prior about people as a detector reports them."""
    xyc = who.xyc[layout]
    target = (xyc[..., :2] - torch.tensor(SIZE) / 2) / FOCAL_PX
    confidence = torch.where(xyc[..., 2] >= 0.1, xyc[..., 2], 0.0)
    rows = prior.slots.of_layout(layout)
    if not lift:
        return prior(rows, target, confidence)
    known = torch.isfinite(who.lift[layout]).all(2).to(xyc)
    return prior(rows, target, confidence, torch.nan_to_num(who.lift[layout]), known)


def joints_of(model: bodyfit.BodyModel, found: Predicted) -> Float[Tensor, "B J 3"]:
    """Compute the joints of the expected bodies."""
    pose = found.pose.flatten(1)[:, : 3 * (model.body_joints - 1)]
    orient = so3_log(found.root)
    with torch.no_grad():
        return model(**model.params(body_pose=pose, global_orient=orient, betas=found.betas)).joints


def errors(found: Predicted, who: People, layout: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """List quantities with their errors and predicted deviations, flat arrays of equal length."""
    truth = who.params.body_pose.unflatten(1, (-1, 3))
    n = truth.shape[1]
    covariance = _SPREAD * torch.cholesky_inverse(found.pose_factor[:, :n])
    deviation = covariance.diagonal(dim1=2, dim2=3).sqrt()
    error = truth - found.pose[:, :n]
    names = bodyfit.load_model().skeleton.names[1 : n + 1]
    groups = {
        "legs": ("hip", "knee", "ankle"),
        "arms": ("shoulder", "elbow", "wrist"),
        "trunk": ("spine", "neck", "head", "collar"),
    }
    for group, parts in groups.items():
        rows = [i for i, name in enumerate(names) if any(part in name for part in parts)]
        yield f"{group}, rad", error[:, rows].flatten().numpy(), deviation[:, rows].flatten().numpy()
    turn = so3_log(found.root.mT @ so3_exp(who.params.global_orient.to(found.root)))
    spread = (_SPREAD * torch.cholesky_inverse(found.root_factor)).diagonal(dim1=1, dim2=2).sqrt()
    yield "root, rad", turn.flatten().numpy(), spread.flatten().numpy()
    off = who.points[layout] - who.joints[:, :1] - found.points
    known = torch.isfinite(off).all(2) & torch.tensor([row >= 0 for row in load_rows(layout)])
    along = _SPREAD**0.5 * found.points_scale[..., 1]
    yield "keypoints along the view, m", off[..., 2][known].numpy(), along[known].numpy()
    across = (_SPREAD**0.5 * found.points_scale[..., :1]).expand(-1, -1, 2)
    yield "keypoints across it, m", off[..., :2][known].flatten().numpy(), across[known].flatten().numpy()


def load_rows(layout: str) -> list[int]:
    """Return the slots of a layout's keypoints in the shipped network."""
    return load_conditional_prior().slots.of_layout(layout)


def ratios(error: np.ndarray, deviation: np.ndarray) -> list[float]:
    """Return root mean square error over predicted deviation: of all, then by fifths of the deviation."""
    order = np.argsort(deviation)
    return [
        float(np.sqrt(np.mean(error[some] ** 2) / np.mean(deviation[some] ** 2)))
        for some in (order, *np.array_split(order, 5))
    ]


def milliseconds(prior: ConditionalPrior, repeats: int = 20) -> float:
    """Measure the processor's time a person in batches of 64."""
    target, confidence = 0.1 * torch.randn(BATCH, 33, 2), torch.ones(BATCH, 33)
    rows = prior.slots.of_layout("mediapipe33")
    prior(rows, target, confidence)
    begin = time.process_time()
    for _ in range(repeats):
        prior(rows, target, confidence)
    return 1e3 * (time.process_time() - begin) / (repeats * BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--layouts", default="mediapipe33,coco17")
    parser.add_argument("--detector", choices=list(DETECTORS), default="mediapipe")
    parser.add_argument("--network", type=Path, help="another file than the shipped one")
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    args = parser.parse_args()
    model, prior, layouts = bodyfit.load_model(), load_conditional_prior(args.network), tuple(args.layouts.split(","))
    detector = DETECTORS[args.detector]()
    who = people(split(args.clips)[1], args.people, model, layouts, detector=detector, seed=args.seed)
    table = Table("input", "quantity", "rms error", "error / deviation", "by fifths of the deviation")
    found: dict[str, dict] = {}
    for layout in layouts:
        for lift in (True, False):
            name = f"{layout}, {'with' if lift else 'without'} lift"
            out = predicted(prior, who, layout, lift=lift)
            joints = joints_of(model, out)
            pa = float(np.nanmean(metrics.pa_mpjpe(joints, who.joints).per_item))
            mpjpe = float(np.nanmean(metrics.mpjpe(joints, who.joints, root=0).per_item))
            found[name] = {"pa_mpjpe_mm": pa, "mpjpe_mm": mpjpe}
            table.add_row(name, f"PA-MPJPE {pa:.1f} mm, MPJPE {mpjpe:.1f} mm")
            for quantity, error, deviation in errors(out, who, layout):
                all_of, *fifths = ratios(error, deviation)
                found[name][quantity] = [all_of, *fifths]
                rms = f"{np.sqrt(np.mean(error**2)):.3f}"
                table.add_row("", quantity, rms, f"{all_of:.2f}", " ".join(f"{r:.2f}" for r in fifths))
    found["speed"] = {"cpu_ms_per_person": milliseconds(prior), "parameters": _size(prior)}
    Console().print(table, found["speed"])
    harness.write_json(args, found)


def _size(prior: ConditionalPrior) -> int:
    return sum(p.numel() for p in prior.network.parameters())


if __name__ == "__main__":
    main()
