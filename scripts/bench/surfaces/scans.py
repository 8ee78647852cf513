"""How right bodies under scans are: scans of random open bodies in poses of held-out clips, drawn from their meshes.

Each person has betas of the population, a gender, and a pose of a clip that the pose prior was not trained on; the
scan has points spread evenly over the surface, 1 mm of noise in each axis, is turned anyhow, and is in metres,
centimetres or millimetres. Kinds: `full` (all of the surface), `seen` (what eight cameras about the person see:
armpits, mouths and whatever touches have holes), `bare` (as `seen`, without normals), `front` (what two cameras in
front see), `loose` (the surface of trunk and limbs moved outwards by 5 to 45 mm, smoothly, as loose clothes do; hands,
feet and head bare), `floor` (as `seen`, on a floor and a pedestal), `dressed` (the outer surface of a person in a
random outfit: clothes, shoes, hair and what skin they leave; with the surface over, too).

    python -m scripts.bench.surfaces.scans CLIPS [-n 20] [--kinds full,seen,... | --clothed] [--first 0] [--own-gender]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.register.cloud import PointCloud, sampled
from bodyfit.register.views import camera_around, visible_points
from scripts.bench.inputs.synthetic_people import split
from scripts.bench.records import harness
from scripts.bench.surfaces.dressed import dressed_scan

KINDS = ("full", "seen", "bare", "front", "loose", "floor", "dressed")
POINTS = 100_000
NOISE_M = 1e-3
UNITS = (1.0, 0.01, 0.001)
_LOOSE_M = (0.005, 0.045)


@dataclass(frozen=True)
class Person:
    """A body and its scan, metres, in the scan's axes."""

    model: bodyfit.BodyModel
    vertices: np.ndarray
    joints: np.ndarray
    scan: PointCloud
    hairy: np.ndarray
    """Which points are on hair or a hat."""


def people(clips: Path, count: int, first: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Draw genders, poses (23, 3) of held-out clips and betas; person i does not depend on `count`."""
    held_out = split(clips)[1]
    found = []
    for i in range(first, first + count):
        rng = np.random.default_rng([20, i])
        clip = held_out[rng.integers(len(held_out))]
        gender = ("female", "male")[rng.integers(2)]
        found.append((gender, clip.pose[rng.integers(len(clip.pose))], np.clip(rng.standard_normal(10), -2.5, 2.5)))
    return found


def scanned(gender: str, pose: np.ndarray, betas: np.ndarray, kind: str, seed: int) -> Person:
    """Pose a body and scan it."""
    rng = np.random.default_rng([21, seed])
    model = bodyfit.load_model(gender=gender)
    params = model.params(
        betas=torch.from_numpy(betas[None]).float(), body_pose=torch.from_numpy(pose.reshape(1, -1)).float()
    )
    with torch.no_grad():
        out = model(**params)
    vertices, joints = out.vertices[0].double().numpy(), out.joints[0].double().numpy()
    faces = model.faces.numpy()
    hairy = np.zeros(POINTS, bool)
    if kind == "dressed":
        cloud, hairy = dressed_scan(model, params, POINTS, seed)
    else:
        surface = loosened(model, vertices, rng) if kind == "loose" else vertices
        cloud = sampled(surface, faces, POINTS if kind == "full" else 2 * POINTS, seed=seed)
    if kind not in ("full", "dressed"):
        cloud = visible(cloud, (0.0, 40.0) if kind == "front" else tuple(45.0 * k for k in range(8)))
        cloud = cloud.select(rng.permutation(len(cloud))[:POINTS])
    assert cloud.normals is not None
    points, normals = cloud.points, cloud.normals
    if kind == "floor":
        points, normals = with_floor(points, normals, rng)
    points = points + NOISE_M * rng.normal(size=points.shape)
    R, t = Rotation.from_quat(rng.normal(size=4)).as_matrix(), rng.normal(size=3)
    own = None if kind == "bare" else normals @ R.T
    return Person(model, vertices @ R.T + t, joints @ R.T + t, PointCloud(points @ R.T + t, own), hairy)


def visible(cloud: PointCloud, yaws: tuple[float, ...]) -> PointCloud:
    """Keep what cameras about the person see."""
    centre = (cloud.points.min(0) + cloud.points.max(0)) / 2
    radius = float(np.linalg.norm(cloud.points - centre, axis=1).max())
    seen = np.zeros(len(cloud), bool)
    assert cloud.normals is not None
    for k, yaw in enumerate(yaws):
        camera = camera_around(
            centre, radius, np.eye(3)[1], np.eye(3)[2], yaw_deg=yaw, pitch_deg=(20, -15)[k % 2], size_px=300
        )
        rows = visible_points(cloud.points, camera, tolerance=0.015)
        away = -camera.R.T @ camera.t - cloud.points[rows]
        seen[rows[(away * cloud.normals[rows]).sum(1) > 0.15 * np.linalg.norm(away, axis=1)]] = True
    return cloud.select(seen)


def loosened(model: bodyfit.BodyModel, vertices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move the skin of trunk and limbs outwards by a smooth random field."""
    names = model.skeleton.names
    bare = [i for i, name in enumerate(names) if name.rpartition("_")[2] in ("wrist", "hand", "foot", "head", "ankle")]
    dressed = np.clip(1 - 1.5 * model.weights[:, bare].sum(1).double().numpy(), 0, 1)
    waves = rng.normal(size=(12, 3)) * 6
    field = np.sin(vertices @ waves.T + rng.uniform(0, 2 * np.pi, 12)).mean(1) * 12**0.5 / 2
    low, high = _LOOSE_M
    depth = low + (high - low) * np.clip(0.5 + 0.5 * field, 0, 1)
    return vertices + (dressed * depth)[:, None] * vertex_normals(vertices, model.faces.numpy())


def with_floor(points: np.ndarray, normals: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Put a pedestal of 20 cm and a floor below a person, y up."""
    low, (x, _, z) = points[:, 1].min(), points.mean(0)
    n = len(points) // 3
    ground = np.stack([rng.uniform(-1.5, 1.5, n) + x, np.full(n, low - 0.2), rng.uniform(-1.5, 1.5, n) + z], 1)
    top = np.stack([rng.uniform(-0.5, 0.5, n) + x, np.full(n, low), rng.uniform(-0.5, 0.5, n) + z], 1)
    up = np.broadcast_to((0.0, 1.0, 0.0), (2 * n, 3))
    return np.concatenate([points, ground, top]), np.concatenate([normals, up])


def judge(drawn: list[tuple[str, np.ndarray, np.ndarray]], kind: str, args: argparse.Namespace) -> dict[str, Any]:
    """Register all people of one kind; V2V and joint errors in millimetres."""
    rows, console = [], Console(stderr=True)
    neutral = bodyfit.load_model()
    for i, (gender, pose, betas) in enumerate(drawn, args.first):
        person = scanned(gender, pose, betas, kind, i)
        model = person.model if args.own_gender else neutral
        start = time.perf_counter()
        result = bodyfit.register(
            person.scan.points / UNITS[i % len(UNITS)],
            normals=person.scan.normals,
            model=model,
            clothed=args.say_clothed,
            surface=kind == "dressed",
        )
        took = time.perf_counter() - start
        if result.vertices is None or result.joints is None:
            rows.append((np.nan, np.nan, took, True, False, np.nan, np.nan))
            console.print(f"{kind} {i}: {result.status.value}, {result.reason}")
            continue
        apart = 1000 * np.linalg.norm(result.vertices.numpy() - person.vertices, axis=1)
        joints = 1000 * np.linalg.norm(result.joints.numpy() - person.joints, axis=1)
        within, bald = within_2_mm(result, person.hairy)
        rows.append((apart.mean(), joints.mean(), took, result.reason is not None, result.clothed, within, bald))
        names, part = model.skeleton.names, model.weights.argmax(1).numpy()
        of_part = np.bincount(part, apart, len(names)) / np.maximum(np.bincount(part, minlength=len(names)), 1)
        worst = int(of_part.argmax())
        console.print(
            f"{kind} {i}: {apart.mean():.1f} mm, joints {joints.mean():.1f} mm, worst {names[worst]}"
            f" {of_part[worst]:.0f} mm, {took:.0f} s, {result.status.value}"
            f"{' clothed' if result.clothed else ''} {result.reason or ''}"
            f"{'' if np.isnan(within) else f' {100 * within:.1f} % within 2 mm, {100 * bald:.1f} beside hair'}"
        )
    v2v, mpjpe, took, poor, clothed, within, bald = (np.array(column, float) for column in zip(*rows, strict=True))
    limit = 20.0 if kind in ("loose", "dressed") else 8.0
    wrong = ~(v2v <= 2 * limit)
    numbers = {
        "people": len(rows),
        "v2v_mm": float(np.nanmean(v2v)),
        "v2v_median_mm": float(np.nanmedian(v2v)),
        "v2v_p95_mm": float(np.nanquantile(v2v, 0.95)),
        "v2v_worst_mm": float(np.nanmax(v2v)),
        "joints_mm": float(np.nanmean(mpjpe)),
        "beyond_twice_the_goal": int(wrong.sum()),
        "of_which_poor": int((wrong & (poor > 0)).sum()),
        "poor": int(poor.sum()),
        "clothed": int(clothed.sum()),
        "seconds": float(np.median(took)),
    }
    if kind == "dressed":
        numbers |= {"within_2_mm": float(np.nanmean(within)), "within_2_mm_beside_hair": float(np.nanmean(bald))}
    return numbers


def within_2_mm(result: bodyfit.Registration, hairy: np.ndarray) -> tuple[float, float]:
    """Return the share of a scan's points within 2 mm of the surface over: of all, and of those not on hair."""
    if result.surface is None:
        return np.nan, np.nan
    near = result.surface.distance_m < 2e-3
    return float(near.mean()), float(near[~hairy[result.person]].mean())


def main() -> None:
    """Print a table of all kinds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, help="folder of motion clips (npz in AMASS's layout)")
    parser.add_argument("-n", type=int, default=20, help="people of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    parser.add_argument("--kinds", default="full,seen,loose", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--own-gender", action="store_true", help="fit the gender's own body and not the neutral one")
    parser.add_argument("--clothed", action="store_true", help="dressed people alone, as --kinds dressed")
    parser.add_argument(
        "--say-clothed",
        action=argparse.BooleanOptionalAction,
        help="give clothed=True or False; it is found out otherwise",
    )
    harness.add_json_option(parser)
    args = parser.parse_args()
    kinds = ["dressed"] if args.clothed else args.kinds.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"there is no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    drawn = people(args.clips, args.n, args.first)
    results = {kind: judge(drawn, kind, args) for kind in kinds}
    columns = max(results.values(), key=len)
    table = Table("kind", *columns)
    for kind, numbers in results.items():
        cells = [numbers.get(name, "") for name in columns]
        table.add_row(kind, *(f"{v:.3g}" if isinstance(v, float) else str(v) for v in cells))
    Console().print(table)
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
