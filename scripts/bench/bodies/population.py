"""How like people random bodies are: measurements of the open bodies against published surveys of adults.

The first table compares populations; surveys differ in whom they measured, so agreement within their spread is what
there is to find. The second makes, for each survey, the body with its mean height and mass and measures the rest.

    python -m scripts.bench.bodies.population [--bodies 500] [--seed 0]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields

import torch

import bodyfit
from bodyfit.body.anthropometry.measure import Measurements, TapeMeasure
from bodyfit.body.anthropometry.shape_from_measurements import shape_from_measurements
from scripts.bench.records import harness

SHOWN = ("height", "mass", "bmi", "chest", "waist", "hip", "waist/hip", "inseam")

SURVEYS: dict[str, dict[str, dict[str, tuple[float, float | None]]]] = {
    # Gordon et al., 2012 Anthropometric Survey of U.S. Army Personnel (ANSUR II), NATICK/TR-15/007, 2014: 4082 men and
    # 1986 women. Waist at the navel, hip at the greatest protrusion of the buttocks; waist/hip of the means.
    "ANSUR II 2012, US soldiers": {
        "male": {
            **{"height": (1.756, 0.069), "mass": (85.5, 14.2), "chest": (1.058, 0.087), "waist": (0.941, 0.112)},
            **{"hip": (1.020, 0.076), "waist/hip": (0.92, None), "inseam": (0.846, 0.046)},
        },
        "female": {
            **{"height": (1.629, 0.064), "mass": (67.8, 11.0), "chest": (0.947, 0.083), "waist": (0.861, 0.100)},
            **{"hip": (1.021, 0.076), "waist/hip": (0.84, None), "inseam": (0.779, 0.043)},
        },
    },
    # Fryar et al., National Health Statistics Reports 122, 2018: 20 years and over. Waist above the iliac crest.
    "NHANES 2015-2016, US adults": {
        "male": {"height": (1.754, None), "mass": (89.8, None), "bmi": (29.1, None), "waist": (1.021, None)},
        "female": {"height": (1.617, None), "mass": (77.4, None), "bmi": (29.6, None), "waist": (0.980, None)},
    },
    # NCD Risk Factor Collaboration: height, eLife 2016 (born 1996); BMI, Lancet 2016 (adults in 2014).
    "NCD-RisC, the world": {
        "male": {"height": (1.71, None), "bmi": (24.2, None)},
        "female": {"height": (1.59, None), "bmi": (24.4, None)},
    },
}


def table_of(measured: Measurements) -> dict[str, torch.Tensor]:
    """Each measurement, and what follows from them."""
    table = {f.name: getattr(measured, f.name) for f in fields(measured)}
    return table | {"bmi": measured.bmi, "waist/hip": measured.waist / measured.hip}


def cell(name: str, mean: float, sd: float | None) -> str:
    """Mean and deviation in the units of tables: kg, cm."""
    scale, digits = {"mass": (1, 1), "bmi": (1, 1), "waist/hip": (1, 2)}.get(name, (100, 1))
    spread = "" if sd is None else f" ± {sd * scale:.{digits}f}"
    return f"{mean * scale:.{digits}f}{spread}"


def line(label: str, cells: dict[str, str]) -> None:
    print(f"  {label:28}" + "".join(f"{cells.get(name, ''):>14}" for name in SHOWN))


def populations(gender: str, model: bodyfit.BodyModel, tape: TapeMeasure, n: int, seed: int) -> dict[str, dict]:
    """Random bodies beside the surveys: mean and standard deviation of each measurement."""
    with torch.no_grad():
        out = model(betas=bodyfit.random_bodies(n, model=model, seed=seed).betas)
    start = time.perf_counter()
    table = table_of(tape.measure(out.vertices, out.joints))
    seconds = time.perf_counter() - start
    line(f"{n} random bodies", {k: cell(k, float(v.mean()), float(v.std())) for k, v in table.items()})
    for survey, genders in SURVEYS.items():
        line(survey, {k: cell(k, *v) for k, v in genders.get(gender, {}).items()})
    stout = torch.stack([table["bmi"], table["waist"], table["hip"], table["chest"]])
    r = torch.corrcoef(stout)[0, 1:].tolist()
    print(f"  correlation with BMI: waist {r[0]:.2f}, hip {r[1]:.2f}, chest {r[2]:.2f}", end="; ")
    print(f"BMI {float(table['bmi'].min()):.1f} to {float(table['bmi'].max()):.1f}; {seconds / n * 1e3:.1f} ms a body")
    return {"bodies": {k: [float(v.mean()), float(v.std())] for k, v in table.items()}}


def remade(gender: str, model: bodyfit.BodyModel, tape: TapeMeasure) -> dict[str, dict[str, float]]:
    """The bodies with the surveys' mean height and mass: are their girths the surveys'?"""
    found: dict[str, dict[str, float]] = {}
    for survey, genders in SURVEYS.items():
        if not {"height", "mass"} <= set(genders[gender]):
            continue
        height, mass = genders[gender]["height"][0], genders[gender]["mass"][0]
        betas = shape_from_measurements(model, height=height, mass=mass)
        with torch.no_grad():
            out = model(betas=betas)
        table = table_of(tape.measure(out.vertices, out.joints))
        cells = {k: cell(k, float(v), None) for k, v in table.items()}
        for name, (mean, _) in genders[gender].items():
            if name not in ("height", "mass", "bmi", "waist/hip"):
                cells[name] += f" ({(float(table[name]) - mean) * 100:+.1f})"
        line(f"as heavy as {survey.split(',')[0]}", cells)
        found[survey] = {k: float(v) for k, v in table.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    args = parser.parse_args()
    found: dict[str, dict] = {}
    print("cm, kg, kg/m2; mean ± standard deviation; in brackets: how much more than the survey's mean, cm")
    for gender in ("male", "female", "neutral"):
        model = bodyfit.load_model("open", gender=gender)
        tape = TapeMeasure(model.faces, model.weights, model.skeleton)
        print(f"\n{gender}")
        line("", {name: name for name in SHOWN})
        found[gender] = populations(gender, model, tape, args.bodies, args.seed)
        if gender != "neutral":
            found[gender]["as_heavy_as"] = remade(gender, model, tape)
    harness.write_json(args, found)


if __name__ == "__main__":
    main()
