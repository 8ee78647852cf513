"""What is no person in a scan: a floor or wall, a pedestal or chair's plate, stray clusters of points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import label

from bodyfit.geometry.cloud import PointCloud

__all__ = ["Cleaned", "without_surroundings"]

_PLANES = 4
_CANDIDATES = 3
"""Planes that are looked at in each round."""
_TRIALS = 300
_THICK = 0.006
"""Half thickness of a plane, in parts of the scan's diagonal."""
_LEAST, _WIDE = 0.08, 0.22
"""Least share of the points on a plane, and its least width in parts of the diagonal: wider than a back."""
_BEYOND = 0.15
"""Largest share of the points on the lesser side of a plane, which are left out with it: a pedestal below its top."""
_BELOW = 0.6
"""Largest share of the points below the top of a pedestal."""
_CELLS = 48
"""Cells along the diagonal, to find clusters by."""
_CLUSTER = 0.03
"""Clusters with a smaller share of the largest one's points are left out."""


@dataclass(frozen=True)
class Cleaned:
    """A scan without its surroundings."""

    keep: Bool[np.ndarray, "N"]
    """Points that may be a person's."""
    planes: tuple[tuple[Float[np.ndarray, "3"], float], ...]
    """Planes that were found: unit normal to the person's side, and offset; n . p = offset on the plane."""


def without_surroundings(cloud: PointCloud, *, seed: int = 0) -> Cleaned:
    """Find the points that may be a person's: not on wide planes nor behind these, and in large clusters."""
    keep, planes = np.ones(len(cloud), bool), []
    rng = np.random.default_rng(seed)
    for _ in range(_PLANES):
        rows = np.flatnonzero(keep)
        found = _plane(cloud.select(rows), rng, [normal for normal, _ in planes])
        if found is None:
            break
        normal, offset, thick = found
        planes.append((normal, offset))
        keep[rows] = cloud.points[rows] @ normal - offset > thick
    rows = np.flatnonzero(keep)
    keep[rows] = _large_clusters(cloud.points[rows])
    return Cleaned(keep, tuple(planes))


def _plane(
    cloud: PointCloud, rng: np.random.Generator, floors: list[Float[np.ndarray, "3"]]
) -> tuple[Float[np.ndarray, "3"], float, float] | None:
    """Find, of the planes with the most points (RANSAC), the first that is wide and has the others on one side."""
    if len(cloud) < 1000 or cloud.normals is None:
        return None
    rows = rng.permutation(len(cloud))[:8000]
    points, normals = cloud.points[rows], cloud.normals[rows]
    thick, free = _THICK * float(np.linalg.norm(np.ptp(points, axis=0))), np.ones(len(rows), bool)
    for _ in range(_CANDIDATES):
        best, found = 0, None
        for n, p in zip(normals[:_TRIALS], points[:_TRIALS], strict=True):
            on = free & (np.abs((points - p) @ n) < thick) & (np.abs(normals @ n) > 0.9)
            count = int(on.sum())
            if count > max(best, _LEAST * len(rows)):
                best, found = count, on
        if found is None:
            return None
        if (side := _sided(points, found, thick, floors)) is not None:
            return *side, 1.5 * thick
        free &= ~found
    return None


def _sided(
    points: Float[np.ndarray, "N 3"],
    on_plane: Bool[np.ndarray, "N"],
    thick: float,
    floors: list[Float[np.ndarray, "3"]],
) -> tuple[Float[np.ndarray, "3"], float] | None:
    """Return normal and offset of a plane that is wide and has the others on one side; None for any other.

    Above a floor, what is below a parallel plane may be more, as the sides of a pedestal, if it is nowhere wider.
    """
    diagonal, on = thick / _THICK, points[on_plane]
    middle = np.median(on, axis=0)
    _, _, axes = np.linalg.svd(on - middle, full_matrices=False)
    spread = [np.ptp(np.quantile((on - middle) @ axis, (0.02, 0.98))) for axis in axes[:2]]
    normal = axes[2]
    height = (points - middle) @ normal
    above, below = float((height > thick).mean()), float((height < -thick).mean())
    if below > above:
        normal, height, above, below = -normal, -height, below, above
    if min(spread) < _WIDE * diagonal or above < 0.02:
        return None
    floor = next((floor for floor in floors if abs(floor @ normal) > 0.98), None)
    if floor is not None:
        if floor @ normal < 0:
            normal, height, below = -normal, -height, above
        under = (points - middle)[height < -thick] @ axes[:2].T
        reach = 1.15 * np.abs((on - middle) @ axes[:2].T).max(0)
        if below > _BELOW or (len(under) and not (np.abs(under) < reach).all(1).mean() > 0.95):
            return None
    elif below > _BEYOND * (above + below) + 1e-9:
        return None
    return normal, float(middle @ normal)


def _large_clusters(points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, "N"]:
    """Tell which points lie in clusters that are not small beside the largest; cells that touch are of one cluster."""
    low = np.quantile(points, 0.002, axis=0) if len(points) else np.zeros(3)
    high = np.quantile(points, 0.998, axis=0) if len(points) else np.ones(3)
    size = max(float(np.linalg.norm(high - low)) / _CELLS, 1e-12)
    cell = np.floor((points - low) / size).astype(np.int64) + 2
    shape = np.ceil((high - low) / size).astype(np.int64) + 5
    inside = np.all((cell >= 0) & (cell < shape), axis=1)
    filled = np.zeros(shape, np.int64)
    np.add.at(filled, tuple(cell[inside].T), 1)
    clusters = np.zeros(shape, np.int32)
    label(filled > 0, np.ones((3, 3, 3)), output=clusters)
    count = int(clusters.max())
    if count == 0:
        return inside
    members = np.bincount(clusters.ravel(), filled.ravel(), minlength=count + 1)
    members[0] = 0
    large = members >= _CLUSTER * members.max()
    keep = np.zeros(len(points), bool)
    keep[inside] = large[clusters[tuple(cell[inside].T)]]
    return keep
