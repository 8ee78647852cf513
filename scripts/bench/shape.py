"""How right the measurements of `bodyfit shape` are, and their intervals, on rendered people of known shape.

    python -m scripts.bench.shape [--people N] [--clips N] [--seed N] [--skins FOLDER] [--clothed] [--calibrate]
        [--json FILE]

People are of the male and the female open body with random betas, as many of either; fits are of the neutral body, as
nobody told it better. They stand, arms a little away from the body, in thin paint; the height is known, the focal
length (42 to 66 degrees) is not. Keypoints and masks are those of the shipped detector. Settings: one view from the
front; front and side in poses that differ a little; 16 frames of a clip in which the person turns.

Errors are those of chest, waist and hip girth, mm, by keypoints alone and with silhouettes ("true": with the masks of
the renderer, which tells what the detector's cost). Coverage is the share of all measurements but the height, which is
known, that lie in their 90 % intervals. --clothed: people wear random outfits of the CC0 clothes that ship, from
tight ones to jackets and skirts, and fits are told that clothes are loose. --calibrate prints the factors of
`fit/pictures_config.py` for the people of the seed: those that ship are of seed 1000 (40 people, 10 clips; 16 in
clothes), the default seed's are judged alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

import bodyfit
from bodyfit.app.shape import ShapeResult, fit_shape_of
from bodyfit.body.anthropometry.intervals import measurement_intervals
from bodyfit.fit.pictures_config import PicturesConfig
from scripts.bench.inputs.shape_people import Person, make_person
from scripts.bench.records import harness

GIRTHS = ("chest", "waist", "hip")
VIEWS = {"one view": ("front",), "front and side": ("front", "side"), "turning clip": ("clip",)}
MASKS = {"keypoints": "none", "silhouettes": "detector", "true silhouettes": "true"}
_Z90 = 1.645


def draw(count: int, clips: int, seed: int, skins: Path | None, *, clothed: bool) -> list[Person]:
    """Make people and what the detector sees of them; the first have a clip, too."""
    detector = bodyfit.load_detector("movenet", masks=True)
    people = []
    for i in range(count):
        views = ("front", "side", "clip") if i < clips else ("front", "side")
        people.append(make_person(seed + i, detector.detect, skins, views=views, clothed=clothed))
    return people


def fitted(
    people: Sequence[Person], views: Sequence[str], masks: str, clothes: str = "tight"
) -> list[tuple[Person, ShapeResult]]:
    """Measure the people who have these views."""
    model, found, pictures = bodyfit.load_model(), [], PicturesConfig.of_clothes(clothes)
    for person in people:
        if all(view in person.frames for view in views):
            frames, seen = person.views(*views, masks=masks)
            height = person.measurements["height"]
            found.append((person, fit_shape_of(frames, seen, height_m=height, model=model, pictures=pictures)))
    return found


def judged(found: Sequence[tuple[Person, ShapeResult]]) -> dict[str, float]:
    """Compute errors, mm, and coverage."""
    some = [(person, result) for person, result in found if result.measurements]
    off = {g: [1000 * (r.measurements[g].value - p.measurements[g]) for p, r in some] for g in GIRTHS}
    mean = {f"{g}_mm": float(np.abs(off[g]).mean()) for g in GIRTHS}
    inside = [
        m.low <= p.measurements[name] <= m.high
        for p, r in some
        for name, m in r.measurements.items()
        if name != "height"
    ]
    girths = [r.measurements[g].low <= p.measurements[g] <= r.measurements[g].high for p, r in some for g in GIRTHS]
    return {
        "people": len(found),
        "failed": len(found) - len(some),
        **mean,
        "mean_mm": float(np.mean(list(mean.values()))),
        "median_mm": float(np.median(np.abs(list(off.values())))),
        "bias_mm": float(np.mean(list(off.values()))),
        "coverage": float(np.mean(inside)),
        "coverage_girths": float(np.mean(girths)),
    }


def calibrated(found: Sequence[tuple[Person, ShapeResult]]) -> tuple[float, dict[str, float]]:
    """Find factor and shares (`MeasurementError`) by likelihood, scaled so that 90 % intervals hold 90 %."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for person, result in found:
        if not result.measurements:
            continue
        for name, m in measurement_intervals(result.model, result.betas, result.covariance).items():
            rows.setdefault(name, []).append((m.value - person.measurements[name], m.sd, m.value))
    names = [name for name in rows if name != "height"]
    off, sd, value = np.moveaxis(np.array([rows[name] for name in names]), 2, 0)

    def variance(x: np.ndarray) -> np.ndarray:
        return np.exp(x[0]) * sd**2 + np.exp(2 * x[1:, None]) * value**2

    def cost(x: np.ndarray) -> float:
        v = variance(x)
        return float((np.log(v) + np.minimum(off**2 / v, 9.0)).sum() + 0.1 * np.square(x - start).sum())

    start = np.array([0.0, *[-4.0] * len(names)])
    x = minimize(cost, start, method="Powell", options={"maxiter": 40}).x
    wider = np.quantile(np.abs(off) / np.sqrt(variance(x)), 0.9) / _Z90
    shares = wider * np.exp(x[1:])
    return float(wider**2 * np.exp(x[0])), dict(zip(names, shares.tolist(), strict=True))


def main() -> None:
    """Draw, fit, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=40, metavar="N")
    parser.add_argument("--clips", type=int, default=12, metavar="N", help="how many of them turn in a clip, too")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="number of the first person")
    parser.add_argument("--skins", type=Path, metavar="FOLDER", help="textures of skins; one colour without")
    parser.add_argument("--clothed", action="store_true", help="people in clothes, not in paint")
    parser.add_argument("--calibrate", action="store_true", help="print the calibration of intervals, too")
    harness.add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    people = draw(args.people, args.clips, args.seed, args.skins, clothed=args.clothed)
    report(people, args)


def report(people: Sequence[Person], args: argparse.Namespace) -> None:
    """Print a line for each setting, and write the record."""
    results, pooled = {}, {masks: [] for masks in MASKS}
    clothes = "loose" if args.clothed else "tight"
    for views in VIEWS:
        for masks in MASKS:
            start = time.process_time()
            found = fitted(people, VIEWS[views], MASKS[masks], clothes)
            if not found:
                continue
            pooled[masks] += found
            numbers = judged(found) | {"cpu_s": (time.process_time() - start) / max(len(found), 1)}
            results[f"{views}, {masks}"] = numbers
            print(f"{views}, {masks}: " + ", ".join(f"{k} {v:.3g}" for k, v in numbers.items()), flush=True)
    if args.calibrate:
        for masks in ("keypoints", "silhouettes"):
            factor, shares = calibrated(pooled[masks])
            print(masks, f"factor={factor:.2f},", {name: float(f"{share:.2g}") for name, share in shares.items()})
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
