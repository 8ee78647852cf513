"""Scans of dressed people: points on the outer visible surface of skin, clothes, shoes and hair."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

import bodyfit
from bodyfit.appearance import DressedPerson
from bodyfit.geometry.cloud import PointCloud, sampled
from bodyfit.raster.depth import depth_map
from bodyfit.register.views import camera_around

__all__ = ["dressed_scan", "outer_points"]

_LEFT_OUT = ("brows", "lashes")
"""Transparent cards in front of skin."""
_YAWS_DEG, _PITCHES_DEG = range(0, 360, 30), (-50, -15, 15, 50)
_SIZE_PX = 500
_TOLERANCE_M = 0.003
"""Points no farther than this behind what a camera sees are on the outer surface."""


def dressed_scan(
    model: bodyfit.BodyModel, params: bodyfit.BodyParams, count: int, seed: int
) -> tuple[PointCloud, Bool[np.ndarray, "N"]]:
    """Dress one body in a random outfit; return points on its outer surface, and which of them are on hair or a hat."""
    outfit = bodyfit.random_outfits(1, seed=seed, gender=model.gender)
    person = bodyfit.dress(params, model=model, outfit=outfit[0])[0]
    vertices, faces, hairy = _joined(person)
    cloud, face = _sampled(vertices, faces, 5 * count, seed)
    assert cloud.normals is not None
    rows = np.flatnonzero(outer_points(cloud, vertices, faces))
    rows = np.random.default_rng(seed).permutation(rows)[:count]
    return cloud.select(rows), hairy[face[rows]]


def _joined(
    person: DressedPerson,
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"], Bool[np.ndarray, "F"]]:
    """Join the opaque surfaces of a person to one mesh; tell which faces are of hair or a hat."""
    vertices, faces, hairy, start = [], [], [], 0
    for surface in person.surfaces():
        if surface.kind in _LEFT_OUT:
            continue
        vertices.append(surface.vertices.double().numpy())
        faces.append(surface.faces + start)
        hairy.append(np.full(len(surface.faces), surface.kind in ("hair", "hat")))
        start += len(vertices[-1])
    return np.concatenate(vertices), np.concatenate(faces), np.concatenate(hairy)


def _sampled(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], count: int, seed: int
) -> tuple[PointCloud, Int[np.ndarray, "N"]]:
    """Sample a mesh; return each point's face, which travels as a colour."""
    number = np.repeat(np.arange(len(faces))[:, None], 3, 0).reshape(-1, 1) * np.ones(3)
    apart = np.arange(3 * len(faces)).reshape(-1, 3)
    cloud = sampled(vertices[faces.ravel()], apart, count, colors=number, seed=seed)
    assert cloud.colors is not None
    return PointCloud(cloud.points, cloud.normals), np.rint(cloud.colors[:, 0]).astype(np.int64)


def outer_points(
    cloud: PointCloud, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Bool[np.ndarray, "N"]:
    """Tell which points of a mesh a camera sees that stands anywhere about it, y up, from the side of their normals."""
    centre = (vertices.min(0) + vertices.max(0)) / 2
    radius = float(np.linalg.norm(vertices - centre, axis=1).max())
    outer = np.zeros(len(cloud), bool)
    assert cloud.normals is not None
    for yaw in _YAWS_DEG:
        for pitch in _PITCHES_DEG:
            camera = camera_around(
                centre, radius, np.eye(3)[1], np.eye(3)[2], yaw_deg=yaw, pitch_deg=pitch, size_px=_SIZE_PX
            )
            focal, middle = float(camera.K[0, 0]), (float(camera.K[0, 2]), float(camera.K[1, 2]))
            depth = depth_map(vertices @ camera.R.T + camera.t, faces, focal, middle, (_SIZE_PX, _SIZE_PX)).depth_m
            at = cloud.points @ camera.R.T + camera.t
            column, row = np.clip(np.floor(focal * at[:, :2] / at[:, 2:] + middle), 0, _SIZE_PX - 1).astype(int).T
            facing = -(cloud.normals @ camera.R.T * at).sum(1) > 0.2 * np.linalg.norm(at, axis=1)
            outer |= facing & (at[:, 2] < depth[row, column] + _TOLERANCE_M)
    return outer
