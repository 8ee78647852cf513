"""Draw a field in one march, without samples that are stored, in loops compiled by numba."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.fields.casting.cast_loops import blend, next_sample, place_on_ray, step_span
from bodyfit.fields.radiance.cell_loops import corners, corners_with_slopes, harmonics
from bodyfit.fields.radiance.train_loops import softplus
from bodyfit.runtime.compiled import loose

__all__ = ["at_places", "draw"]


@loose
def at_places(first, last, places, low, tables, dims, starts, sizes, values, out):
    """Write the values at places first to last - 1 (N, 3) to `out` (N, 4)."""
    rows, parts = np.empty(8 * len(sizes), np.int64), np.empty(8 * len(sizes))
    for n in range(first, last):
        corners(places[n, 0], places[n, 1], places[n, 2], low, tables, dims, starts, sizes, rows, parts)
        for c in range(4):
            total = 0.0
            for k in range(len(rows)):
                if rows[k] >= 0:
                    total += parts[k] * values[rows[k], c]
            out[n, c] = total


@loose
def draw(first, last, origins, directions, offsets, warp, ring_ptr, ring, reach, origin, voxel, nearest, empty, step,
         band, depth, wide_ptr, wide, low, tables, dims, starts, sizes, values, light, opaque, extent,
         out):  # fmt: skip
    """Write colour (times opacity), opacity, distance and normal of rays first to last - 1 to `out` (R, 8).

    Arguments as in `cast_loops` and `train_loops`; extent: (V,) height above each vertex beyond which nothing is.
    The distance is that at which half of the light is stopped, between two samples; 0 where less is.
    """
    rows, parts = np.empty(8 * len(sizes), np.int64), np.empty(8 * len(sizes))
    slopes, basis = np.empty((8 * len(sizes), 3)), np.empty(9)
    bias, scale, least = opaque[0], opaque[1], opaque[3]
    for r in range(first, last):
        i, stop = step_span(origins, directions, offsets, r, origin, voxel, nearest, step)
        through = 1.0
        while True:
            i, v, signed = next_sample(origins, directions, offsets, r, i, stop, warp, ring_ptr, ring, reach, origin,
                                       voxel, nearest, empty, step, band, depth)  # fmt: skip
            if i >= stop:
                break
            t = (i + offsets[r]) * step
            i += 1
            if signed > extent[v]:
                continue
            x, y, z = place_on_ray(origins, directions, r, t)
            px, py, pz, nx, ny, nz = blend(x, y, z, v, warp, wide_ptr, wide)
            corners(px, py, pz, low, tables, dims, starts, sizes, rows, parts)
            d = 0.0
            for k in range(len(rows)):
                if rows[k] >= 0:
                    d += parts[k] * values[rows[k], 0]
            density, _ = softplus(d + bias)
            alpha = 1 - math.exp(-scale * density * step)
            share = through * alpha
            if share > 1e-4:
                harmonics(nx, ny, nz, basis)
                for c in range(3):
                    a = shade = 0.0
                    for k in range(len(rows)):
                        if rows[k] >= 0:
                            a += parts[k] * values[rows[k], 1 + c]
                    for h in range(9):
                        shade += light[h, c] * basis[h]
                    out[r, c] += share * shade / (1 + math.exp(-a))
            out[r, 3] += share
            if through > 0.5 and through - share <= 0.5:
                ahead = math.log(through / 0.5) / max(scale * density * step, 1e-9)  # of a step, from its beginning
                out[r, 4] = t + (ahead - 0.5) * step
                corners_with_slopes(px, py, pz, low, tables, dims, starts, sizes, rows, parts, slopes)
                _normal(rows, slopes, values, warp[v], out[r])
            through -= share
            if through < least:
                break


@loose
def _normal(rows, slopes, values, row, out):
    """Write the unit normal -L^T grad(logit) to out[5:8], which points to where the density falls."""
    gx = gy = gz = 0.0
    for k in range(len(rows)):
        if rows[k] >= 0:
            value = values[rows[k], 0]
            gx += slopes[k, 0] * value
            gy += slopes[k, 1] * value
            gz += slopes[k, 2] * value
    x = -(row[6] * gx + row[9] * gy + row[12] * gz)
    y = -(row[7] * gx + row[10] * gy + row[13] * gz)
    z = -(row[8] * gx + row[11] * gy + row[14] * gz)
    length = math.sqrt(x * x + y * y + z * z)
    if length > 0:
        out[5], out[6], out[7] = x / length, y / length, z / length
