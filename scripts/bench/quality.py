"""Whether fits know when they are wrong: status `poor` against the truth, and the calibration of what decides it.

People with known bodies come in two ways: rendered pictures (`quality_pictures.py`) that the real detector looks at,
and keypoints made up with gross mistakes (`quality_people.py`). Both are split by clip and seed into people that
thresholds are chosen on and held-out ones that they are judged by.

    python -m scripts.bench.quality look CLIPS [CLIPS ...] -o DATA [--skins FOLDER] [--pictures 1500]
    python -m scripts.bench.quality judge CLIPS [CLIPS ...] -o DATA [--split held-out|calibration]
    python -m scripts.bench.quality calibrate CLIPS [CLIPS ...] -o DATA

`look` draws and detects, goes on where it was stopped, and keeps keypoints and truth alone. `judge` fits them and
counts: of those called good how many are wrong, of the right ones how many are called poor, with 95 % intervals
(Wilson).
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

import bodyfit
from bodyfit.app.pipeline import lift_to_camera
from bodyfit.evaluate import metrics
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.initialise.left_right import SWAPS
from bodyfit.fit.quality.status import Features
from bodyfit.fit.result import FitStatus
from bodyfit.geometry.camera import Camera, default_focal_px
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import SMPL, layout_names
from scripts.bench.inputs.quality_people import SIZE, Composite, composites, spoilt
from scripts.bench.inputs.quality_pictures import KINDS, Motion, Picture, Studio, everyday, is_held_out, read_motions
from scripts.bench.records import harness

WRONG_MM = 150.0
"""PA-MPJPE beyond which a fit is wrong."""
PLAIN = ("none", "no legs", "head and shoulders")
"""Composites in which nothing is mistaken."""
_ENOUGH = 8
"""Joints that say so; of fewer see `is_wrong`."""
_ENDS = ("elbow", "wrist", "hand", "knee", "ankle", "foot")
_GIRTHS = (("knee", 0.07), ("ankle", 0.045), ("foot", 0.04), ("elbow", 0.04), ("wrist", 0.035), ("hand", 0.03))
"""Half the thickness of the bone that ends at a joint, metres."""
_SHARD = 52
"""Pictures in one file."""
_MATCHED = 0.3
"""A detection is of a person whose joints it marks within this part of their extent, in the median."""


@dataclass(frozen=True)
class Sighting:
    """A person who was detected, or a ghost, with the truth."""

    kind: str
    held_out: bool
    size: tuple[int, int]
    focal_px: float
    keypoints: Keypoints2D
    joints: np.ndarray | None
    """(24, 3) metres, camera axes; None of a ghost."""
    visible: np.ndarray
    """(24,) joints that the picture shows."""
    betas: np.ndarray


def look(motions: list[Motion], skins: Path | None, out: Path, pictures: int, kinds: tuple[str, ...] | None) -> None:
    """Draw pictures, look at them, and write who was found; as many of each kind, or (None) as people have them."""
    from bodyfit.detect import DEFAULT, load_detector

    studio, detector = Studio(motions, skins), load_detector(DEFAULT)
    halves = [[m for m in motions if is_held_out(m.name) == held] for held in (False, True)]
    out.mkdir(parents=True, exist_ok=True)
    for shard in range(-(-pictures // _SHARD)):
        path = out / f"{'pictures' if kinds else 'everyday'}_{shard:04}.npz"
        if path.exists():
            continue
        rows = []
        for k in range(_SHARD):
            number = shard * _SHARD + k
            if kinds:
                kind, held = kinds[number % len(kinds)], (number // len(kinds)) % 2
                clips = halves[held]
            else:
                held = number % 2
                kind, clips = everyday(np.random.default_rng((7, number)), halves[held])
            picture = studio.draw(number + (0 if kinds else 1 << 20), kind, clips)
            found = detector.detect([Frame(picture.image)])[0]
            rows += [_row(number, k, kind, held, picture, person) for k, person in enumerate(found)]
        temporary = path.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, **{key: np.array([row[key] for row in rows]) for key in rows[0]})
        temporary.rename(path)
        print(f"{path.name}: {len(rows)} people", flush=True)


def _row(number: int, order: int, kind: str, held: int, picture: Picture, person: Keypoints2D) -> dict:
    size = (picture.image.shape[1], picture.image.shape[0])
    who = matched(person, picture, size)
    nobody = np.full((24, 3), np.nan)
    return {
        "picture": number,
        "order": order,
        "kind": kind,
        "held_out": bool(held),
        "size": size,
        "focal_px": picture.focal_px,
        "xyc": person.xyc,
        "lift_m": np.full((len(person.xyc), 3), np.nan) if person.lift_m is None else person.lift_m,
        "lift_centre_px": (np.nan, np.nan) if person.lift_centre_px is None else person.lift_centre_px,
        "score": person.score,
        "layout": person.layout,
        "people": len(picture.joints),
        "who": -1 if who is None else who,
        "joints": nobody if who is None else picture.joints[who],
        "visible": np.zeros(24, bool) if who is None else picture.visible[who],
        "betas": np.full(10, np.nan) if who is None else picture.betas[who],
    }


def matched(person: Keypoints2D, picture: Picture, size: tuple[int, int]) -> int | None:
    """Which of the picture's people a detection is of, whatever it takes for left and right; None for a ghost."""
    names = layout_names(person.layout)
    pairs = [(k, SMPL.index(n)) for k, n in enumerate(names) if n in SMPL.names] + [(names.index("nose"), 15)]
    other = {k: SMPL.index(_mirrored(SMPL.names[j])) for k, j in pairs}
    camera = Camera.make(1, size, focal_px=picture.focal_px)
    best, answer = _MATCHED, None
    for who, joints in enumerate(picture.joints):
        xy = camera.project(torch.tensor(joints)[None])[0].numpy()
        seen = picture.visible[who]
        if not seen.any():
            continue
        extent = max(np.ptp(xy[seen], axis=0).max(), 0.3 * np.ptp(xy, axis=0).max())
        off = []
        for k, j in pairs:
            if seen[j] and person.xyc[k, 2] >= 0.1:
                here = person.xyc[k, :2]
                off.append(min(np.linalg.norm(here - xy[j]), np.linalg.norm(here - xy[other[k]])))
        if len(off) >= 1 and (distance := float(np.median(off)) / extent) < best:
            best, answer = distance, who
    return answer


def _mirrored(name: str) -> str:
    return name.replace("left", "#").replace("right", "left").replace("#", "right")


def read(folder: Path, source: str) -> list[Sighting]:
    """Everyone that `look` found in "everyday" ones or in "pictures" of all kinds."""
    sightings = []
    for path in sorted(folder.glob(f"{source}_*[0-9].npz")):
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
        for i in range(len(arrays["picture"])):
            row = {key: value[i] for key, value in arrays.items()}
            lift = row["lift_m"] if np.isfinite(row["lift_m"]).any() else None
            centre = tuple(row["lift_centre_px"].tolist()) if np.isfinite(row["lift_centre_px"]).all() else None
            person = Keypoints2D(str(row["layout"]), row["xyc"], lift, centre, float(row["score"]))
            joints = row["joints"] if row["who"] >= 0 else None
            size = (int(row["size"][0]), int(row["size"][1]))
            visible = row["visible"] if joints is None else row["visible"] & unhidden(joints)
            known = (joints, visible, row["betas"])
            sightings.append(
                Sighting(str(row["kind"]), bool(row["held_out"]), size, float(row["focal_px"]), person, *known)
            )
    return sightings


@dataclass(frozen=True)
class Case:
    """A fit and the truth about it."""

    source: str
    """"everyday", "pictures" or "composites"."""
    kind: str
    layout: str
    held_out: bool
    features: np.ndarray
    poor: bool
    wrong: bool
    error_mm: float
    """PA-MPJPE of the joints that the picture shows; NaN of a ghost, and where these are too few."""


def is_wrong(joints: np.ndarray, truth: np.ndarray | None, visible: np.ndarray) -> tuple[bool, float]:
    """Whether a fit is wrong, and its PA-MPJPE in millimetres, over the joints that the picture shows.

    Wrong is an error of more than 150 mm. Of people of whom fewer than eight joints show (faces), which a similarity
    nearly always brings near, wrong is a size off by more than 1.6, or joints that are farther from the truth (without
    turning) than they lie apart. A body where nobody is, is wrong.
    """
    if truth is None:
        return True, np.nan
    rows = np.flatnonzero(visible)
    a, b = torch.tensor(joints[rows])[None].double(), torch.tensor(truth[rows])[None].double()
    if len(rows) >= _ENOUGH:
        error = float(metrics.pa_mpjpe(a, b).per_item[0])
        return error > WRONG_MM, error
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    size = float(a.norm() / b.norm().clamp_min(1e-9))
    return not 1 / 1.6 < size < 1.6 or float((a - b).norm() / b.norm().clamp_min(1e-9)) > 1, np.nan


def unhidden(joints: np.ndarray) -> np.ndarray:
    """Which of a body's 24 joints no other part of it stands before, more than 10 cm nearer to the camera.

    Bones are taken for capsules of an adult's girth; joints of the trunk count as seen.
    """
    bones = [(SMPL.parents[j], j) for j in range(1, 24)]
    bones += [(SMPL.index(f"{side}_hip"), SMPL.index(f"{side}_shoulder")) for side in ("left", "right")]
    along = np.linspace(0, 1, 9)[:, None]
    answer = np.ones(24, bool)
    for j in (j for j, name in enumerate(SMPL.names) if any(part in name for part in _ENDS)):
        distance = np.linalg.norm(joints[j])
        ray = joints[j] / distance
        near = {j, SMPL.parents[j], *(k for k in range(24) if SMPL.parents[k] == j)}
        for a, b in bones:
            if a in near or b in near:
                continue
            points = joints[a] + along * (joints[b] - joints[a])
            depth = points @ ray
            beside = np.linalg.norm(points - depth[:, None] * ray, axis=1)
            girth = next((r for part, r in _GIRTHS if part in SMPL.names[b]), 0.11)
            answer[j] &= not ((beside < girth) & (depth < distance - 0.1)).any()
    return answer


def fitted(
    source: str, people: list[tuple[str, bool, tuple[int, int], float, Keypoints2D, np.ndarray | None, np.ndarray]]
) -> list[Case]:
    """Fits of people as (kind, held out, picture's size, focal length, keypoints, true joints, which are visible)."""
    cases: list[Case] = []
    for layout in sorted({person[4].layout for person in people}):
        fitter = Fitter(layout=layout, model=bodyfit.load_model())
        mine = [person for person in people if person[4].layout == layout]
        for first in range(0, len(mine), 256):
            some = mine[first : first + 256]
            lifts = [lift_to_camera(keypoints, focal, size) for _, _, size, focal, keypoints, _, _ in some]
            nothing = np.full((len(layout_names(layout)), 3), np.nan)
            given = {
                "image_size": (1024, 1024),
                "focal_px": torch.tensor([person[3] for person in some]).float(),
                "principal_point_px": torch.tensor([[n / 2 for n in person[2]] for person in some]).float(),
                "joints3d": np.stack([nothing if lift is None else lift for lift in lifts]),
            }
            if all(lift is None for lift in lifts):
                given["joints3d"] = None
            xyc = np.stack([person[4].xyc for person in some])
            result = fitter(xyc, **given)
            known, _, present = fitter.checked(bodyfit.Evidence(keypoints=xyc, layout=layout, **given))
            known, present = fitter.observer.partial.without_guesses(known, present)
            swapped = torch.tensor([-1 if swap is None else SWAPS.index(swap) for swap in result.swapped or ()])
            known, present = fitter.exchanged.as_fitted(known, present, swapped)
            points = fitter.outcome.points(fitter.variables.pack(result.params))
            columns = fitter.quality.features(result, points, known, present).columns().double().numpy()
            for i, (kind, held, _, _, _, truth, visible) in enumerate(some):
                if result.status[i].ok:
                    wrong, error = is_wrong(result.joints[i, :24].numpy(), truth, visible)
                    poor = result.status[i] is FitStatus.POOR
                    cases.append(Case(source, kind, layout, held, columns[i], poor, wrong, error))
    return cases


def everyone(folder: Path, motions: list[Motion], each: int, held: bool | None) -> list[Case]:
    """All cases, of one half or both."""
    cases: list[Case] = []
    for source in ("everyday", "pictures"):
        found = [s for s in read(folder, source) if held in (None, s.held_out)]
        people = [
            (s.kind, s.held_out, s.size, default_focal_px(s.size), s.keypoints, s.joints, s.visible) for s in found
        ]
        cases += fitted(source, people)
    for half in (False, True) if held is None else (held,):
        clips = [m for m in motions if is_held_out(m.name) == half]
        sure = [s for s in read(folder, "pictures") if s.held_out == half and s.visible.sum() >= 16]
        looked_at = [
            Composite("none", s.keypoints, s.joints, s.visible, s.size) for s in sure if s.keypoints.lift_m is not None
        ]
        made = spoilt(looked_at, 2 * each, seed=int(half))
        people = [(c.mistake, half, c.size, default_focal_px(c.size), c.person, c.joints, c.visible) for c in made]
        for layout in ("coco17", "openpose25"):
            made = composites(clips, each, layout, seed=int(half))
            people += [(c.mistake, half, SIZE, 1000.0, c.person, c.joints, c.visible) for c in made]
        cases += fitted("composites", people)
    return cases


def calibrate(cases: list[Case]) -> None:
    """Print the tables of `fit/quality/status.py`: logistic regression, and the logit that loses 8 % of right fits, of
    everyday pictures or of whole composites without a mistake.

    Neither are fits between right and wrong taken (110 to 150 mm), nor mistakes that leave no trace.
    """
    wrong_or_right = [c for c in cases if c.wrong or not 110 < c.error_mm <= WRONG_MM]
    for name, is_mine, of in (
        ("LANDMARKS", lambda c: c.layout == "mediapipe33", range(5)),
        ("OTHERS", lambda c: c.layout != "mediapipe33" and c.kind != "turned round", range(2)),
    ):
        some = [c for c in wrong_or_right if is_mine(c)]
        x, y, w = np.array([c.features for c in some])[:, of], np.array([c.wrong for c in some]), _weights(some)
        bias, slope, usual = regression(x, y, w)
        print(name)
        for term, per, middle in zip([f.name for f in fields(Features)], slope, usual, strict=False):
            print(f'        "{term}": Weight({per:.2f}, {middle:.2f}),')
        wanted = ("everyday", None) if name == "LANDMARKS" else ("composites", "none")
        plain = [
            c for c in cases if is_mine(c) and not c.wrong and c.source == wanted[0] and wanted[1] in (None, c.kind)
        ]
        logit = bias + (np.array([c.features for c in plain])[:, of] - usual) @ slope
        print(f"    bias {bias:.2f}, poor beyond {np.quantile(logit, 0.92):.2f}")


def _weights(cases: list[Case]) -> np.ndarray:
    """Every source counts as much as another, composites a fifth, and every kind within it; of composites those without
    a mistake count threefold."""
    groups = Counter((c.source, c.kind if c.source != "everyday" else "", c.layout) for c in cases)
    kinds = Counter(source for source, _, _ in groups)
    weight = []
    for c in cases:
        size = groups[c.source, c.kind if c.source != "everyday" else "", c.layout]
        share = (0.2 if c.source == "composites" else 1.0) * (3.0 if c.kind in PLAIN else 1.0)
        weight.append(share / kinds[c.source] / size)
    return np.array(weight) * len(cases) / sum(weight)


def regression(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Logistic regression with a small ridge: the logit of usual features, slopes, and the means of right ones."""
    usual, scale = np.average(x[~y], axis=0, weights=weight[~y]), x.std(0) + 1e-9
    z = np.c_[np.ones(len(x)), (x - usual) / scale]

    def cost(b: np.ndarray) -> tuple[float, np.ndarray]:
        logit = z @ b
        gradient = z.T @ (weight * (1 / (1 + np.exp(-logit)) - y))
        gradient[1:] += 2 * b[1:]
        return float((weight * (np.logaddexp(0, logit) - y * logit)).sum() + (b[1:] ** 2).sum()), gradient

    b = minimize(cost, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B").x
    return float(b[0]), b[1:] / scale, usual


def judge(cases: list[Case]) -> dict[str, dict[str, int]]:
    """Print what became of whom, by kind; give the counts."""
    counts: dict[str, dict[str, int]] = {}
    table = Table("source", "kind", "people", "wrong", "of good: wrong", "95 %", "of right: poor", "95 %")
    for source in ("everyday", "pictures", "composites"):
        mine = [c for c in cases if c.source == source]
        rows = [
            ("all", mine),
            *((kind, [c for c in mine if c.kind == kind]) for kind in dict.fromkeys(c.kind for c in mine)),
        ]
        if source == "composites":
            rows += [(layout, [c for c in mine if c.layout == layout]) for layout in sorted({c.layout for c in mine})]
        for kind, some in rows:
            good, right = [c for c in some if not c.poor], [c for c in some if not c.wrong]
            wrong = sum(c.wrong for c in some)
            missed, lost = sum(c.wrong for c in good), sum(c.poor for c in right)
            counts[f"{source}, {kind}"] = {"people": len(some), "wrong": wrong, "good": len(good), "good_wrong": missed}
            counts[f"{source}, {kind}"] |= {"right": len(right), "right_poor": lost}
            table.add_row(source, kind, str(len(some)), str(wrong), *_rate(missed, len(good)), *_rate(lost, len(right)))
    Console(width=120).print(table)
    return counts


def _rate(k: int, n: int) -> tuple[str, str]:
    """k of n in percent, and its 95 % interval (Wilson)."""
    if n == 0:
        return "-", ""
    p, z = k / n, 1.96
    middle, half = (p + z * z / (2 * n)), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{k}/{n} {100 * p:.1f} %", f"{100 * low:.1f} to {100 * high:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["look", "judge", "calibrate"])
    parser.add_argument("clips", type=Path, nargs="+", help="folders of motion in the AMASS layout")
    parser.add_argument("-o", "--data", type=Path, required=True, help="folder of what `look` finds")
    parser.add_argument("--skins", type=Path, help="textures of skins for the body")
    parser.add_argument("--pictures", type=int, default=1500, help="as many of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of these kinds")
    parser.add_argument("--everyday", type=int, default=1000, help="of the kinds that people have")
    parser.add_argument("--people", type=int, default=60, help="composites for each mistake and layout")
    parser.add_argument("--split", choices=["held-out", "calibration"], default="held-out")
    harness.add_json_option(parser)
    args = parser.parse_args()
    motions = read_motions(args.clips)
    if args.what == "look":
        look(motions, args.skins, args.data, args.pictures, tuple(args.kinds))
        look(motions, args.skins, args.data, args.everyday, None)
        return
    held = args.what == "judge" and args.split == "held-out"
    cases = everyone(args.data, motions, args.people, held)
    if args.what == "calibrate":
        calibrate(cases)
    else:
        harness.write_json(args, judge(cases))


if __name__ == "__main__":
    main()
