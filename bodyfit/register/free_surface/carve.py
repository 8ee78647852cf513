"""Carve a grid of voxels by masks and depths, and make a mesh of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt, label

from bodyfit.errors import OptionError
from bodyfit.geometry.neighbours import neighbour_means
from bodyfit.register.free_surface.views import CarveView

__all__ = ["VoxelGrid", "carve", "cubified", "without_diagonals"]

_MOST_VOXELS = 60_000_000
_TAUBIN = (0.5, -0.53)
_SMOOTHINGS = 10
_CHUNK = 1_000_000
_MIN_WITNESSES = 2
"""Views in whose pictures a voxel must lie."""


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """Cubes of space, each occupied or free."""

    corner_m: Float[np.ndarray, "3"]
    """The grid's lowest corner, in its own axes."""
    axes: Float[np.ndarray, "3 3"]
    """Its axes, as columns in those of the world."""
    cell_m: float
    """A cube's side."""
    occupied: Bool[np.ndarray, "X Y Z"]
    """What is left."""

    def centres(self, voxels: Int[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Return the middles of voxels in the world."""
        return (self.corner_m + self.cell_m * (voxels + 0.5)) @ self.axes.T


def carve(
    views: Sequence[CarveView],
    low: Float[np.ndarray, "3"],
    high: Float[np.ndarray, "3"],
    cell_m: float,
    axes: Float[np.ndarray, "3 3"],
) -> VoxelGrid:
    """Keep the voxels of a box that every view agrees with, and of these the largest connected part.

    low, high: the box along `axes` (columns, in the world). A view carves what it sees outside its mask, by more than
    half a voxel, or in front of its depth by more than one; it says nothing on what lies outside its picture. What
    fewer than two views see is free. Raises `OptionError` where the grid is too large or nothing is left.
    """
    shape = tuple(int(n) + 2 for n in np.ceil((high - low) / cell_m))
    if np.prod(shape, dtype=np.float64) > _MOST_VOXELS:
        raise OptionError(f"a grid of {shape[0]} x {shape[1]} x {shape[2]} voxels is too large; give a larger cell_m")
    grid = VoxelGrid(low - cell_m, axes, cell_m, np.ones(shape, bool))
    left = np.stack(np.unravel_index(np.arange(grid.occupied.size), shape), 1)
    witnesses = np.zeros(len(left), np.int64)
    for view in views:
        outside_px = np.asarray(distance_transform_edt(~view.mask))
        parts = [grid.centres(left[k : k + _CHUNK]) for k in range(0, len(left), _CHUNK)]
        answers = [_free_and_visible(view, outside_px, part, cell_m) for part in parts]
        free, visible = (np.concatenate(columns) for columns in zip(*answers, strict=True))
        left, witnesses = left[~free], (witnesses + visible)[~free]
        if len(left) == 0:
            break
    left = left[witnesses >= _MIN_WITNESSES]
    if len(left) == 0:
        raise OptionError("nothing is left of the voxels: masks and cameras do not belong together")
    occupied = np.zeros(shape, bool)
    occupied[tuple(left.T)] = True
    parts, count = label(occupied)  # pyright: ignore[reportGeneralTypeIssues]
    if count > 1:
        occupied = parts == 1 + np.bincount(parts[parts > 0] - 1).argmax()
    return VoxelGrid(grid.corner_m, axes, cell_m, without_diagonals(occupied))


def without_diagonals(occupied: Bool[np.ndarray, "X Y Z"]) -> Bool[np.ndarray, "X Y Z"]:
    """Fill a voxel wherever two touch along an edge alone, about which a mesh would have four faces and no inside."""
    occupied = occupied.copy()
    changed = True
    while changed:
        changed = False
        for axis in range(3):
            slab = np.moveaxis(occupied, axis, 0)  # a view
            a, b, c, d = slab[:, :-1, :-1], slab[:, :-1, 1:], slab[:, 1:, :-1], slab[:, 1:, 1:]
            falling, rising = a & d & ~b & ~c, b & c & ~a & ~d
            b |= falling
            a |= rising
            changed |= bool(falling.any() or rising.any())
    return occupied


def _free_and_visible(
    view: CarveView, outside_px: np.ndarray, centres: Float[np.ndarray, "N 3"], cell_m: float
) -> tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Tell where a view shows that there is nothing, and what lies in its picture."""
    xy, depth = view.project(centres)
    at, inside = view.pixels(xy)
    row, column = at.T
    size_px = view.camera.focal_px * cell_m / np.maximum(depth, 1e-3)
    free = outside_px[row, column] > 0.5 * size_px
    if view.depth_m is not None:
        with np.errstate(invalid="ignore"):
            free |= np.isfinite(view.depth_m[row, column]) & (depth < view.depth_m[row, column] - cell_m)
    return free & inside, inside


def cubified(grid: VoxelGrid) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Make a mesh of the occupied voxels' outer sides (PyTorch3D's `cubify`), in the world, and smooth its steps.

    The smoothing is Taubin's, which keeps the volume.
    """
    from pytorch3d.ops import cubify

    inner = torch.from_numpy(np.pad(grid.occupied, 1).transpose(2, 1, 0).copy()).float()
    # In "corner" alignment the corners of the grid lie at -1 and 1.
    corners, faces = (packed.numpy() for packed in cubify(inner[None], 0.5, align="corner").get_mesh_verts_faces(0))
    size = np.array(grid.occupied.shape) + 2
    places = grid.corner_m + grid.cell_m * (np.rint((corners.astype(np.float64) + 1) / 2 * size) - 1)
    return _smoothed(places, faces) @ grid.axes.T, faces


def _smoothed(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Smooth a mesh by Taubin's filter: towards the mean of the neighbours, and a little more away from it."""
    means = neighbour_means(faces, len(vertices))
    for step in _TAUBIN * _SMOOTHINGS:
        vertices = vertices + step * (means @ vertices - vertices)
    return vertices
