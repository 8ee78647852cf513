"""Find the surface of a person in a skirt, with long hair or a bag: as the voxels have it, not as a body has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.mesh_tree import MeshTree
from bodyfit.geometry.subdivision import split_long_edges
from bodyfit.register.free_surface.carve import carve, cubified
from bodyfit.register.free_surface.rims import rim_targets
from bodyfit.register.free_surface.views import CarveView, scan_views
from bodyfit.register.surface.deform import DeformStage, ScanTarget, deform
from bodyfit.register.surface.guard import Guard

__all__ = ["FreeSurface", "surface_of_masks", "surface_of_scan"]

_MIN_POINTS = 1_000
_MIN_VIEWS = 3
_DRAWN_POINTS = 60_000
_MARGIN_M = 0.35
"""How far hair, skirts and bags may reach beyond the body, for the box that masks carve."""
_RIM_ROUNDS = 6


@dataclass(frozen=True, eq=False)
class FreeSurface:
    """A mesh of no body's topology."""

    vertices_m: Float[np.ndarray, "V 3"]
    """Vertices, in the axes of the scan or the cameras, metres."""
    faces: Int[np.ndarray, "F 3"]
    """Triangles, counter-clockwise from outside."""
    distance_m: Float[np.ndarray, " N"] | None
    """Distance of each point of the scan from the surface; None without a scan."""


def surface_of_scan(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "M 3"],
    *,
    axes: Float[np.ndarray, "3 3"] | None = None,
    cell_m: float = 0.015,
    longest_edge_m: float | None = 0.012,
) -> FreeSurface:
    """Carve, cubify and refine the surface of a scan.

    points, normals: metres, outward unit normals. axes: columns, the axes of the grid of voxels in the scan's (a body's
    are the rotation of its root, `so3_exp(params.global_orient)[0]`), the scan's own by default. cell_m: side of a
    voxel. longest_edge_m: longer edges are split for the last steps; None keeps the voxels' mesh. What no side sees
    (the inside of a skirt) is filled. Raises `ShapeError` and `OptionError`.
    """
    check_shape("points", points, (None, 3))
    check_shape("normals", normals, (len(points), 3), hint="one a point")
    _check_length("cell_m", cell_m)
    finite = np.isfinite(points).all(1) & np.isfinite(normals).all(1)
    if finite.sum() < _MIN_POINTS:
        raise OptionError(f"a scan of {finite.sum()} finite points is too small for a surface; give {_MIN_POINTS}")
    scan = ScanTarget(np.ascontiguousarray(points[finite], np.float64), normals[finite].astype(np.float64))
    axes = np.eye(3) if axes is None else axes
    some = scan.some(_DRAWN_POINTS)
    drawn = scan.points[some]
    # Pixels as large as the distance of neighbours, of which each point covers nine: no gaps, and edges less than two
    # pixels too far out.
    pixel_m = max(0.6 * scan.spacing_m * np.sqrt(len(scan.points) / len(some)), 0.3 * cell_m)
    views = scan_views(drawn, scan.normals[some], float(pixel_m))
    own = drawn @ axes
    grid = carve(views, own.min(0) - cell_m, own.max(0) + cell_m, cell_m, axes)
    vertices, faces = cubified(grid)
    at = deform(vertices, faces, scan, _stages(cell_m))
    if longest_edge_m is not None:
        vertices, at, faces, guard = _finer(vertices, at, faces, longest_edge_m)
        at = deform(vertices, faces, scan, _fine_stages(), start=at, guard=guard)
    distance = np.full(len(points), np.nan)
    distance[finite] = MeshTree(at, faces).nearest(scan.points).distance
    return FreeSurface(at, faces, distance)


def surface_of_masks(
    views: Sequence[CarveView],
    body_m: Float[np.ndarray, "V 3"],
    *,
    axes: Float[np.ndarray, "3 3"] | None = None,
    cell_m: float = 0.015,
) -> FreeSurface:
    """Carve and cubify what the masks of three or more calibrated views agree on, and align it to the masks' edges.

    body_m: vertices of the body under, in the axes of the cameras' world, about which the grid lies; axes and cell_m
    are as in `surface_of_scan`. Hollows that no outline shows stay filled. Raises `OptionError`.
    """
    if len(views) < _MIN_VIEWS:
        raise OptionError(f"{len(views)} views are too few to carve from; give {_MIN_VIEWS} or more, from all sides")
    _check_length("cell_m", cell_m)
    axes = np.eye(3) if axes is None else axes
    own = body_m @ axes
    grid = carve(views, own.min(0) - _MARGIN_M, own.max(0) + _MARGIN_M, cell_m, axes)
    vertices, faces = cubified(grid)
    at, guard = vertices, Guard(vertices, faces)
    for round_ in range(_RIM_ROUNDS):
        found = rim_targets(views, at, faces, reach_m=3 * cell_m)
        if len(found[0]) == 0:
            break
        smoothing = cell_m * (3.0 if round_ < _RIM_ROUNDS // 2 else 1.5)
        stage = DeformStage(1, smoothing, 3 * cell_m, 2 * cell_m, len(found[0]), min_cosine=0.5)
        at = deform(vertices, faces, ScanTarget(*found), (stage,), start=at, guard=guard)
    return FreeSurface(at, faces, None)


def _check_length(name: str, value: float) -> None:
    if not 1e-3 <= value <= 0.2:
        raise OptionError(f"{name} must lie in 0.001 to 0.2 metres, got {value:g}")


def _stages(cell_m: float) -> tuple[DeformStage, ...]:
    """Stages for a mesh that lies within two voxels of the scan."""
    reach = 3 * cell_m
    return (
        DeformStage(3, 3 * cell_m, reach, 2 * cell_m, points=20_000),
        DeformStage(3, 1.5 * cell_m, reach, cell_m, points=40_000),
        DeformStage(3, 0.8 * cell_m, reach, 0.7 * cell_m, points=100_000),
    )


def _fine_stages() -> tuple[DeformStage, ...]:
    return (
        DeformStage(2, 0.006, 0.03, 0.01, points=100_000),
        DeformStage(2, 0.003, 0.03, 0.01, points=200_000),
    )


def _finer(
    vertices: Float[np.ndarray, "V 3"],
    at: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    longest_m: float,
) -> tuple[Float[np.ndarray, "W 3"], Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"], Guard]:
    """Split the edges that have become long."""
    parents = np.arange(len(faces))
    for _ in range(2):
        split = split_long_edges(at, faces, longest_m)
        vertices, at, faces, parents = split.refine(vertices), split.refine(at), split.faces, parents[split.parents]
    return vertices, at, faces, Guard(vertices, faces, parents)
