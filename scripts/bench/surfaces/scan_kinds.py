"""Scans of random open bodies in poses of held-out clips, drawn from their meshes.

Each person has betas of the population, a gender, and a pose of a clip that the pose prior was not trained on; the
scan has points spread evenly over the surface and 1 mm of noise in each axis. Kinds: `full` (all of the surface),
`seen` (what eight cameras about the person see: armpits, mouths and whatever touches have holes), `bare` (as `seen`,
without normals), `front` (what two cameras in front see), `half` (as `seen`, of hips and what is above them),
`loose` (the surface of trunk and limbs moved outwards by 5 to 45 mm, smoothly, as loose clothes do; hands, feet and
head bare), `floor` (as `seen`, on a floor and a pedestal), `dressed` (the outer surface of a person in a random outfit:
clothes, shoes, hair and what skin they leave).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

import bodyfit
from bodyfit.geometry.cloud import PointCloud, sampled
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.register.views import camera_around, visible_points
from scripts.bench.inputs.synthetic_people import split
from scripts.bench.surfaces.dressed import dressed_scan

__all__ = ["CLOTHED", "KINDS", "PARTIAL", "POINTS", "UNITS", "Person", "people", "scanned"]

KINDS = ("full", "seen", "bare", "front", "half", "loose", "floor", "dressed")
CLOTHED, PARTIAL = ("loose", "dressed"), ("front", "half")
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


def scanned(
    gender: str,
    pose: np.ndarray,
    betas: np.ndarray,
    kind: str,
    seed: int,
    *,
    count: int = POINTS,
    square: bool = False,
    model: bodyfit.BodyModel | None = None,
    hands: dict[str, torch.Tensor] | None = None,
) -> Person:
    """Pose a body and scan it with `count` points; turned anyhow, or `square`, with any axis up.

    model: of another kind than `open`; hands: poses of its hands.
    """
    rng = np.random.default_rng([21, seed])
    model = bodyfit.load_model(gender=gender) if model is None else model
    posed = torch.from_numpy(pose.reshape(1, -1)).float()[:, : 3 * (model.body_joints - 1)]
    params = model.params(betas=torch.from_numpy(betas[None]).float(), body_pose=posed, **(hands or {}))
    with torch.no_grad():
        out = model(**params)
    vertices, joints = out.vertices[0].double().numpy(), out.joints[0].double().numpy()
    faces = model.faces.numpy()
    hairy = np.zeros(count, bool)
    if kind == "dressed":
        cloud, hairy = dressed_scan(model, params, count, seed)
    else:
        surface = loosened(model, vertices, rng) if kind == "loose" else vertices
        cloud = sampled(surface, faces, count if kind == "full" else 2 * count, seed=seed)
    if kind == "half":
        cloud = cloud.select(cloud.points[:, 1] > joints[0, 1] - 0.1)
    if kind not in ("full", "dressed"):
        cloud = visible(cloud, (0.0, 40.0) if kind == "front" else tuple(45.0 * k for k in range(8)))
        cloud = cloud.select(rng.permutation(len(cloud))[:count])
    assert cloud.normals is not None
    points, normals = cloud.points, cloud.normals
    if kind == "floor":
        points, normals = with_floor(points, normals, rng)
    points = points + NOISE_M * rng.normal(size=points.shape)
    R, t = Rotation.from_quat(rng.normal(size=4)).as_matrix(), rng.normal(size=3)
    if square:
        R = Rotation.create_group("O").as_matrix()[rng.integers(24)]
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
