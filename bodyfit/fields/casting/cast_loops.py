"""March rays through the band about a posed body and warp their samples, in loops compiled by numba.

Arguments that the loops share:
    origins, directions, offsets: (R, 3), (R, 3), (R,) the rays.
    warp: (V, 18) float32, rows of `PosedBody.warp`.
    ring_ptr, ring: neighbours of vertices; wide_ptr, wide: vertices with two rings of neighbours.
    reach: (V,) bound on the distance of surface points to their nearest vertex.
    low, voxel, nearest, empty: the volume.
    step, depth: metres; band: (V,) width of the band at each vertex.
"""

from __future__ import annotations

import math

from bodyfit.fields.casting.samples import DISTANCE_UNIT_M, PLACE_UNIT_M
from bodyfit.fields.casting.volume import BLOCK
from bodyfit.runtime.compiled import inline, jit

__all__ = ["blend", "count_samples", "fill_samples", "next_sample", "place_on_ray", "step_span"]

SOFT_M2 = 1e-5
"""What is added to squared distances before the warp is blended, m^2."""


@inline
def place_on_ray(origins, directions, r, t):
    """Return the place on ray r at distance t."""
    return (
        origins[r, 0] + t * directions[r, 0],
        origins[r, 1] + t * directions[r, 1],
        origins[r, 2] + t * directions[r, 2],
    )


@inline
def _box_span(origins, directions, r, low, voxel, nearest):
    """Return the lengths between which ray r is in the volume's box; the first beyond the second where it misses."""
    first, last = 0.0, 1e9
    for k in range(3):
        extent = nearest.shape[k] * voxel
        o, d = origins[r, k] - low[k], float(directions[r, k])
        if abs(d) < 1e-12:
            if o < 0 or o >= extent:
                last = -1.0
            continue
        a, b = -o / d, (extent - o) / d
        first, last = max(first, min(a, b)), min(last, max(a, b))
    return first, last


@inline
def _walk(x, y, z, v, warp, ring_ptr, ring):
    """Walk along edges from vertex v to one nearer to a point than its neighbours; return it and its distance^2."""
    dx, dy, dz = x - warp[v, 0], y - warp[v, 1], z - warp[v, 2]
    least = dx * dx + dy * dy + dz * dz
    while True:
        at = v
        for q in range(ring_ptr[at], ring_ptr[at + 1]):
            u = ring[q]
            dx, dy, dz = x - warp[u, 0], y - warp[u, 1], z - warp[u, 2]
            d2 = dx * dx + dy * dy + dz * dz
            if d2 < least:
                least, v = d2, u
        if v == at:
            return v, least


@jit
def next_sample(origins, directions, offsets, r, i, stop, warp, ring_ptr, ring, reach, low, voxel, nearest, empty, step,
                band, depth):  # fmt: skip
    """Return the first sample of ray r from step i on: its step (`stop` for none), vertex and signed distance."""
    nx, ny, nz = nearest.shape
    inverse = 1 / voxel
    while i < stop:
        t = (i + offsets[r]) * step
        x, y, z = place_on_ray(origins, directions, r, t)
        a = math.floor((x - low[0]) * inverse)
        b = math.floor((y - low[1]) * inverse)
        c = math.floor((z - low[2]) * inverse)
        if a < 0 or b < 0 or c < 0 or a >= nx or b >= ny or c >= nz:
            i += 1
            continue
        blocks = empty[a // BLOCK, b // BLOCK, c // BLOCK]
        if blocks > 0:
            i += max(1, int((blocks - 1) * BLOCK * voxel / step))
            continue
        v = nearest[a, b, c]
        if v < 0:
            i += 1
            continue
        v, d2 = _walk(x, y, z, v, warp, ring_ptr, ring)
        if d2 <= band[v] * band[v]:
            plane = (x - warp[v, 0]) * warp[v, 3] + (y - warp[v, 1]) * warp[v, 4] + (z - warp[v, 2]) * warp[v, 5]
            apart = math.sqrt(max(d2 - reach[v] * reach[v], 0.0))
            signed = math.copysign(max(abs(plane), apart), plane)
            if signed >= -depth:
                return i, v, signed
        i += 1
    return stop, 0, 0.0


@inline
def blend(x, y, z, v, warp, wide_ptr, wide):
    """Return the canonical place of a point and its unit normal, blended over vertex v and its two rings."""
    total = px = py = pz = nx = ny = nz = 0.0
    for q in range(wide_ptr[v], wide_ptr[v + 1]):
        row = warp[wide[q]]
        dx, dy, dz = x - row[0], y - row[1], z - row[2]
        d2 = dx * dx + dy * dy + dz * dz + SOFT_M2
        w = 1 / (d2 * d2)
        total += w
        px += w * (row[15] + row[6] * dx + row[7] * dy + row[8] * dz)
        py += w * (row[16] + row[9] * dx + row[10] * dy + row[11] * dz)
        pz += w * (row[17] + row[12] * dx + row[13] * dy + row[14] * dz)
        nx, ny, nz = nx + w * row[3], ny + w * row[4], nz + w * row[5]
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    length = max(length, 1e-30)
    return px / total, py / total, pz / total, nx / length, ny / length, nz / length


@inline
def step_span(origins, directions, offsets, r, low, voxel, nearest, step):
    """Return the first step of ray r within the volume, and that after the last, as packed steps can hold them."""
    near, far = _box_span(origins, directions, r, low, voxel, nearest)
    if far <= near:
        return 0, 0
    return max(0, math.ceil(near / step - offsets[r])), min(65536, math.floor(far / step - offsets[r]) + 1)


@jit
def count_samples(first, last, origins, directions, offsets, warp, ring_ptr, ring, reach, low, voxel, nearest, empty,
                  step, band, depth, counts):  # fmt: skip
    """Count the samples of rays first to last - 1 into `counts` (R,)."""
    for r in range(first, last):
        i, stop = step_span(origins, directions, offsets, r, low, voxel, nearest, step)
        count = 0
        while True:
            i, _, _ = next_sample(origins, directions, offsets, r, i, stop, warp, ring_ptr, ring, reach, low, voxel,
                                  nearest, empty, step, band, depth)  # fmt: skip
            if i >= stop:
                break
            count += 1
            i += 1
        counts[r] = count


@jit
def fill_samples(first, last, origins, directions, offsets, warp, ring_ptr, ring, reach, low, voxel, nearest, empty,
                 step, band, depth, wide_ptr, wide, zero, ptr, out_step, out_place, out_normal, out_distance,
                 out_vertex):  # fmt: skip
    """Write the samples of rays first to last - 1, packed, from row ptr[r] on."""
    for r in range(first, last):
        i, stop = step_span(origins, directions, offsets, r, low, voxel, nearest, step)
        for n in range(ptr[r], ptr[r + 1]):
            i, v, signed = next_sample(origins, directions, offsets, r, i, stop, warp, ring_ptr, ring, reach, low,
                                       voxel, nearest, empty, step, band, depth)  # fmt: skip
            t = (i + offsets[r]) * step
            x, y, z = place_on_ray(origins, directions, r, t)
            px, py, pz, nx, ny, nz = blend(x, y, z, v, warp, wide_ptr, wide)
            out_place[n, 0] = int(min(max((px - zero[0]) / PLACE_UNIT_M + 0.5, 0.0), 65535.0))
            out_place[n, 1] = int(min(max((py - zero[1]) / PLACE_UNIT_M + 0.5, 0.0), 65535.0))
            out_place[n, 2] = int(min(max((pz - zero[2]) / PLACE_UNIT_M + 0.5, 0.0), 65535.0))
            out_normal[n, 0] = round(127 * nx)
            out_normal[n, 1] = round(127 * ny)
            out_normal[n, 2] = round(127 * nz)
            out_distance[n] = round(min(max(signed / DISTANCE_UNIT_M, -32767.0), 32767.0))
            out_step[n], out_vertex[n] = i, v
            i += 1
