"""The volume about a posed body whose voxels name their nearest vertex."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32, UInt8
from scipy.ndimage import distance_transform_cdt

from bodyfit.errors import OptionError, ShapeError

__all__ = ["NearestVolume", "nearest_volume"]

BLOCK = 4
"""Voxels along the side of a block, the unit in which empty space is leapt over."""
_MOST_VOXELS = 1 << 28


@dataclass(frozen=True, eq=False)
class NearestVolume:
    """The nearest vertex of each voxel of a box about a body."""

    origin_m: Float[np.ndarray, "3"]
    """The box's lowest corner, metres, in the body's axes."""
    voxel_m: float
    """Side of a voxel, metres."""
    nearest: Int32[np.ndarray, "X Y Z"]
    """The vertex nearest to the voxel's centre; -1 where it is farther than the band and a voxel's diagonal."""
    empty: UInt8[np.ndarray, "X4 Y4 Z4"]
    """Of each block of 4 x 4 x 4 voxels, how many blocks in every direction, itself included, name no vertex."""


def nearest_volume(
    vertices: Float[np.ndarray, "V 3"],
    *,
    voxel_m: float | int = 0.01,
    band_m: float | int | Float32[np.ndarray, "V"] = 0.05,
) -> NearestVolume:
    """Find the vertex nearest to each voxel's centre within `band_m` of the vertices, by propagation.

    band_m: one width, or one for each vertex; where bands of several widths meet, a vertex whose band ends before the
    voxel leaves it to the next one.
    Each vertex claims its voxel; a voxel whose vertex is new offers it to its 26 neighbours, until nothing changes
    (vector distance propagation, Danielsson 1980, by a moving front). A neighbour that no such path reaches with its
    true nearest vertex takes one hardly farther. Raises `OptionError` and `ShapeError`.
    """
    points = np.ascontiguousarray(vertices, np.float32)
    bands = np.broadcast_to(np.asarray(band_m, np.float32), len(points))
    least, most = (float(bands.min()), float(bands.max())) if len(bands) else (0.0, 0.0)
    if not (0 < voxel_m <= least + 1e-9 and most < math.inf):
        raise OptionError(f"a volume needs 0 < voxel_m <= band_m, got {voxel_m:g} and {least:g}")
    if not len(points) or not np.isfinite(points).all():
        raise ShapeError("vertices of a body must be finite and at least one")
    from bodyfit.fields.casting.volume_loops import propagate

    low, high = points.min(0).astype(np.float64), points.max(0).astype(np.float64)
    origin = low - most - voxel_m
    size = np.ceil((high - low + 2 * (most + voxel_m)) / (BLOCK * voxel_m)).astype(int) * BLOCK
    if np.prod(size.astype(float)) > _MOST_VOXELS:
        raise OptionError(f"voxels of {voxel_m:g} m are too small for a body of {np.round(high - low, 2)} m")
    nearest = np.full(size, -1, np.int32)
    limits = (bands + np.float32(math.sqrt(3) * voxel_m)) ** 2
    propagate(points, origin, float(voxel_m), limits, nearest)
    blocks = (nearest >= 0).reshape(size[0] // BLOCK, BLOCK, size[1] // BLOCK, BLOCK, size[2] // BLOCK, BLOCK)
    vacant = ~np.any(blocks, axis=(1, 3, 5))
    apart = np.asarray(distance_transform_cdt(vacant, "chessboard"))
    empty = np.minimum(apart, 255).astype(np.uint8)
    return NearestVolume(origin, float(voxel_m), nearest, empty)
