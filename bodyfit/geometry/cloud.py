"""A cloud of oriented points: drawn from a mesh, thinned on a grid, and given normals where it has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from bodyfit.errors import OptionError, ShapeError
from bodyfit.geometry.mesh_tree import face_normals

__all__ = ["PointCloud", "as_cloud", "estimated_normals", "sampled", "thinned"]

_NEIGHBOURS = 16
"""Points that a normal is estimated from, itself included."""
_MAX_POINTS = 20_000_000


@dataclass(frozen=True)
class PointCloud:
    """Points on a surface."""

    points: Float[np.ndarray, "N 3"]
    """Positions, in the unit and the axes of their source unless said otherwise."""
    normals: Float[np.ndarray, "N 3"] | None = None
    """Unit normals; outward if `oriented`."""
    colors: Float[np.ndarray, "N 3"] | None = None
    """RGB in [0, 1]."""
    oriented: bool = True
    """Whether the normals point outwards; False for normals that were estimated from positions alone."""

    def __len__(self) -> int:
        return len(self.points)

    def select(self, rows: Int[np.ndarray, "M"] | Bool[np.ndarray, "N"] | slice) -> PointCloud:
        """Select points by index, mask or slice."""

        def some(value: np.ndarray | None) -> np.ndarray | None:
            return None if value is None else value[rows]

        return PointCloud(self.points[rows], some(self.normals), some(self.colors), self.oriented)

    def moved(self, R: Float[np.ndarray, "3 3"], offset: Float[np.ndarray, "3"], scale: float = 1.0) -> PointCloud:
        """Transform to scale R (p - offset), normals by R."""
        normals = None if self.normals is None else self.normals @ R.T
        return PointCloud(scale * (self.points - offset) @ R.T, normals, self.colors, self.oriented)


def sampled(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    count: int,
    *,
    colors: Float[np.ndarray, "V 3"] | None = None,
    seed: int = 0,
) -> PointCloud:
    """Sample points uniformly on a mesh, with the normals of its faces; `colors` of vertices are interpolated."""
    rng = np.random.default_rng(seed)
    normals = face_normals(vertices, faces)
    area = np.linalg.norm(normals, axis=1)
    total = np.cumsum(area)
    if not len(total) or not np.isfinite(total[-1]) or total[-1] <= 0:
        raise OptionError("the mesh has no face of finite, positive area")
    # Stratified in area: as even as random points get without a search.
    at = (np.arange(count) + rng.random(count)) / count * total[-1]
    face = np.minimum(np.searchsorted(total, at, side="right"), len(faces) - 1)
    u, v = rng.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    weights = np.stack([1 - u - v, u, v], 1)
    corners = faces[face]
    points = np.einsum("nk,nkc->nc", weights, vertices[corners])
    tint = None if colors is None else np.einsum("nk,nkc->nc", weights, colors[corners])
    return PointCloud(points, normals[face] / np.maximum(area[face, None], 1e-300), tint)


def thinned(points: Float[np.ndarray, "N 3"], count: int, *, seed: int = 0) -> Int[np.ndarray, "M"]:
    """Choose about `count` points, one a cell of a cubic grid of a size found by bisection; all if they are fewer."""
    if len(points) <= count:
        return np.arange(len(points))
    order = np.random.default_rng(seed).permutation(len(points))
    shifted = points[order] - points.min(0)
    low, high = 0.0, float(shifted.max()) + 1e-12
    low, chosen = high / 4096, order
    for _ in range(16):
        size = np.sqrt(low * high)
        cells = (shifted / size).astype(np.int64)
        _, first = np.unique((cells[:, 0] << 42) + (cells[:, 1] << 21) + cells[:, 2], return_index=True)
        if abs(len(first) - count) < abs(len(chosen) - count):
            chosen = order[first]
        if abs(len(first) - count) < 0.05 * count:
            break
        low, high = (low, size) if len(first) < count else (size, high)
    return np.sort(chosen)


def estimated_normals(
    points: Float[np.ndarray, "N 3"], at: Float[np.ndarray, "M 3"] | None = None, *, neighbours: int = _NEIGHBOURS
) -> Float[np.ndarray, "M 3"]:
    """Estimate normals as the direction of least variance of the nearest points; their signs are arbitrary."""
    at = points if at is None else at
    tree, found = KDTree(points), np.empty((len(at), 3))
    for start in range(0, len(at), 50_000):
        rows = slice(start, start + 50_000)
        _, near = tree.query(at[rows], k=min(neighbours, len(points)))
        patch = points[near.reshape(len(at[rows]), -1)]
        patch = patch - patch.mean(1, keepdims=True)
        found[rows] = np.linalg.eigh(np.einsum("nki,nkj->nij", patch, patch))[1][:, :, 0]
    return found


def _array(name: str, value: object, rows: int | None) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != 2 or array.shape[1] != 3 or (rows is not None and len(array) != rows):
        expected = "(N, 3)" if rows is None else f"({rows}, 3), one row a point"
        raise ShapeError(f"{name} must be {expected}, got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"{name} must be numbers, got {array.dtype}")
    return array.astype(np.float64)


def as_cloud(
    points: object, normals: object = None, faces: object = None, colors: object = None, *, count: int = 150_000
) -> PointCloud:
    """Make a cloud from the arrays of a user, of at most about `count` points; a mesh is sampled.

    Points, normals and colours that are not finite are left out. Raises `ShapeError`, and `OptionError` where no
    finite point is left.
    """
    xyz = _array("points", points, None)
    if len(xyz) > _MAX_POINTS:
        raise OptionError(f"{len(xyz)} points are more than {_MAX_POINTS}; thin the scan first")
    n = None if normals is None else _array("normals", normals, len(xyz))
    rgb = None if colors is None else _array("colors", colors, len(xyz))
    if rgb is not None:
        rgb = np.clip(rgb / 255 if rgb.max(initial=0) > 1 else rgb, 0, 1)
    finite = np.all(np.isfinite(xyz), axis=1)
    if not finite.any():
        raise OptionError(f"none of the {len(xyz)} points is finite" if len(xyz) else "the scan has no points")
    if faces is not None and len(np.asarray(faces)):
        triangles = np.asarray(faces)
        if triangles.ndim != 2 or triangles.shape[1] != 3 or triangles.dtype.kind not in "iu":
            raise ShapeError(f"faces must be (F, 3) vertex numbers, got {triangles.dtype} {triangles.shape}")
        if triangles.min() < 0 or triangles.max() >= len(xyz):
            raise OptionError(f"faces name vertices {triangles.min()} to {triangles.max()} of {len(xyz)}")
        triangles = triangles[np.all(finite[triangles], axis=1)].astype(np.int64)
        return sampled(xyz, triangles, count, colors=rgb)
    cloud = PointCloud(xyz, n, rgb).select(finite)
    cloud = cloud.select(thinned(cloud.points, count))
    if cloud.normals is None:
        every = xyz[finite]
        return PointCloud(cloud.points, estimated_normals(every, cloud.points), cloud.colors, oriented=False)
    length = np.linalg.norm(cloud.normals, axis=1)
    usable = np.isfinite(length) & (length > 0)
    cloud = cloud.select(usable)
    if not len(cloud):
        raise OptionError("no normal is finite and of positive length; leave normals out to have them estimated")
    return PointCloud(cloud.points, cloud.normals / length[usable, None], cloud.colors)
