"""How right bodies under scans are: scans of random open bodies in poses of held-out clips (`scan_kinds.py`).

Scans are turned anyhow, in metres, centimetres or millimetres. `--kinds mixed` draws of each ten people seven bare (two
`full`, the others `seen`, `bare`, `floor`, `front`, `half`) and three `dressed`, every second ten with an axis up;
dressed ones get the surface over, too. A scan is failed if its vertices are more than 30 mm off and the status does
not tell. With `--lines` each scan's numbers are written as they come, and a run goes on where another ended.

    python -m scripts.bench.surfaces.scans CLIPS [-n 20] [--kinds full,seen,... | mixed | --clothed] [--first 0]
        [--own-gender] [--hands] [--lines FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import bodyfit
from bodyfit.register.arms import SIDES, hand_vertices
from scripts.bench.inputs.whole_people import HELD_OUT_DEG, mirrored, pose_of
from scripts.bench.records import harness
from scripts.bench.surfaces.scan_kinds import CLOTHED, KINDS, PARTIAL, POINTS, UNITS, Person, people, scanned

MIXED = ("full", "dressed", "seen", "bare", "dressed", "floor", "front", "full", "dressed", "half")
_FAILED_MM = 30.0

Drawn = tuple[str, np.ndarray, np.ndarray]


def judged(drawn: Drawn, kind: str, number: int, args: argparse.Namespace) -> dict[str, Any]:
    """Register one person; errors in millimetres, and what the status says."""
    square = args.kinds == "mixed" and number // 10 % 2 == 1
    more = with_hands(drawn[0], number) if args.hands else {}
    person = scanned(*drawn, kind, number, count=args.points, square=square, **more)
    model = person.model if args.own_gender else bodyfit.load_model("open-h" if args.hands else "open")
    wall, processor = time.perf_counter(), time.process_time()
    result = bodyfit.register(
        person.scan.points / UNITS[number % len(UNITS)],
        normals=person.scan.normals,
        model=model,
        clothed=args.say_clothed,
        surface=kind == "dressed",
    )
    numbers = {
        "kind": kind,
        "number": number,
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
        "status": result.status.value,
        "reason": result.reason,
        "unscanned": list(result.unscanned),
        "doubtful": list(result.doubtful),
        "clothed": result.clothed,
        "unit_right": result.unit_m == UNITS[number % len(UNITS)],
    }
    return numbers | _errors(result, person, model)


def with_hands(gender: str, number: int) -> dict[str, Any]:
    """Make a model with fingers, and poses of both hands that the hand prior was not made from."""
    model, names = bodyfit.load_model("open-h", gender=gender), list(HELD_OUT_DEG)
    left, right = (pose_of(*HELD_OUT_DEG[names[(number + k) % len(names)]]) for k in (0, 3))
    poses = {"left_hand_pose": left, "right_hand_pose": mirrored(right[None])[0]}
    hands = {
        name: (torch.as_tensor(pose).to(model.hand_means) - model.hand_means[i])[None]
        for i, (name, pose) in enumerate(poses.items())
    }
    return {"model": model, "hands": hands}


def _errors(result: bodyfit.Registration, person: Person, model: bodyfit.BodyModel) -> dict[str, Any]:
    """Compare a registration with the truth, millimetres."""
    if result.vertices is None or result.joints is None or result.errors is None:
        return {"failed": False}
    apart = 1000 * np.linalg.norm(result.vertices.numpy() - person.vertices, axis=1)
    joints = 1000 * np.linalg.norm(result.joints.numpy() - person.joints, axis=1)
    names, part = model.skeleton.names, model.weights.argmax(1).numpy()
    of_part = np.bincount(part, apart, len(names)) / np.maximum(np.bincount(part, minlength=len(names)), 1)
    worst = int(of_part.argmax())
    found = {
        "v2v_mm": float(apart.mean()),
        "scanned_v2v_mm": float(apart[result.errors.scanned].mean()) if result.errors.scanned.any() else None,
        "joints_mm": float(joints.mean()),
        "worst": names[worst],
        "worst_mm": float(of_part[worst]),
        "failed": bool(apart.mean() > _FAILED_MM and result.status.value != "poor"),
    }
    for side in SIDES:
        found[f"{side}_hand_mm"] = float(apart[hand_vertices(model, side)].mean())
        fingers = np.isin(part, [i for i, n in enumerate(names) if i >= model.body_joints and n.startswith(f"{side}_")])
        if fingers.any():
            found[f"{side}_fingers_mm"] = float(apart[fingers].mean())
    if result.surface is not None:
        near = result.surface.distance_m < 2e-3
        found["within_2_mm"] = float(near.mean())
        found["within_2_mm_beside_hair"] = float(near[~person.hairy[result.person]].mean())
    return found


def summary(rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Summarise the scans of a kind."""
    limit = 20.0 if kind in CLOTHED else 8.0

    def column(name: str) -> np.ndarray:
        return np.array([np.nan if row.get(name) is None else row[name] for row in rows], float)

    v2v, poor = column("v2v_mm"), np.array([row["status"] != "converged" for row in rows])
    wrong = ~(v2v <= 2 * limit)
    found = {
        "people": len(rows),
        "v2v_mm": float(np.nanmean(v2v)),
        "v2v_median_mm": float(np.nanmedian(v2v)),
        "v2v_p95_mm": float(np.nanquantile(v2v, 0.95)),
        "v2v_worst_mm": float(np.nanmax(v2v)),
        "joints_mm": float(np.nanmean(column("joints_mm"))),
        "beyond_twice_the_goal": int(wrong.sum()),
        "of_which_poor": int((wrong & poor).sum()),
        "failed": int(column("failed").sum()),
        "poor": int(poor.sum()),
        "clothed": int(column("clothed").sum()),
        "seconds": float(np.median(column("seconds"))),
        "processor_seconds": float(np.median(column("processor_seconds"))),
    }
    fingers = np.concatenate([column(f"{side}_fingers_mm") for side in SIDES])
    if np.isfinite(fingers).any():
        found |= {"fingers_mm": float(np.nanmean(fingers)), "fingers_median_mm": float(np.nanmedian(fingers))}
    if kind in PARTIAL:
        found["scanned_v2v_mm"] = float(np.nanmean(column("scanned_v2v_mm")))
    if kind == "dressed":
        found |= {name: float(np.nanmean(column(name))) for name in ("within_2_mm", "within_2_mm_beside_hair")}
    return found


def run(drawn: list[Drawn], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Judge all scans, but those that a file of lines has."""
    rows = [] if args.lines is None or not args.lines.exists() else read_lines(args.lines)
    done, console = {(row["kind"], row["number"]) for row in rows}, Console(stderr=True)
    for kind in args.kinds.split(","):
        for number, one in enumerate(drawn, args.first):
            own = MIXED[number % len(MIXED)] if kind == "mixed" else kind
            if (own, number) in done:
                continue
            rows.append(judged(one, own, number, args))
            line = json.dumps(rows[-1])
            if args.lines is not None:
                with args.lines.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            console.print(line, soft_wrap=True, highlight=False)
    return rows


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the scans of an earlier run; a last line that was not written to its end is left out of the file, too."""
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def main() -> None:
    """Print a table of all kinds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of motion clips (npz in AMASS's layout)")
    parser.add_argument("-n", type=int, default=20, help="people of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    parser.add_argument("--kinds", default="full,seen,loose", help=f"of {', '.join(KINDS)}; or mixed")
    parser.add_argument("--points", type=int, default=POINTS, help="points of a scan")
    parser.add_argument("--own-gender", action="store_true", help="fit the gender's own body and not the neutral one")
    parser.add_argument("--clothed", action="store_true", help="dressed people alone, as --kinds dressed")
    parser.add_argument("--hands", action="store_true", help="people with fingers in poses of their own (open-h)")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="a JSON line a scan; those that are there are done")
    parser.add_argument(
        "--say-clothed",
        action=argparse.BooleanOptionalAction,
        help="give clothed=True or False; it is found out otherwise",
    )
    harness.add_json_option(parser)
    args = parser.parse_args()
    args.kinds = "dressed" if args.clothed else args.kinds
    if unknown := sorted(set(args.kinds.split(",")) - {*KINDS, "mixed"}):
        parser.error(f"there is no kind {', '.join(unknown)}; there are {', '.join(KINDS)} and mixed")
    rows = run(people(args.clips, args.n, args.first), args)
    of_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    results = {kind: summary(some, kind) for kind, some in of_kind.items() if some}
    columns = max(results.values(), key=len)
    table = Table("kind", *columns)
    for kind, numbers in results.items():
        cells = [numbers.get(name, "") for name in columns]
        table.add_row(kind, *(f"{v:.3g}" if isinstance(v, float) else str(v) for v in cells))
    Console().print(table)
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
