"""Propagate nearest vertices through a volume, in a loop compiled by numba."""

from __future__ import annotations

import numpy as np

from bodyfit.runtime.compiled import jit

__all__ = ["propagate"]


@jit
def propagate(vertices, origin, voxel, limits, nearest):
    """Write the nearest vertex of each voxel of `nearest` (X, Y, Z), -1 before, whose centre is near enough.

    limits: (V,) squared distances up to which each vertex is one. vertices: (V, 3) float32, all within the box.
    origin: (3,) its lowest corner.
    """
    nx, ny, nz = nearest.shape
    found = nearest.reshape(-1)
    best = np.full(len(found), np.float32(np.inf), np.float32)
    waits = np.zeros(len(found), np.uint8)
    front, following = np.empty(len(found), np.int32), np.empty(len(found), np.int32)
    count = 0
    for v in range(len(vertices)):
        i = int((vertices[v, 0] - origin[0]) / voxel)
        j = int((vertices[v, 1] - origin[1]) / voxel)
        k = int((vertices[v, 2] - origin[2]) / voxel)
        dx = np.float32(origin[0] + (i + 0.5) * voxel) - vertices[v, 0]
        dy = np.float32(origin[1] + (j + 0.5) * voxel) - vertices[v, 1]
        dz = np.float32(origin[2] + (k + 0.5) * voxel) - vertices[v, 2]
        at = (i * ny + j) * nz + k
        d2 = dx * dx + dy * dy + dz * dz
        if d2 < best[at]:
            best[at], found[at] = d2, v
            if not waits[at]:
                waits[at] = 1
                front[count] = at
                count += 1
    while count > 0:
        count_next = 0
        for q in range(count):
            at = front[q]
            waits[at] = 0
            v = found[at]
            k, j, i = at % nz, (at // nz) % ny, at // (ny * nz)
            for di in range(max(i - 1, 0), min(i + 2, nx)):
                dx = np.float32(origin[0] + (di + 0.5) * voxel) - vertices[v, 0]
                for dj in range(max(j - 1, 0), min(j + 2, ny)):
                    dy = np.float32(origin[1] + (dj + 0.5) * voxel) - vertices[v, 1]
                    row = (di * ny + dj) * nz
                    for dk in range(max(k - 1, 0), min(k + 2, nz)):
                        dz = np.float32(origin[2] + (dk + 0.5) * voxel) - vertices[v, 2]
                        d2 = dx * dx + dy * dy + dz * dz
                        if d2 < best[row + dk] and d2 <= limits[v]:
                            best[row + dk], found[row + dk] = d2, v
                            if not waits[row + dk]:
                                waits[row + dk] = 1
                                following[count_next] = row + dk
                                count_next += 1
        front, following = following, front
        count = count_next
