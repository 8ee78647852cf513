"""Sum forces and stiffnesses of the points of hands and faces on the CPU, one body at a time; see `parts`.

Imported where it is used, because numba takes a while to load. Arguments that several loops share (K points, W reduced
columns, D variables):
    parts: `PartTables`; p: the part; k: the point. tree, posed, pieces, lever: as in `loops`. centre: (3,), the posed
    anchor. rows: (N, W), the reduced Jacobian of points. H_part (W, W), lower triangle, and g_part (W,): half the
    Hessian and half the gradient by the reduced columns. H (D, D), lower triangle, and g (D,): by the variables.
"""

from __future__ import annotations

import numpy as np

from bodyfit.body.points.parts import BLOCK, SIZE
from bodyfit.runtime.compiled import loose

__all__ = ["anchored", "part_rows", "scatter", "stamp_block"]


@loose
def anchored(p, parts, posed, centre):
    """Write the posed anchor of a part into `centre`."""
    joints = posed[3]
    for r in range(3):
        centre[r] = joints[parts.anchor[p], r]


@loose
def part_rows(k, p, parts, tree, posed, pieces, at, centre, lever, rows, first):
    """Write the derivatives of point k at `at` (3,), without the translation, to its columns of three of `rows`.

    These are rows `first` to `first` + 2, and columns of other points are not set. Those by the part's size are left
    at 0. lever: (J, 4), 0 before and after.
    """
    piece_ptr, bone, weight, _, offset_shape, response_ptr, _, response, _, _ = parts.points
    _, world, _, joints, axes, joints_shape, _, features_dpose, _ = posed
    parents, n_f, n_e = tree.parents, response.shape[2], parts.coefficients
    i0, i1, i2 = first, first + 1, first + 2
    for n in range(parts.column_ptr[k], parts.column_ptr[k + 1]):
        a = parts.column[n]
        rows[i0, a] = rows[i1, a] = rows[i2, a] = 0
    rows[i0, 0] = rows[i1, 1] = rows[i2, 2] = 1
    u, v, z = at[0] - centre[0], at[1] - centre[1], at[2] - centre[2]
    rows[i1, 3], rows[i2, 3] = -z, v
    rows[i0, 4], rows[i2, 4] = z, -u
    rows[i0, 5], rows[i1, 5] = -v, u
    last = joints_shape.shape[2] - n_e
    for q in range(piece_ptr[k], piece_ptr[k + 1]):
        i = bone[q]
        for r in range(3):
            lever[i, r] += pieces[q, r]
        lever[i, 3] += weight[q]
        for s in range(n_e):
            e0, e1, e2 = offset_shape[q, 0, last + s], offset_shape[q, 1, last + s], offset_shape[q, 2, last + s]
            for r in range(3):
                moved = world[i, 3 * r] * e0 + world[i, 3 * r + 1] * e1 + world[i, 3 * r + 2] * e2
                rows[first + r, SIZE + 1 + s] += weight[q] * joints_shape[i, r, last + s] + moved
    for n in range(parts.mover_ptr[k], parts.mover_ptr[k + 1]):
        i, column = parts.mover[n], parts.mover_column[n]
        above = parents[i]
        w = lever[i, 3]
        u, v, z = lever[i, 0] - w * joints[i, 0], lever[i, 1] - w * joints[i, 1], lever[i, 2] - w * joints[i, 2]
        for c in range(3):  # axis x lever
            a, d, e = axes[i, c], axes[i, 3 + c], axes[i, 6 + c]
            rows[i0, column + c] = d * z - e * v
            rows[i1, column + c] = e * u - a * z
            rows[i2, column + c] = a * v - d * u
        for r in range(4):
            lever[above, r] += lever[i, r]
            lever[i, r] = 0
    for r in range(4):
        lever[parts.anchor[p], r] = 0
    for q in range(piece_ptr[k], piece_ptr[k + 1]):
        i = bone[q]
        for n in range(response_ptr[q], response_ptr[q + 1]):
            column, j = parts.response_column[n], parts.points.joint[n]
            for c in range(3):
                u = v = z = 0.0
                for f in range(n_f):
                    by = features_dpose[j, f, c]
                    u += response[n, 0, f] * by
                    v += response[n, 1, f] * by
                    z += response[n, 2, f] * by
                for r in range(3):
                    rows[first + r, column + c] += (
                        world[i, 3 * r] * u + world[i, 3 * r + 1] * v + world[i, 3 * r + 2] * z
                    )


@loose
def stamp_block(n, parts, rows, force, stiffness, H_part, g_part):
    """Add rows^T stiffness rows and rows^T force of the points of block n; force (K, 3), stiffness (K, 6: xx xy xz yy
    yz zz). Three of `rows` (3 `BLOCK`, W) are of each point; those of missing points are 0.
    """
    t = np.zeros(3 * BLOCK, rows.dtype)
    first, stop = parts.block_ptr[n], parts.block_ptr[n + 1]
    k = parts.block[first]
    for m in range(parts.column_ptr[k], parts.column_ptr[k + 1]):
        a = parts.column[m]
        for i in range(first, stop):
            k, at = parts.block[i], 3 * (i - first)
            u, v, z = np.float64(rows[at, a]), np.float64(rows[at + 1, a]), np.float64(rows[at + 2, a])
            g_part[a] += u * force[k, 0] + v * force[k, 1] + z * force[k, 2]
            t[at] = u * stiffness[k, 0] + v * stiffness[k, 1] + z * stiffness[k, 2]
            t[at + 1] = u * stiffness[k, 1] + v * stiffness[k, 3] + z * stiffness[k, 4]
            t[at + 2] = u * stiffness[k, 2] + v * stiffness[k, 4] + z * stiffness[k, 5]
        width = a // 16 * 16 + 16
        t0, t1, t2, t3, t4, t5 = t[0], t[1], t[2], t[3], t[4], t[5]
        t6, t7, t8, t9, t10, t11 = t[6], t[7], t[8], t[9], t[10], t[11]
        if stop - first > 1:
            for i in range(width):
                H_part[a, i] += (
                    t0 * rows[0, i]
                    + t1 * rows[1, i]
                    + t2 * rows[2, i]
                    + t3 * rows[3, i]
                    + t4 * rows[4, i]
                    + t5 * rows[5, i]
                    + t6 * rows[6, i]
                    + t7 * rows[7, i]
                    + t8 * rows[8, i]
                    + t9 * rows[9, i]
                    + t10 * rows[10, i]
                    + t11 * rows[11, i]
                )
        else:
            for i in range(width):
                H_part[a, i] += t0 * rows[0, i] + t1 * rows[1, i] + t2 * rows[2, i]


@loose
def _add(H, a, b, value):
    """Add to the lower triangle; twice on the diagonal, where a variable has a twist and a column of its own."""
    if a > b:
        H[a, b] += value
    elif b > a:
        H[b, a] += value
    else:
        H[a, a] += 2 * value


@loose
def scatter(p, parts, tree, posed, centre, centred, H_part, g_part, H, g):
    """Add the sums of part p by its reduced columns to those by the solver's variables.

    `centred`: whether the translation changes nothing; what the twist's translation has summed is then left out, where
    in float32 sums that cancel would have rounding errors for a stiffness.
    """
    joints, axes = posed[3], posed[4]
    n, full, offset = parts.reduced[p], parts.full[p], parts.offset[p]
    T, column = np.zeros((6, 6 + 3 * len(tree.parents))), np.empty(6 + 3 * len(tree.parents), np.int64)
    m = 0
    if not centred:
        for c in range(3):
            T[c, m], column[m] = 1, tree.transl + c
            m += 1
            if offset >= 0:
                T[c, m], column[m] = 1, offset + c
                m += 1
    for i in range(parts.rigid_ptr[p], parts.rigid_ptr[p + 1]):
        j = parts.rigid[i]
        u, v, z = centre[0] - joints[j, 0], centre[1] - joints[j, 1], centre[2] - joints[j, 2]
        for c in range(3):
            a, d, e = axes[j, c], axes[j, 3 + c], axes[j, 6 + c]
            T[3, m], T[4, m], T[5, m] = a, d, e
            if not centred:
                T[0, m], T[1, m], T[2, m] = d * z - e * v, e * u - a * z, a * v - d * u
            column[m] = tree.column[j] + c
            m += 1
    half = np.empty(6)
    for s in range(m):
        for i in range(6):
            total = 0.0
            for j in range(6):
                total += (H_part[i, j] if i >= j else H_part[j, i]) * T[j, s]
            half[i] = total
        total = 0.0
        for i in range(6):
            total += T[i, s] * g_part[i]
        g[column[s]] += total
        for r in range(m):
            if column[r] <= column[s]:
                total = 0.0
                for i in range(6):
                    total += T[i, r] * half[i]
                H[column[s], column[r]] += total
    for a in range(6, n):
        if full[a] < 0:
            continue
        g[full[a]] += g_part[a]
        for s in range(m):
            if a == SIZE and 0 <= offset <= column[s] < offset + 3:
                continue  # offsets and sizes are taken to be independent
            total = 0.0
            for i in range(6):
                total += T[i, s] * H_part[a, i]
            _add(H, full[a], column[s], total)
        for b in range(6, a + 1):
            if full[b] >= 0:
                if full[a] >= full[b]:
                    H[full[a], full[b]] += H_part[a, b]
                else:
                    H[full[b], full[a]] += H_part[a, b]
