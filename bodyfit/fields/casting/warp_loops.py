"""Pull gradients of canonical places back through the blended warp, in loops compiled by numba."""

from __future__ import annotations

from bodyfit.fields.casting.cast_loops import SOFT_M2, blend
from bodyfit.runtime.compiled import jit

__all__ = ["pull_back", "warp_points"]


@jit
def warp_points(first, last, points, vertex, warp, wide_ptr, wide, out):
    """Write the canonical places of points first to last - 1 (N, 3) with given vertices to `out` (N, 3)."""
    for n in range(first, last):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        out[n, 0], out[n, 1], out[n, 2], _, _, _ = blend(x, y, z, vertex[n], warp, wide_ptr, wide)


@jit
def pull_back(points, vertex, by_place, warp, wide_ptr, wide, by_vertex, by_linear):
    """Add the derivatives by posed vertices (V, 3) and their maps L (V, 3, 3), of a loss with `by_place` (N, 3).

    The weights of the blend move with the vertices, too; the nearest vertex stays.
    """
    for n in range(len(points)):
        gx, gy, gz = by_place[n, 0], by_place[n, 1], by_place[n, 2]
        if gx == 0 and gy == 0 and gz == 0:
            continue
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        px, py, pz, _, _, _ = blend(x, y, z, vertex[n], warp, wide_ptr, wide)
        first, last = wide_ptr[vertex[n]], wide_ptr[vertex[n] + 1]
        total = 0.0
        for q in range(first, last):
            row = warp[wide[q]]
            d2 = (x - row[0]) ** 2 + (y - row[1]) ** 2 + (z - row[2]) ** 2 + SOFT_M2
            total += 1 / (d2 * d2)
        for q in range(first, last):
            at = wide[q]
            row = warp[at]
            dx, dy, dz = x - row[0], y - row[1], z - row[2]
            d2 = dx * dx + dy * dy + dz * dz + SOFT_M2
            share = 1 / (d2 * d2) / total
            away = gx * (row[15] + row[6] * dx + row[7] * dy + row[8] * dz - px)
            away += gy * (row[16] + row[9] * dx + row[10] * dy + row[11] * dz - py)
            away += gz * (row[17] + row[12] * dx + row[13] * dy + row[14] * dz - pz)
            away *= 4 * share / d2
            by_vertex[at, 0] += away * dx - share * (gx * row[6] + gy * row[9] + gz * row[12])
            by_vertex[at, 1] += away * dy - share * (gx * row[7] + gy * row[10] + gz * row[13])
            by_vertex[at, 2] += away * dz - share * (gx * row[8] + gy * row[11] + gz * row[14])
            by_linear[at, 0, 0] += share * gx * dx
            by_linear[at, 0, 1] += share * gx * dy
            by_linear[at, 0, 2] += share * gx * dz
            by_linear[at, 1, 0] += share * gy * dx
            by_linear[at, 1, 1] += share * gy * dy
            by_linear[at, 1, 2] += share * gy * dz
            by_linear[at, 2, 0] += share * gz * dx
            by_linear[at, 2, 1] += share * gz * dy
            by_linear[at, 2, 2] += share * gz * dz
