"""The objective of a stage on the CPU, one person at a time: cost, J^T r and J^T J in one pass, compiled by numba.

The equations are those of `terms`, `priors` and `overlap`. A keypoint's terms come down to a force on its point and a
stiffness (3 x 3) of it, whatever the cameras; what is left is J_k^T force and J_k^T stiffness J_k, rows of which are
zero for joints that do not move the point. Imported where it is used, because numba takes a while to load.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.body.point_loops import place, point_rows, pose, tree_room, wide
from bodyfit.compiled import loose
from bodyfit.fit.overlap_loops import overlap

__all__ = ["normal"]

_SIZES = 1.5
_NEAR_M = 0.1


@loose
def _project(b, positions, transl, seen, sigma, force, stiffness):
    """Cost of the reprojection; sets the force on each point and its stiffness (xx, xy, xz, yy, yz, zz)."""
    target, weight, scale_cm, R, t = seen.target, seen.weight, seen.scale_cm, seen.R, seen.t
    n_k, s2, cost = len(positions), sigma * sigma, 0.0
    force[:] = 0
    stiffness[:] = 0
    for c in range(len(R)):
        for k in range(n_k):
            n = c * n_k + k
            w2 = np.float64(weight[b, n]) ** 2
            if w2 == 0:
                continue
            px, py, pz = positions[k, 0] + transl[0], positions[k, 1] + transl[1], positions[k, 2] + transl[2]
            z = R[c, 2, 0] * px + R[c, 2, 1] * py + R[c, 2, 2] * pz + t[c, 2]
            if z < _NEAR_M:
                cost = np.inf
            inverse = 1 / max(z, _NEAR_M)
            scale = np.float64(scale_cm[b, n if scale_cm.shape[1] > 1 else 0])
            for axis in range(2):
                v = R[c, axis, 0] * px + R[c, axis, 1] * py + R[c, axis, 2] * pz + t[c, axis]
                uv = v * inverse
                r = (uv - target[b, n, axis]) * scale
                ratio = s2 / (s2 + r * r)
                cost += w2 * ratio * r * r
                # The row by the point, in the axes of the body, without its factor.
                slope = scale * inverse
                i = slope * (R[c, axis, 0] - uv * R[c, 2, 0])
                j = slope * (R[c, axis, 1] - uv * R[c, 2, 1])
                m = slope * (R[c, axis, 2] - uv * R[c, 2, 2])
                f = w2 * ratio * ratio
                force[k, 0] += f * r * i
                force[k, 1] += f * r * j
                force[k, 2] += f * r * m
                _add_outer(stiffness, k, f, i, j, m)
    return cost


@loose
def _add_outer(stiffness, k, f, i, j, m):
    stiffness[k, 0] += f * i * i
    stiffness[k, 1] += f * i * j
    stiffness[k, 2] += f * i * m
    stiffness[k, 3] += f * j * j
    stiffness[k, 4] += f * j * m
    stiffness[k, 5] += f * m * m


@loose
def _measure(b, positions, transl, seen, factor, sigma, force, stiffness):
    """Cost of measured points; adds to force and stiffness."""
    where, weight = seen.points_m, seen.points_weight
    s2, cost = sigma * sigma, 0.0
    for k in range(len(positions)):
        w2 = (factor * weight[b, k]) ** 2
        if w2 == 0:
            continue
        i = 100 * (positions[k, 0] + transl[0] - where[b, k, 0])
        j = 100 * (positions[k, 1] + transl[1] - where[b, k, 1])
        m = 100 * (positions[k, 2] + transl[2] - where[b, k, 2])
        r2 = i * i + j * j + m * m
        ratio = s2 / (s2 + r2)
        cost += w2 * ratio * r2
        f = 100 * w2 * ratio * ratio
        force[k, 0] += f * i
        force[k, 1] += f * j
        force[k, 2] += f * m
        for d in (0, 3, 5):
            stiffness[k, d] += 100 * f
    return cost


@loose
def _lift(b, positions, seen, factor, sigma, force, stiffness, lifted, gram, drag):
    """Cost of the centred lift (`terms.centred_rows`); adds to force and stiffness what they feel without centring.

    A row is that of the point less e_kc = (unit c, q_kc) times four rows that all share, the mean and the derivative of
    the size. `lifted` (K, 10) gets what each point has of them and of the products with them, `gram` (4, 4) the sum of
    e e^T, `drag` (4) that of e times the residual.
    """
    target, weight = seen.lift_m, seen.lift_weight
    n_k, s2, total, cost = len(positions), sigma * sigma, 0.0, 0.0
    lifted[:] = 0
    gram[:] = 0
    drag[:] = 0
    for k in range(n_k):
        total += np.float64(weight[b, k]) ** 2
    total = 1 / max(factor * factor * total, 1e-12)
    p0, q0 = np.zeros(3), np.zeros(3)
    for k in range(n_k):
        share = (factor * weight[b, k]) ** 2 * total
        lifted[k, 0] = share
        for r in range(3):
            p0[r] += share * positions[k, r]
            q0[r] += share * target[b, k, r]
    qq = pq = 0.0
    for k in range(n_k):
        for r in range(3):
            q = target[b, k, r] - q0[r]
            qq += lifted[k, 0] * q * q
            pq += lifted[k, 0] * q * (positions[k, r] - p0[r])
    qq = max(qq, 1e-12)
    size = min(max(pq / qq, 1 / _SIZES), _SIZES)
    free = size == pq / qq
    for k in range(n_k):
        w2 = (factor * weight[b, k]) ** 2
        if w2 == 0:
            continue
        for r in range(3):
            q = target[b, k, r] - q0[r]
            e = 100 * (positions[k, r] - p0[r] - size * q)
            ratio = s2 / (s2 + e * e)
            cost += w2 * ratio * e * e
            f = 100 * w2 * ratio * ratio
            force[k, r] += f * e
            stiffness[k, 0 if r == 0 else 3 if r == 1 else 5] += 100 * f
            if free:
                lifted[k, 1 + r] = lifted[k, 0] * q / qq
            else:
                q = 0.0
            lifted[k, 4 + r] = 100 * f
            gram[r, r] += 100 * f
            gram[r, 3] += 100 * f * q
            gram[3, 3] += 100 * f * q * q
            drag[r] += f * e
            drag[3] += f * e * q
            lifted[k, 7 + r] = 100 * f * q
    for r in range(3):
        gram[3, r] = gram[r, 3]
    return cost


@loose
def _stamp_column(a, k, rows, force, stiffness, by_transl, t, H, g):
    """Add row a, up to the diagonal, of J_k^T stiffness J_k, and J_k^T force; transl feels `by_transl` instead."""
    u, v, z = np.float64(rows[0, a]), np.float64(rows[1, a]), np.float64(rows[2, a])
    g[a] += u * force[k, 0] + v * force[k, 1] + z * force[k, 2]
    H[a, 0] += u * by_transl[k, 0] + v * by_transl[k, 1] + z * by_transl[k, 2]
    H[a, 1] += u * by_transl[k, 1] + v * by_transl[k, 3] + z * by_transl[k, 4]
    H[a, 2] += u * by_transl[k, 2] + v * by_transl[k, 4] + z * by_transl[k, 5]
    t[0] = u * stiffness[k, 0] + v * stiffness[k, 1] + z * stiffness[k, 2]
    t[1] = u * stiffness[k, 1] + v * stiffness[k, 3] + z * stiffness[k, 4]
    t[2] = u * stiffness[k, 2] + v * stiffness[k, 4] + z * stiffness[k, 5]
    t0, t1, t2 = t[0], t[1], t[2]
    for i in range(a // 16 * 16 + 16):
        H[a, i] += t0 * rows[0, i] + t1 * rows[1, i] + t2 * rows[2, i]


@loose
def _stamp(points, tree, posed, pieces, own, force, stiffness, lifted, shared, lever, rows, t, H, g):
    """Add what all points feel to H, its lower triangle, and g; `shared` (8, D) gets what the lift's centring needs.

    `own` are force and stiffness without the lift: that is centred, so that transl does not feel it. Sums of what
    cancels would leave float32 nothing of the depth's own stiffness, which is small.
    """
    moved, mover = points.moved, points.mover
    n_s, end = points.offset_shape.shape[2], 3 + 3 * len(tree.parents)
    push, by_transl = own
    for k in range(len(force)):
        if stiffness[k, 0] == 0 and stiffness[k, 3] == 0 and stiffness[k, 5] == 0:
            continue
        point_rows(k, points, tree, posed, pieces, lever, rows)
        for r in range(3):
            g[r] += push[k, r]
            for c in range(r + 1):
                H[r, c] += by_transl[k, r + c if c == 0 else r + c + 1]
        for n in range(moved[k], moved[k + 1]):
            for c in range(3):
                _stamp_column(3 + 3 * mover[n] + c, k, rows, force, stiffness, by_transl, t, H, g)
        for s in range(n_s):
            _stamp_column(end + s, k, rows, force, stiffness, by_transl, t, H, g)
        if len(lifted):
            for r in range(3):
                t[0], t[1], t[2], t[3] = lifted[k, 0], lifted[k, 1 + r], lifted[k, 4 + r], lifted[k, 7 + r]
                share, dual, w, wq = t[0], t[1], t[2], t[3]
                for i in range(rows.shape[1]):
                    shared[r, i] += share * rows[r, i]
                    shared[3, i] += dual * rows[r, i]
                    shared[4 + r, i] += w * rows[r, i]
                    shared[7, i] += wq * rows[r, i]
        for n in range(moved[k], moved[k + 1]):
            for c in range(3):
                for r in range(3):
                    rows[r, 3 + 3 * mover[n] + c] = 0


@loose
def _centre(shared, gram, drag, t, H, g):
    """Take from H and g what the lift's centring takes: with A the shared rows and U their products with the points',
    H - U A^T - A U^T + A gram A^T."""
    size = shared.shape[1]
    for c in range(4):
        for e in range(4):
            t[0] = 0.5 * gram[c, e]
            half = t[0]
            for i in range(size):
                shared[4 + c, i] -= half * shared[e, i]
    for a in range(len(g)):
        for c in range(4):
            g[a] -= drag[c] * shared[c, a]
            u, v = shared[4 + c, a], shared[c, a]
            for i in range(a // 16 * 16 + 16):
                H[a, i] -= u * shared[c, i] + v * shared[4 + c, i]


@loose
def _mixture(x, b, mixture, weight, tail, white, d, H, g):
    """The component of the pose prior that is lowest: adds to H and g; returns its part of the objective."""
    means, root, precision = mixture.means, mixture.root, mixture.precision
    n, best, lowest = means.shape[1], 0, np.inf
    for m in range(len(means)):
        for i in range(len(white)):
            white[i] = 0
        for p in range(n):
            by = x[b, 6 + p] - means[m, p]
            for i in range(p // 16 * 16 + 16):
                white[i] += by * root[m, p, i]
        cost = 0.0
        for i in range(n):
            cost += np.float64(white[i]) * white[i]
        cost = 0.5 * cost + mixture.constant[m]
        if not cost >= lowest:
            best, lowest = m, cost
    relative = lowest / tail
    w2 = weight * weight
    d[0] = w2 * 0.5 / (1 + relative)
    half = d[0]
    for i in range(n):
        white[i] = 0
    for p in range(n):
        by = x[b, 6 + p] - means[best, p]
        for i in range(n):
            white[i] += by * precision[best, p, i]
        for i in range(p + 1):
            H[6 + p, 6 + i] += half * precision[best, p, i]
    for i in range(n):
        g[6 + i] += half * white[i]
    return w2 * (lowest if tail == np.inf else tail * math.log1p(relative))


@loose
def _angles(x, b, bends, bend, limit, H, g):
    """Elbows and knees that bend backwards, and angles beyond their limits."""
    angle, sign, lower, upper, cost = bends.angle, bends.sign, bends.lower, bends.upper, 0.0
    if bend > 0:
        for n in range(len(angle)):
            a = 6 + angle[n]
            r = 10 * math.exp(min(sign[n] * x[b, a], 4.0))
            cost += bend * bend * r * r
            g[a] += bend * bend * sign[n] * r * r
            H[a, a] += bend * bend * r * r
    if limit > 0:
        for p in range(len(lower)):
            v = np.float64(x[b, 6 + p])
            beyond = v - min(max(v, lower[p]), upper[p])
            if beyond != 0:
                cost += limit * limit * beyond * beyond
                g[6 + p] += limit * limit * beyond
                H[6 + p, 6 + p] += limit * limit
    return cost


@loose
def _shape(x, b, end, weight, held, H, g):
    """The betas' prior; or betas held where they are."""
    cost, n = 0.0, len(g)
    for s in range(end, n):
        if held:
            g[s] = 0
            for i in range(s):
                H[s, i] = 0
            H[s, s] = 1
        else:
            v = np.float64(x[b, s])
            cost += weight * weight * v * v
            g[s] += weight * weight * v
            H[s, s] += weight * weight
    return cost


@loose
def normal(
    first, stop, x, tree, points, measured, one_list, seen, mixture, bends, capsules, w, held, cost,
    gradient, hessian
):  # fmt: skip
    """Cost, J^T r and J^T J of people first to stop - 1 at x; `one_list`: `measured` are the keypoints' own points."""
    size = x.shape[1]
    n_j, n_s, width = len(tree.bones), tree.bones_shape.shape[2], wide(size)
    end, n_k, n_p = size - n_s, len(points.piece) - 1, len(measured.piece) - 1
    posed = tree_room(n_j, n_s, tree.features)
    pieces, positions = np.empty((len(points.bone), 3)), np.empty((n_k, 3))
    force, stiffness = np.empty((n_k, 3)), np.empty((n_k, 6))
    own = np.empty((n_k, 3)), np.empty((n_k, 6))
    pieces2, positions2 = np.empty((len(measured.bone), 3)), np.empty((n_p, 3))
    force2, stiffness2 = np.zeros((n_p, 3)), np.zeros((n_p, 6))
    lifted = np.zeros((n_k if len(seen.lift_m) and w.lift > 0 else 0, 10))
    gram, drag, transl = np.empty((4, 4)), np.empty(4), np.empty(3)
    lever, t = np.zeros((n_j, 4)), np.empty(4, x.dtype)
    rows, shared = np.zeros((3, width), x.dtype), np.empty((8, width), x.dtype)
    H, g, white = np.empty((width, width), x.dtype), np.empty(size), np.empty(width, x.dtype)
    for b in range(first, stop):
        H[:] = 0
        g[:] = 0
        shared[:] = 0
        for r in range(3):
            transl[r] = x[b, r]
        pose(x, b, tree, posed)
        place(x, b, points, posed, pieces, positions)
        total = _project(b, positions, transl, seen, w.sigma, own[0], own[1])
        if len(seen.points_m) and one_list:
            total += _measure(b, positions, transl, seen, w.points, w.points_sigma, own[0], own[1])
        force[:] = own[0]
        stiffness[:] = own[1]
        if len(lifted):
            total += _lift(b, positions, seen, w.lift, w.lift_sigma, force, stiffness, lifted, gram, drag)
        _stamp(points, tree, posed, pieces, own, force, stiffness, lifted, shared, lever, rows, t, H, g)
        if len(lifted):
            _centre(shared, gram, drag, t, H, g)
        if len(seen.points_m) and not one_list:
            place(x, b, measured, posed, pieces2, positions2)
            force2[:] = 0
            stiffness2[:] = 0
            total += _measure(b, positions2, transl, seen, w.points, w.points_sigma, force2, stiffness2)
            _stamp(
                measured,
                tree,
                posed,
                pieces2,
                (force2, stiffness2),
                force2,
                stiffness2,
                lifted[:0],
                shared,
                lever,
                rows,
                t,
                H,
                g,
            )
        if w.pose > 0:
            total += _mixture(x, b, mixture, w.pose, w.pose_tail, white, t, H, g)
        total += _angles(x, b, bends, w.angle, w.limits, H, g)
        if w.interpenetration > 0:
            total += overlap(x, b, capsules, tree, posed, w.interpenetration, lever, rows, white, t, H, g)
        total += _shape(x, b, end, w.shape, held, H, g)
        cost[b] = total
        for a in range(size):
            gradient[b, a] = g[a]
            for i in range(a + 1):
                hessian[b, a, i] = H[a, i]
        for a in range(size):
            for i in range(a + 1, size):
                hessian[b, a, i] = H[i, a]
