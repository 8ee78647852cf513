"""Trilinear grids over the band about the canonical body, stored in bricks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32

from bodyfit.errors import OptionError
from bodyfit.fields.casting.canonical import CanonicalBody
from bodyfit.fields.casting.cast import CastConfig
from bodyfit.fields.casting.volume import nearest_volume
from bodyfit.geometry.mesh_tree import MeshTree

__all__ = ["BRICK", "BandGrid", "GridArrays", "band_grid"]

BRICK = 4
"""Nodes along the side of a brick, which lie together in memory."""
_NODES = BRICK**3
_SLACK_M = 0.01
"""How much farther than the band bricks go: bodies bend, and samples near joints land a little outside."""


class GridArrays(NamedTuple):
    """What the compiled loops read of a grid."""

    low: Float64[np.ndarray, "3"]
    """Place of node (0, 0, 0) of every level, metres."""
    tables: Int32[np.ndarray, "T"]
    """The levels' tables of bricks, one after another, each row-major: the brick's number, or -1."""
    dims: Int32[np.ndarray, "L 3"]
    """Bricks along each axis, of each level."""
    starts: Int32[np.ndarray, "L"]
    """Where each level's table begins."""
    sizes: Float64[np.ndarray, "L"]
    """Distance of nodes, metres, of each level."""


@dataclass(frozen=True, eq=False)
class BandGrid:
    """Nodes of several spacings where samples of the band can fall; a place has the sum of the levels' values."""

    arrays: GridArrays
    """The layout."""
    levels: Int32[np.ndarray, "B"]
    """The level of each brick, ascending."""
    corners: Int32[np.ndarray, "B 3"]
    """The lowest node of each brick, in nodes of its level."""
    signed_m: Float32[np.ndarray, "R"]
    """Signed distance of each node to the canonical skin, metres, positive outside."""

    @property
    def rows(self) -> int:
        """Number of nodes: rows of the values."""
        return _NODES * len(self.corners)

    def places(self) -> Float[np.ndarray, "R 3"]:
        """Compute the nodes' places, metres."""
        return _places(self.arrays, self.levels, self.corners)

    def level_rows(self, level: int) -> slice:
        """Return the rows of one level's nodes."""
        first, last = np.searchsorted(self.levels, (level, level + 1))
        return slice(_NODES * int(first), _NODES * int(last))

    def neighbours(self) -> Int32[np.ndarray, "R 3"]:
        """Find the next node of each along x, y and z; -1 for none."""
        a = self.arrays
        local = np.stack(np.meshgrid(*[np.arange(BRICK)] * 3, indexing="ij"), -1).reshape(-1, 3)
        nodes = (self.corners[:, None] + local).reshape(-1, 3)
        level = np.repeat(self.levels, _NODES)
        out = np.full((len(nodes), 3), -1, np.int32)
        for axis in range(3):
            ahead = nodes + np.eye(3, dtype=np.int32)[axis]
            brick, inner = ahead // BRICK, ahead % BRICK
            within = np.all(brick < a.dims[level], axis=1)
            dims = a.dims[level]
            at = a.starts[level] + (brick[:, 0] * dims[:, 1] + brick[:, 1]) * dims[:, 2] + brick[:, 2]
            number = np.where(within, a.tables[np.where(within, at, 0)], -1)
            row = number * _NODES + (inner[:, 0] * BRICK + inner[:, 1]) * BRICK + inner[:, 2]
            out[:, axis] = np.where(number >= 0, row, -1)
        return out


def band_grid(canonical: CanonicalBody, nodes_m: tuple[float, ...], cast: CastConfig) -> BandGrid:
    """Lay bricks of nodes over the places that samples of a band can have.

    nodes_m: distances of nodes, one a level. Raises `OptionError`.
    """
    if not nodes_m or not all(0.002 <= size <= 0.1 for size in nodes_m):
        raise OptionError(f"nodes of a grid must lie 2 mm to 10 cm apart, got {nodes_m}")
    low = canonical.vertices.min(0).astype(np.float64) - cast.widest_m - 0.05
    tables, dims, starts, levels, corners = [], [], [], [], []
    start = bricks = 0
    for level, size in enumerate(nodes_m):
        places = _filled(canonical, cast)
        used = np.unique(np.floor((places - low) / (BRICK * size)).astype(np.int32), axis=0)
        around = np.stack(np.meshgrid(*[(0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        grown = np.floor((places[:, None] + size * around - low) / (BRICK * size)).astype(np.int32)
        used = np.unique(np.concatenate([used, grown.reshape(-1, 3)]), axis=0)
        shape = used.max(0) + 1
        table = np.full(shape, -1, np.int32)
        table[tuple(used.T)] = bricks + np.arange(len(used))
        tables.append(table.ravel())
        dims.append(shape)
        starts.append(start)
        levels.append(np.full(len(used), level, np.int32))
        corners.append(BRICK * used)
        start, bricks = start + table.size, bricks + len(used)
    arrays = GridArrays(
        low,
        np.concatenate(tables),
        np.array(dims, np.int32),
        np.array(starts, np.int32),
        np.array(nodes_m, np.float64),
    )
    numbers, lowest = np.concatenate(levels), np.concatenate(corners).astype(np.int32)
    return BandGrid(arrays, numbers, lowest, _signed(canonical, _places(arrays, numbers, lowest)))


def _places(
    arrays: GridArrays, levels: Int32[np.ndarray, "B"], corners: Int32[np.ndarray, "B 3"]
) -> Float[np.ndarray, "R 3"]:
    """Compute the places of the nodes of bricks, metres."""
    local = np.stack(np.meshgrid(*[np.arange(BRICK)] * 3, indexing="ij"), -1).reshape(-1, 3)
    nodes = corners[:, None] + local
    return (arrays.low + nodes * arrays.sizes[levels][:, None, None]).reshape(-1, 3)


def _signed(canonical: CanonicalBody, places: Float[np.ndarray, "N 3"]) -> Float32[np.ndarray, "N"]:
    """Compute signed distances to the canonical skin, metres: exact, with the sign of the interpolated normal."""
    nearest = MeshTree(canonical.vertices, canonical.faces).nearest(places)
    normals = (canonical.normals[canonical.faces[nearest.face]] * nearest.weights[..., None]).sum(1)
    return np.copysign(nearest.distance, ((places - nearest.points) * normals).sum(1)).astype(np.float32)


def _filled(canonical: CanonicalBody, cast: CastConfig) -> Float[np.ndarray, "N 3"]:
    """List the centres of voxels in the band about the canonical body."""
    voxel_m = min(0.01, float(cast.band_m))
    bands = canonical.bands_m(float(cast.band_m), None if cast.loose_m is None else float(cast.loose_m)) + _SLACK_M
    volume = nearest_volume(canonical.vertices, voxel_m=voxel_m, band_m=bands)
    index: Int[np.ndarray, "N 3"] = np.argwhere(volume.nearest >= 0)
    places = volume.origin_m + (index + 0.5) * voxel_m
    vertex = volume.nearest[tuple(index.T)]
    apart = places - canonical.vertices[vertex]
    outside = (apart * canonical.normals[vertex]).sum(1)
    return places[(np.linalg.norm(apart, axis=1) <= bands[vertex]) & (outside >= -cast.depth_m - _SLACK_M)]
