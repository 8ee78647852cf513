"""Sum forces and stiffnesses of the points of hands and faces on the CPU, one body at a time; see `parts`.

Imported where it is used, because numba takes a while to load. Arguments that several loops share (K points, W reduced
columns, D variables):
    parts: `PartTables`; p: the part; k: the point. tree, posed, pieces, lever: as in `loops`. centre: (3,), the posed
    anchor. rows: (3, W), the reduced Jacobian of a point. H_part (W, W), lower triangle, and g_part (W,): half the
    Hessian and half the gradient by the reduced columns. H (D, D), lower triangle, and g (D,): by the variables.
"""

from __future__ import annotations

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["anchored", "part_rows", "scatter", "stamp_part"]


@loose
def anchored(p, parts, posed, centre):
    """Write the posed anchor of a part into `centre`."""
    joints = posed[3]
    for r in range(3):
        centre[r] = joints[parts.anchor[p], r]


@loose
def part_rows(k, p, parts, tree, posed, pieces, at, centre, lever, rows):
    """Write the derivatives of point k at `at` (3,), without the translation, into its columns of `rows`.

    Those by the part's size are left at 0. lever: (J, 4), 0 before and after.
    """
    piece_ptr, bone, weight, _, offset_shape, response_ptr, _, response, _, _ = parts.points
    _, world, _, joints, axes, joints_shape, _, features_dpose, _ = posed
    parents, n_f, n_e = tree.parents, response.shape[2], parts.coefficients
    for n in range(parts.column_ptr[k], parts.column_ptr[k + 1]):
        a = parts.column[n]
        rows[0, a] = rows[1, a] = rows[2, a] = 0
    rows[0, 0] = rows[1, 1] = rows[2, 2] = 1
    u, v, z = at[0] - centre[0], at[1] - centre[1], at[2] - centre[2]
    rows[1, 3], rows[2, 3] = -z, v
    rows[0, 4], rows[2, 4] = z, -u
    rows[0, 5], rows[1, 5] = -v, u
    for q in range(piece_ptr[k], piece_ptr[k + 1]):
        i = bone[q]
        for r in range(3):
            lever[i, r] += pieces[q, r]
        lever[i, 3] += weight[q]
    for n in range(parts.mover_ptr[k], parts.mover_ptr[k + 1]):
        i, column = parts.mover[n], parts.mover_column[n]
        above = parents[i]
        w = lever[i, 3]
        u, v, z = lever[i, 0] - w * joints[i, 0], lever[i, 1] - w * joints[i, 1], lever[i, 2] - w * joints[i, 2]
        for c in range(3):  # axis x lever
            a, d, e = axes[i, c], axes[i, 3 + c], axes[i, 6 + c]
            rows[0, column + c] = d * z - e * v
            rows[1, column + c] = e * u - a * z
            rows[2, column + c] = a * v - d * u
        for r in range(4):
            lever[above, r] += lever[i, r]
            lever[i, r] = 0
    for r in range(4):
        lever[parts.anchor[p], r] = 0
    first = parts.count[p] - 1 - n_e
    last = joints_shape.shape[2] - n_e
    for q in range(piece_ptr[k], piece_ptr[k + 1]):
        i, w = bone[q], np.float64(weight[q])
        for r in range(3):
            if n_e:
                a, d, e = world[i, 3 * r], world[i, 3 * r + 1], world[i, 3 * r + 2]
                for s in range(n_e):
                    rows[r, first + s] += (
                        w * joints_shape[i, r, last + s]
                        + a * offset_shape[q, 0, last + s]
                        + d * offset_shape[q, 1, last + s]
                        + e * offset_shape[q, 2, last + s]
                    )
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
                    rows[r, column + c] += world[i, 3 * r] * u + world[i, 3 * r + 1] * v + world[i, 3 * r + 2] * z


@loose
def stamp_part(k, parts, rows, force, stiffness, H_part, g_part):
    """Add rows^T stiffness rows and rows^T force of point k; force (K, 3), stiffness (K, 6: xx xy xz yy yz zz)."""
    f0, f1, f2 = force[k, 0], force[k, 1], force[k, 2]
    xx, xy, xz = stiffness[k, 0], stiffness[k, 1], stiffness[k, 2]
    yy, yz, zz = stiffness[k, 3], stiffness[k, 4], stiffness[k, 5]
    t = np.empty(3, rows.dtype)
    for n in range(parts.column_ptr[k], parts.column_ptr[k + 1]):
        a = parts.column[n]
        u, v, z = np.float64(rows[0, a]), np.float64(rows[1, a]), np.float64(rows[2, a])
        g_part[a] += u * f0 + v * f1 + z * f2
        t[0], t[1], t[2] = u * xx + v * xy + z * xz, u * xy + v * yy + z * yz, u * xz + v * yz + z * zz
        t0, t1, t2 = t[0], t[1], t[2]
        for i in range(a // 16 * 16 + 16):
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
    n, full, offset = parts.count[p], parts.full[p], parts.offset[p]
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
            if a == n - 1 and 0 <= offset <= column[s] < offset + 3:
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
