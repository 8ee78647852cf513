"""Signs of estimated normals: outwards is where the cameras are that see a point, and where a body curves away from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from bodyfit.geometry.cloud import PointCloud, thinned
from bodyfit.register.views import camera_around, visible_points

__all__ = ["oriented"]

_SIDE_PX = 112
_RADIUS_M = 0.10
_ROUNDS = 5


def oriented(cloud: PointCloud) -> PointCloud:
    """Turn normals of unknown signs outwards, of a person in metres; others are returned as they are.

    Each point has votes: of 18 cameras around the person, those that see it, and the side that the points within 10 cm
    curve away from. Votes are then smoothed over neighbours.
    """
    if cloud.oriented or cloud.normals is None or len(cloud) < 20:
        return cloud
    points, normals = cloud.points, cloud.normals
    centre = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points - centre, axis=1).max())
    votes = np.zeros(len(points))
    for pitch in (-45.0, 0.0, 45.0):
        for yaw in range(0, 360, 60):
            camera = camera_around(
                centre, radius, np.eye(3)[1], np.eye(3)[2], yaw_deg=yaw, pitch_deg=pitch, size_px=_SIDE_PX
            )
            rows = visible_points(points, camera, tolerance=0.04)
            away = -camera.R.T @ camera.t - points[rows]
            away /= np.linalg.norm(away, axis=1, keepdims=True)
            votes[rows] += (normals[rows] * away).sum(1)
    few = points[thinned(points, 4000)]
    tree = KDTree(few)
    for start in range(0, len(points), 20_000):
        rows = slice(start, start + 20_000)
        distance, near = tree.query(points[rows], k=min(64, len(few)), distance_upper_bound=_RADIUS_M)
        found = np.isfinite(distance)
        padded = np.concatenate([few, np.zeros((1, 3))])[near]
        mean = (padded * found[..., None]).sum(1) / np.maximum(found.sum(1), 1)[:, None]
        votes[rows] += 2 * np.tanh(((points[rows] - mean) * normals[rows]).sum(1) / 0.01)
    _, near = KDTree(points).query(points, k=min(9, len(points)))
    agree = np.einsum("nkc,nc->nk", normals[near], normals)
    for _ in range(_ROUNDS):
        votes = 0.5 * votes + 0.5 * (agree * np.clip(votes, -3, 3)[near]).mean(1)
    return replace(cloud, normals=normals * np.where(votes < 0, -1.0, 1.0)[:, None], oriented=True)
