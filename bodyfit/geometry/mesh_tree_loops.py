"""Search trees of boxes over a mesh's faces, in loops compiled by numba.

Imported where it is used, because numba takes a while to load. Arguments that the loops share:
    vertices, faces: (V, 3), (F, 3) the mesh.
    order: (S,) the face of each slot; the leaves take as many slots each, and share them evenly.
    boxes: (M, 6) lower and upper corner of every node; the children of node i are 2 i + 1 and 2 i + 2.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import jit

__all__ = ["bound", "crossings", "nearest"]

_DEPTH = 64
"""Most nodes that wait on the stack: one a level, and a tree of 2^64 leaves fits no memory."""


@jit
def bound(vertices, faces, order, boxes):
    """Fill the boxes, from the leaves upwards."""
    leaves = (len(boxes) + 1) // 2
    per_leaf = len(order) // leaves
    for node in range(len(boxes) - 1, -1, -1):
        boxes[node, :3], boxes[node, 3:] = math.inf, -math.inf
        if node < leaves - 1:
            for child in (2 * node + 1, 2 * node + 2):
                for k in range(3):
                    boxes[node, k] = min(boxes[node, k], boxes[child, k])
                    boxes[node, 3 + k] = max(boxes[node, 3 + k], boxes[child, 3 + k])
            continue
        for slot in range((node - leaves + 1) * per_leaf, (node - leaves + 2) * per_leaf):
            for corner in range(3):
                v = faces[order[slot], corner]
                for k in range(3):
                    boxes[node, k] = min(boxes[node, k], vertices[v, k])
                    boxes[node, 3 + k] = max(boxes[node, 3 + k], vertices[v, k])


@jit
def _box_distance(boxes, node, x, y, z):
    """Return the squared distance of a point from a node's box."""
    dx = max(boxes[node, 0] - x, 0.0, x - boxes[node, 3])
    dy = max(boxes[node, 1] - y, 0.0, y - boxes[node, 4])
    dz = max(boxes[node, 2] - z, 0.0, z - boxes[node, 5])
    return dx * dx + dy * dy + dz * dz


@jit
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@jit
def _minus(a, b):
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


@jit
def _cross(a, b):
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@jit
def _corner(vertices, v):
    return (vertices[v, 0], vertices[v, 1], vertices[v, 2])


@jit
def _on_triangle(p, a, b, c):
    """Return barycentric coordinates of the triangle's nearest point (Ericson 2005, section 5.1.5)."""
    ab, ac, ap = _minus(b, a), _minus(c, a), _minus(p, a)
    d1, d2 = _dot(ab, ap), _dot(ac, ap)
    if d1 <= 0 and d2 <= 0:
        return 1.0, 0.0, 0.0
    bp = _minus(p, b)
    d3, d4 = _dot(ab, bp), _dot(ac, bp)
    if d3 >= 0 and d4 <= d3:
        return 0.0, 1.0, 0.0
    vc = d1 * d4 - d3 * d2
    if vc <= 0 and d1 >= 0 and d3 <= 0 and d1 > d3:
        v = d1 / (d1 - d3)
        return 1 - v, v, 0.0
    cp = _minus(p, c)
    d5, d6 = _dot(ab, cp), _dot(ac, cp)
    if d6 >= 0 and d5 <= d6:
        return 0.0, 0.0, 1.0
    vb = d5 * d2 - d1 * d6
    if vb <= 0 and d2 >= 0 and d6 <= 0 and d2 > d6:
        w = d2 / (d2 - d6)
        return 1 - w, 0.0, w
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0 and (d4 - d3) + (d5 - d6) > 0:
        w = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 0.0, 1 - w, w
    total = va + vb + vc
    if total <= 0:  # a face without area, of which rounding left no edge
        return 1.0, 0.0, 0.0
    return va / total, vb / total, vc / total


@jit
def nearest(
    first, stop, points, normals, min_cosine, within2, vertices, faces, order, boxes, face, weights, places, distance
):
    """Fill face, weights, places and distance of the points first to stop - 1; see `MeshTree.nearest`."""
    leaves = (len(boxes) + 1) // 2
    per_leaf = len(order) // leaves
    stack, bound = np.empty(_DEPTH, np.int64), np.empty(_DEPTH)
    for n in range(first, stop):
        p = (points[n, 0], points[n, 1], points[n, 2])
        best, best_face = within2, -1
        wa, wb, wc = 0.0, 0.0, 0.0
        stack[0], bound[0], size = 0, _box_distance(boxes, 0, p[0], p[1], p[2]), 1
        while size > 0:
            size -= 1
            node = stack[size]
            if bound[size] > best:
                continue
            if node < leaves - 1:
                left, right = 2 * node + 1, 2 * node + 2
                dl, dr = _box_distance(boxes, left, p[0], p[1], p[2]), _box_distance(boxes, right, p[0], p[1], p[2])
                if dl < dr:
                    left, right, dl, dr = right, left, dr, dl
                if dl <= best:
                    stack[size], bound[size] = left, dl
                    size += 1
                if dr <= best:  # the nearer one, which is looked at first
                    stack[size], bound[size] = right, dr
                    size += 1
                continue
            for slot in range((node - leaves + 1) * per_leaf, (node - leaves + 2) * per_leaf):
                f = order[slot]
                a, b, c = _corner(vertices, faces[f, 0]), _corner(vertices, faces[f, 1]), _corner(vertices, faces[f, 2])
                if len(normals) > 0:
                    m = _cross(_minus(b, a), _minus(c, a))
                    along = normals[n, 0] * m[0] + normals[n, 1] * m[1] + normals[n, 2] * m[2]
                    if along < min_cosine * math.sqrt(_dot(m, m)):
                        continue
                u, v, w = _on_triangle(p, a, b, c)
                q = (
                    u * a[0] + v * b[0] + w * c[0] - p[0],
                    u * a[1] + v * b[1] + w * c[1] - p[1],
                    u * a[2] + v * b[2] + w * c[2] - p[2],
                )
                d = _dot(q, q)
                if d < best or (d == best and best_face >= 0 and f < best_face):
                    best, best_face, wa, wb, wc = d, f, u, v, w
        face[n] = best_face
        weights[n, 0], weights[n, 1], weights[n, 2] = wa, wb, wc
        distance[n] = math.sqrt(best) if best_face >= 0 else math.inf
        for k in range(3):
            places[n, k] = points[n, k]
            if best_face >= 0:
                va, vb, vc = faces[best_face]
                places[n, k] = wa * vertices[va, k] + wb * vertices[vb, k] + wc * vertices[vc, k]


@jit
def _pierces(p, q, a, b, c):
    """Tell whether the segment from p to q passes through the triangle."""
    n = _cross(_minus(b, a), _minus(c, a))
    sp, sq = _dot(n, _minus(p, a)), _dot(n, _minus(q, a))
    if (sp > 0) == (sq > 0) or sp == sq:
        return False
    d = _minus(q, p)
    # Signed volumes of the segment with each edge: all alike inside.
    u = _dot(d, _cross(_minus(a, p), _minus(b, p)))
    v = _dot(d, _cross(_minus(b, p), _minus(c, p)))
    w = _dot(d, _cross(_minus(c, p), _minus(a, p)))
    return (u > 0 and v > 0 and w > 0) or (u < 0 and v < 0 and w < 0)


@jit
def _cross_each_other(vertices, f, g):
    """Tell whether two triangles cross: an edge of one passes through the other."""
    a, b, c = _corner(vertices, f[0]), _corner(vertices, f[1]), _corner(vertices, f[2])
    d, e, h = _corner(vertices, g[0]), _corner(vertices, g[1]), _corner(vertices, g[2])
    return (
        _pierces(a, b, d, e, h)
        or _pierces(b, c, d, e, h)
        or _pierces(c, a, d, e, h)
        or _pierces(d, e, a, b, c)
        or _pierces(e, h, a, b, c)
        or _pierces(h, d, a, b, c)
    )


@jit
def crossings(wanted, every, vertices, faces, order, boxes):
    """Return the pairs of faces, (C, 2), of which the first is wanted, that cross and have no common vertex.

    `every`: all faces are wanted, and each pair is returned once. Those of padded slots are returned twice.
    """
    leaves = (len(boxes) + 1) // 2
    per_leaf = len(order) // leaves
    stack = np.empty(_DEPTH, np.int64)
    pairs, count = np.empty((1024, 2), np.int64), 0
    low, high = np.empty(3), np.empty(3)
    for f in wanted:
        for k in range(3):
            low[k] = min(vertices[faces[f, 0], k], vertices[faces[f, 1], k], vertices[faces[f, 2], k])
            high[k] = max(vertices[faces[f, 0], k], vertices[faces[f, 1], k], vertices[faces[f, 2], k])
        stack[0], size = 0, 1
        while size > 0:
            size -= 1
            node = stack[size]
            apart = False
            for k in range(3):
                apart = apart or boxes[node, k] > high[k] or boxes[node, 3 + k] < low[k]
            if apart:
                continue
            if node < leaves - 1:
                stack[size], stack[size + 1] = 2 * node + 1, 2 * node + 2
                size += 2
                continue
            for slot in range((node - leaves + 1) * per_leaf, (node - leaves + 2) * per_leaf):
                g = order[slot]
                if g == f or (every and g < f):
                    continue
                joined = False
                for i in range(3):
                    for j in range(3):
                        joined = joined or faces[f, i] == faces[g, j]
                if joined or not _cross_each_other(vertices, faces[f], faces[g]):
                    continue
                if count == len(pairs):
                    pairs = np.concatenate((pairs, np.empty_like(pairs)))
                pairs[count, 0], pairs[count, 1] = f, g
                count += 1
    return pairs[:count]
