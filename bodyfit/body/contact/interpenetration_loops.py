"""The loops of the check for self-penetration, compiled by numba.

The winding number of a closed mesh about a point is the signed count of the faces that a ray from it crosses, here one
up the z axis. Imported where it is used, because numba takes a while to load.
"""

from __future__ import annotations

import heapq
import math

import numpy as np

from bodyfit.runtime.compiled import jit

__all__ = ["INSIDE", "depths", "faces_by_cell", "winding"]

INSIDE = 0.75
"""Generalised winding number of the rest above which a point is inside: without its neighbourhood, which leaves a hole,
a free point on the skin sees 0 (a limb) to 1/2 (a flat back), and one inside another part sees 1 more."""


@jit
def faces_by_cell(corners, low, cell, nx, ny):
    """The faces over each cell of a grid in x and y: pointers (nx ny + 1) into a list of faces."""
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
def _left(i, j, a, b, q):
    """Whether q lies left of the edge from a to b in x and y, decided alike by the two faces that share the edge."""
    if i < j:
        return (b[0] - a[0]) * (q[1] - a[1]) - (b[1] - a[1]) * (q[0] - a[0]) >= 0
    return (a[0] - b[0]) * (q[1] - b[1]) - (a[1] - b[1]) * (q[0] - b[0]) < 0


@jit
def _crossing(i, j, k, a, b, c, q):
    """+1 where the ray from q up the z axis leaves through the face, -1 where it enters, else 0."""
    left = _left(i, j, a, b, q)
    if _left(j, k, b, c, q) != left or _left(k, i, c, a, q) != left:
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
    """Winding number of the closed mesh about each query."""
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
    """Solid angle of a triangle from q, positive from behind (van Oosterom and Strackee 1983)."""
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
def _ball(source, radius, ptr, neighbour, length, distance, found):
    """The vertices within `radius` of one along the edges; their number, and they first in `found`.

    `distance` comes and goes as infinity everywhere but at those found.
    """
    n = 0
    distance[source] = 0.0
    heap = [(0.0, source)]
    while len(heap) > 0:
        d, v = heapq.heappop(heap)
        if d > distance[v]:
            continue
        found[n] = v
        n += 1
        for e in range(ptr[v], ptr[v + 1]):
            w, far = neighbour[e], d + length[e]
            if far < distance[w] and far <= radius:
                distance[w] = far
                heapq.heappush(heap, (far, w))
    return n


@jit
def _distance2(p, a, b, c):
    """Squared distance of a point from a triangle (Ericson 2004, section 5.1.5)."""
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
    """How deep each candidate lies inside the mesh without its own neighbourhood; 0 where it lies outside of that.

    Also the face that is nearest, or -1.

    `count` are the winding numbers of the whole mesh about the queries, points just before the candidates; `centres`
    and `reach` bound each face, `normals` are as long as its area; `edges` are pointers, neighbours and lengths of each
    vertex's edges, `incident` pointers and faces of each vertex. Candidates within `share_m` of one share its
    neighbourhood.
    """
    ptr, neighbour, length = edges
    of_ptr, of_face = incident
    out, other = np.zeros(len(candidates)), np.full(len(candidates), -1)
    done = np.zeros(len(candidates), np.bool_)
    distance = np.full(len(vertices), np.inf)
    found = np.empty(len(vertices), np.int64)
    near = np.zeros(len(faces), np.bool_)
    touched = np.empty(len(faces), np.int64)
    for seed in range(len(candidates)):
        if done[seed]:
            continue
        n = _ball(candidates[seed], near_m, ptr, neighbour, length, distance, found)
        n_near = 0
        for m in range(n):
            for s in range(of_ptr[found[m]], of_ptr[found[m] + 1]):
                if not near[of_face[s]]:
                    near[of_face[s]] = True
                    touched[n_near] = of_face[s]
                    n_near += 1
        for row in range(seed, len(candidates)):
            if not done[row] and distance[candidates[row]] <= share_m:
                done[row] = True
                q = queries[row]
                own = 0.0
                for m in range(n_near):
                    f = touched[m]
                    x, y, z = centres[f, 0] - q[0], centres[f, 1] - q[1], centres[f, 2] - q[2]
                    r2 = x * x + y * y + z * z
                    if r2 > 25 * reach[f] * reach[f]:  # from afar a face looks as its projection does
                        own += (x * normals[f, 0] + y * normals[f, 1] + z * normals[f, 2]) / (r2 * math.sqrt(r2))
                    else:
                        own += _solid_angle(vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]], q)
                if count[row] - own / (4 * math.pi) > INSIDE:
                    out[row], other[row] = _nearest(vertices[candidates[row]], vertices, faces, centres, reach, near)
        for m in range(n):
            distance[found[m]] = np.inf
        for m in range(n_near):
            near[touched[m]] = False
    return out, other


@jit
def _nearest(p, vertices, faces, centres, reach, without):
    """Distance of a point from the faces but for some, and the nearest; 0 and -1 where there are no others."""
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
