"""Compiled kernel of the overlap of capsules; the equations are those of `capsules`.

Shapes: p (2 C + S, 3), metres, has the first and the last ends of C capsules, then S points along limbs.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.body.points.loops import place, point_rows
from bodyfit.runtime.compiled import loose

__all__ = ["overlap"]


@loose
def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@loose
def _clip(v):
    return min(max(v, 0.0), 1.0)


@loose
def _between(p, a, b):
    """Return the vector from point a to point b, rows of p."""
    return p[b, 0] - p[a, 0], p[b, 1] - p[a, 1], p[b, 2] - p[a, 2]


@loose
def _closest(p, i, j, n):
    """Find the parameters s, t in [0, 1] of the nearest points on the axes of capsules i and j of n.

    Ericson 2004, section 5.1.9.
    """
    tiny = 1e-30
    u, v, w = _between(p, i, i + n), _between(p, j, j + n), _between(p, j, i)
    uu, vv, uv, uw, vw = max(_dot(u, u), tiny), max(_dot(v, v), tiny), _dot(u, v), _dot(u, w), _dot(v, w)
    s = _clip((uv * vw - uw * vv) / max(uu * vv - uv * uv, 1e-9 * uu * vv + tiny))
    t = _clip((uv * s + vw) / vv)
    s = _clip((uv * t - uw) / uu)
    return s, t


@loose
def _on_slab(p, at, corners, share):
    """Find the point of the trunk's slab nearest to point `at`; return the squared distance.

    Sets `share` (5,): 1 for the point, then the negative weights of the four `corners` (4,). As `capsules._on_slab`: of
    four triangles about the middle, the nearest point lies inside one, on a side or on a line inward.
    """
    tiny, best = 1e-30, np.inf
    middle = (
        0.25 * (p[corners[0], 0] + p[corners[1], 0] + p[corners[2], 0] + p[corners[3], 0]),
        0.25 * (p[corners[0], 1] + p[corners[1], 1] + p[corners[2], 1] + p[corners[3], 1]),
        0.25 * (p[corners[0], 2] + p[corners[1], 2] + p[corners[2], 2] + p[corners[3], 2]),
    )
    for k in range(4):
        c, after = corners[k], corners[(k + 1) % 4]
        u, w = _between(p, c, after), _between(p, c, at)
        v = (middle[0] - p[c, 0], middle[1] - p[c, 1], middle[2] - p[c, 2])
        uu, vv, uv, uw, vw = _dot(u, u), _dot(v, v), _dot(u, v), _dot(u, w), _dot(v, w)
        area = max(uu * vv - uv * uv, tiny)
        s, t = (vv * uw - uv * vw) / area, (uu * vw - uv * uw) / area
        if not (s >= 0 and t >= 0 and s + t <= 1):
            s, t = _clip(uw / max(uu, tiny)), 0.0
        for inward in range(2):
            if inward:
                s, t = 0.0, _clip(vw / max(vv, tiny))
            off = (w[0] - s * u[0] - t * v[0], w[1] - s * u[1] - t * v[1], w[2] - s * u[2] - t * v[2])
            if _dot(off, off) < best:
                best = _dot(off, off)
                for i in range(4):
                    share[1 + i] = -0.25 * t
                share[1 + k] -= 1 - s - t
                share[1 + (k + 1) % 4] -= s
    share[0] = 1
    return best


@loose
def _touching(x, b, betas, capsules, p, found, share, slope):
    """Compute the N residuals that are not 0, of E pairs; return N.

    Sets `found` (E, 2): depth (cm) and number of the pair; `share` (E + 1, 5): weights of the pair's points
    (`capsules.where`) in the vector between the nearest points; `slope` (E + 1, 3): derivative of the depth by that
    vector, cm per metre.
    """
    first, second, sampled, part = capsules.first, capsules.second, capsules.sampled, capsules.share
    corners, radius, radius_shape = capsules.corners, capsules.radius, capsules.radius_shape
    n, n_s, count = len(radius), radius_shape.shape[1], 0
    r, half = np.empty(n), np.empty(n)
    for c in range(n):
        r[c] = radius[c]
        for s in range(n_s):
            r[c] += np.float64(radius_shape[c, s]) * x[b, betas + s]
        u = _between(p, c, c + n)
        half[c] = 0.5 * math.sqrt(_dot(u, u))
    trunk = 0.5 * (r[corners[0]] + r[corners[3]])
    for e in range(len(first) + len(sampled)):
        if e < len(first):
            i, j = first[e], second[e]
            reach = r[i] + r[j]
            far = 0.0
            for k in range(3):
                far += (0.5 * (p[i, k] + p[i + n, k] - p[j, k] - p[j + n, k])) ** 2
            if far > (max(reach, 0.0) + half[i] + half[j]) ** 2:
                continue
            s, t = _closest(p, i, j, n)
            share[count, 0], share[count, 1], share[count, 2], share[count, 3] = 1 - s, s, t - 1, -t
            share[count, 4] = 0
        else:
            at = 2 * n + e - len(first)
            reach = part[e - len(first)] * r[sampled[e - len(first)]] + trunk
            _on_slab(p, at, corners, share[count])
        far = 0.0
        for k in range(3):
            way = 0.0
            for m in range(5):
                way += share[count, m] * p[capsules.where[e, m], k]
            slope[count, k] = way
            far += way * way
        far = max(math.sqrt(far), 1e-6)
        if reach > far:
            for k in range(3):
                slope[count, k] *= -100 / far
            found[count, 0], found[count, 1] = 100 * (reach - far), e
            count += 1
    return count


@loose
def overlap(x, b, capsules, tree, posed, lever, rows, row, t, H, g):
    """Add the residual of person b to H (lower triangle) and g; return its weighted cost.

    The gradient is of every pair, the Hessian is Gauss-Newton's over the few of deepest overlap.

    Arguments: x (B, D); capsules: `CapsuleArrays`; tree: `TreeTables`; posed: the posed tree; lever (J, 4) and rows
    (3, D): scratch, 0 before and after; row (D,) and t (4,): scratch.
    """
    points, where, curved = capsules.points, capsules.where, capsules.curved
    moved, mover, column = points.mover_ptr, points.mover, tree.column
    w2, cost = capsules.weight * capsules.weight, 0.0
    pieces, p = np.empty((len(points.bone), 3)), np.empty((len(points.piece_ptr) - 1, 3))
    found, share, slope = np.empty((len(where), 2)), np.empty((len(where) + 1, 5)), np.empty((len(where) + 1, 3))
    place(x, b, tree, points, posed, pieces, p)
    count = _touching(x, b, tree.betas, capsules, p, found, share, slope)
    for e in range(count):
        deeper = 0
        for other in range(count):
            deeper += found[other, 0] > found[e, 0]
        r, which = found[e, 0], int(found[e, 1])
        for i in range(len(row)):
            row[i] = 0
        for m in range(5):
            if share[e, m] == 0:
                continue
            k = where[which, m]
            point_rows(k, points, tree, posed, pieces, lever, rows)
            u, v, z = share[e, m] * slope[e, 0], share[e, m] * slope[e, 1], share[e, m] * slope[e, 2]
            for n in range(moved[k], moved[k + 1]):
                at = column[mover[n]]
                for a in range(at, at + 3):
                    row[a] += u * rows[0, a] + v * rows[1, a] + z * rows[2, a]
                    rows[0, a] = rows[1, a] = rows[2, a] = 0
        cost += w2 * r * r
        for a in range(len(g)):
            g[a] += w2 * r * row[a]
            if deeper < curved and row[a] != 0:
                t[0] = w2 * row[a]
                by = t[0]
                for i in range(a // 16 * 16 + 16):
                    H[a, i] += by * row[i]
    return cost
