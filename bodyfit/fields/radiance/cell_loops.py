"""Interpolate in a grid of bricks, in loops compiled by numba.

Arguments that the loops share:
    low, tables, dims, starts, sizes: as in `GridArrays`.
    rows, weights: (8 L,) the nodes about a place, -1 for those that the grid lacks, and their trilinear weights.
"""

from __future__ import annotations

import math

from bodyfit.fields.radiance.grid import BRICK
from bodyfit.runtime.compiled import inline

__all__ = ["corners", "corners_with_slopes", "harmonics"]


@inline
def corners(x, y, z, low, tables, dims, starts, sizes, rows, weights):
    """Fill `rows` and `weights` for a place."""
    for level in range(len(sizes)):
        u, v, w = (x - low[0]) / sizes[level], (y - low[1]) / sizes[level], (z - low[2]) / sizes[level]
        i, j, k = math.floor(u), math.floor(v), math.floor(w)
        u, v, w = u - i, v - j, w - k
        for corner in range(8):
            a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
            rows[8 * level + corner] = _row(i + a, j + b, k + c, level, tables, dims, starts)
            weights[8 * level + corner] = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)


@inline
def corners_with_slopes(x, y, z, low, tables, dims, starts, sizes, rows, weights, slopes):
    """Fill `rows`, `weights`, and `slopes` (8 L, 3), the derivatives of the weights by the place, 1/m."""
    for level in range(len(sizes)):
        size = sizes[level]
        u, v, w = (x - low[0]) / size, (y - low[1]) / size, (z - low[2]) / size
        i, j, k = math.floor(u), math.floor(v), math.floor(w)
        u, v, w = u - i, v - j, w - k
        for corner in range(8):
            a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
            at = 8 * level + corner
            fu, fv, fw = u if a else 1 - u, v if b else 1 - v, w if c else 1 - w
            rows[at], weights[at] = _row(i + a, j + b, k + c, level, tables, dims, starts), fu * fv * fw
            slopes[at, 0] = (1.0 if a else -1.0) * fv * fw / size
            slopes[at, 1] = (1.0 if b else -1.0) * fu * fw / size
            slopes[at, 2] = (1.0 if c else -1.0) * fu * fv / size


@inline
def _row(i, j, k, level, tables, dims, starts):
    """Return the row of a node's values, -1 where the grid lacks it."""
    a, b, c = i // BRICK, j // BRICK, k // BRICK
    if a < 0 or b < 0 or c < 0 or a >= dims[level, 0] or b >= dims[level, 1] or c >= dims[level, 2]:
        return -1
    brick = tables[starts[level] + (a * dims[level, 1] + b) * dims[level, 2] + c]
    if brick < 0:
        return -1
    return ((brick * BRICK + i - a * BRICK) * BRICK + j - b * BRICK) * BRICK + k - c * BRICK


@inline
def harmonics(x, y, z, out):
    """Fill `out` (9,) with the spherical harmonics of a unit normal up to degree two, not normalised."""
    out[0] = 1.0
    out[1], out[2], out[3] = x, y, z
    out[4], out[5], out[6] = x * y, y * z, z * x
    out[7], out[8] = x * x - y * y, 3 * z * z - 1
