"""Compute winding numbers and penetration depths of a mesh, in loops compiled by numba.

The winding number of a closed mesh about a point is the signed count of the faces that a ray from it crosses, here one
along +z. Imported where it is used, because numba takes a while to load.

Arguments that several loops share (N vertices, F faces, Q queries):
    vertices: (N, 3) metres; faces: (F, 3) indices; corners: (F, 3, 3) positions of the faces' corners.
    low, cell, nx, ny: corner (3,), side and numbers of cells of a grid in x and y.
    start, items: (nx ny + 1,), (M,) compressed lists of the faces over each cell, as `faces_by_cell` returns them.
    ptr, neighbour, length: (N + 1,), (E,), (E,) compressed lists of each vertex's edges and their lengths.
    centres, reach: (F, 3), (F,) bounding sphere of each face.
"""

from __future__ import annotations

import heapq
import math

import numpy as np

from bodyfit.runtime.compiled import jit

__all__ = ["INSIDE", "depths", "faces_by_cell", "winding"]

INSIDE = 0.75
"""Generalised winding number of the rest of the mesh above which a point is inside. The excluded neighbourhood leaves a
hole, so that it is 0 (a limb) to 1/2 (a flat back) for a free point on the skin, and 1 more inside another part."""


@jit
def faces_by_cell(corners, low, cell, nx, ny):
    """List the faces whose bounding boxes overlap each cell of the grid; returns `start` and `items`."""
    start = np.zeros(nx * ny + 1, np.int64)
    at = np.zeros(nx * ny, np.int64)
    items = np.empty(0, np.int64)
    for filling in (False, True):
        for f in range(len(corners)):
            i0 = int((corners[f, :, 0].min() - low[0]) / cell)
            i1 = int((corners[f, :, 0].max() - low[0]) / cell)
            j0 = int((corners[f, :, 1].min() - low[1]) / cell)
            j1 = int((corners[f, :, 1].max() - low[1]) / cell)
            for i in range(i0, i1 + 1):
                for k in range(i * ny + j0, i * ny + j1 + 1):
                    if filling:
                        items[at[k]] = f
                        at[k] += 1
                    else:
                        start[k + 1] += 1
        if not filling:
            start = np.cumsum(start)
            at = start[:-1].copy()
            items = np.empty(start[-1], np.int64)
    return start, items


@jit
def _is_left(i, j, a, b, q):
    """Tell whether q lies left of the edge from a to b in x and y, alike for both faces that share the edge (i, j)."""
    if i < j:
        return (b[0] - a[0]) * (q[1] - a[1]) - (b[1] - a[1]) * (q[0] - a[0]) >= 0
    return (a[0] - b[0]) * (q[1] - b[1]) - (a[1] - b[1]) * (q[0] - b[0]) < 0


@jit
def _crossing(i, j, k, a, b, c, q):
    """Return 1 where the ray from q along +z leaves through the face, -1 where it enters, else 0.

    i, j, k: the face's vertices; a, b, c: (3,) their positions.
    """
    left = _is_left(i, j, a, b, q)
    if _is_left(j, k, b, c, q) != left or _is_left(k, i, c, a, q) != left:
        return 0
    n = np.cross(b - a, c - a)
    if n[2] == 0:
        return 0
    z = a[2] - (n[0] * (q[0] - a[0]) + n[1] * (q[1] - a[1])) / n[2]
    if z <= q[2]:
        return 0
    return 1 if left else -1


@jit
def winding(queries, vertices, faces, low, cell, nx, ny, start, items):
    """Return the winding number of the closed mesh about each of the queries (Q, 3)."""
    count = np.zeros(len(queries), np.int64)
    for v in range(len(queries)):
        q = queries[v]
        i, j = int((q[0] - low[0]) / cell), int((q[1] - low[1]) / cell)
        if q[0] < low[0] or q[1] < low[1] or i >= nx or j >= ny:
            continue
        for s in range(start[i * ny + j], start[i * ny + j + 1]):
            a, b, c = faces[items[s]]
            count[v] += _crossing(a, b, c, vertices[a], vertices[b], vertices[c], q)
    return count


@jit
def _solid_angle(a, b, c, q):
    """Return the solid angle of a triangle seen from q, positive from behind (van Oosterom and Strackee 1983)."""
    ax, ay, az = a[0] - q[0], a[1] - q[1], a[2] - q[2]
    bx, by, bz = b[0] - q[0], b[1] - q[1], b[2] - q[2]
    cx, cy, cz = c[0] - q[0], c[1] - q[1], c[2] - q[2]
    la = math.sqrt(ax * ax + ay * ay + az * az)
    lb = math.sqrt(bx * bx + by * by + bz * bz)
    lc = math.sqrt(cx * cx + cy * cy + cz * cz)
    triple = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    ab, bc, ca = ax * bx + ay * by + az * bz, bx * cx + by * cy + bz * cz, cx * ax + cy * ay + cz * az
    return 2 * math.atan2(triple, la * lb * lc + ab * lc + bc * la + ca * lb)


@jit
def _ball(source, radius, ptr, neighbour, length, distance, members):
    """Find the vertices within `radius` of one along edges (Dijkstra) and return their number n.

    Writes them to members[:n] and their distances to `distance` (N,), which must be infinite before.
    """
    n = 0
    distance[source] = 0.0
    heap = [(0.0, source)]
    while len(heap) > 0:
        d, v = heapq.heappop(heap)
        if d > distance[v]:
            continue
        members[n] = v
        n += 1
        for e in range(ptr[v], ptr[v + 1]):
            w, far = neighbour[e], d + length[e]
            if far < distance[w] and far <= radius:
                distance[w] = far
                heapq.heappush(heap, (far, w))
    return n


@jit
def _distance2(p, a, b, c):
    """Return the squared distance of a point to a triangle (Ericson 2004, section 5.1.5)."""
    ab, ac, ap = b - a, c - a, p - a
    d1, d2 = np.dot(ab, ap), np.dot(ac, ap)
    if d1 <= 0 and d2 <= 0:
        return np.dot(ap, ap)
    bp = p - b
    d3, d4 = np.dot(ab, bp), np.dot(ac, bp)
    if d3 >= 0 and d4 <= d3:
        return np.dot(bp, bp)
    cp = p - c
    d5, d6 = np.dot(ab, cp), np.dot(ac, cp)
    if d6 >= 0 and d5 <= d6:
        return np.dot(cp, cp)
    vc, vb, va = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        r = ap - d1 / (d1 - d3) * ab
    elif vb <= 0 and d2 >= 0 and d6 <= 0:
        r = ap - d2 / (d2 - d6) * ac
    elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        r = bp - (d4 - d3) / ((d4 - d3) + (d5 - d6)) * (c - b)
    else:
        r = ap - (vb * ab + vc * ac) / (va + vb + vc)
    return np.dot(r, r)


@jit
def depths(candidates, queries, count, near_m, share_m, vertices, faces, centres, reach, normals, edges, incident):
    """Return each candidate's depth inside the mesh without its neighbourhood (0 outside) and the nearest face (or -1).

    candidates: (Q,) vertices; queries: (Q, 3) points just outside the skin at them; count: (Q,) winding numbers of the
    whole mesh about the queries. near_m: radius of the neighbourhood; candidates within share_m of one share its
    neighbourhood. normals: (F, 3) as long as the face's area. edges: (ptr, neighbour, length); incident: compressed
    lists of each vertex's faces.
    """
    ptr, neighbour, length = edges
    of_ptr, of_face = incident
    out, other = np.zeros(len(candidates)), np.full(len(candidates), -1)
    finished = np.zeros(len(candidates), np.bool_)
    distance = np.full(len(vertices), np.inf)
    members = np.empty(len(vertices), np.int64)
    near = np.zeros(len(faces), np.bool_)
    touched = np.empty(len(faces), np.int64)
    for seed in range(len(candidates)):
        if finished[seed]:
            continue
        n = _ball(candidates[seed], near_m, ptr, neighbour, length, distance, members)
        n_near = 0
        for m in range(n):
            for s in range(of_ptr[members[m]], of_ptr[members[m] + 1]):
                if not near[of_face[s]]:
                    near[of_face[s]] = True
                    touched[n_near] = of_face[s]
                    n_near += 1
        for row in range(seed, len(candidates)):
            if not finished[row] and distance[candidates[row]] <= share_m:
                finished[row] = True
                q = queries[row]
                own = 0.0
                for m in range(n_near):
                    f = touched[m]
                    x, y, z = centres[f, 0] - q[0], centres[f, 1] - q[1], centres[f, 2] - q[2]
                    r2 = x * x + y * y + z * z
                    if r2 > 25 * reach[f] * reach[f]:  # far away: approximate by the projected area
                        own += (x * normals[f, 0] + y * normals[f, 1] + z * normals[f, 2]) / (r2 * math.sqrt(r2))
                    else:
                        own += _solid_angle(vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]], q)
                if count[row] - own / (4 * math.pi) > INSIDE:
                    out[row], other[row] = _nearest(vertices[candidates[row]], vertices, faces, centres, reach, near)
        for m in range(n):
            distance[members[m]] = np.inf
        for m in range(n_near):
            near[touched[m]] = False
    return out, other


@jit
def _nearest(p, vertices, faces, centres, reach, without):
    """Return the distance of p to the faces that `without` (F,) does not exclude, and the nearest; 0 and -1 if none."""
    best, at = np.inf, -1
    for f in range(len(faces)):
        if not without[f]:
            x, y, z = centres[f, 0] - p[0], centres[f, 1] - p[1], centres[f, 2] - p[2]
            bound = best + reach[f]
            if x * x + y * y + z * z < bound * bound:
                d2 = _distance2(p, vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]])
                if d2 < best * best:
                    best, at = math.sqrt(d2), f
    return (best, at) if at >= 0 else (0.0, -1)
