"""The normal equations on the CPU, one person at a time: cost, J^T r and J^T J in one pass, compiled by numba.

It is independent of the residuals: `kernels.py` calls those that declare a loop. Residuals on points are reduced to a
force and a stiffness (3 x 3) of each point k, which add J_k^T force and J_k^T stiffness J_k; the rows of joints that do
not move the point are zero. Imported where it is used, because numba takes a while to load.

Shapes: D columns of variables, padded to W (`wide`); K points; J joints. H (W, W), lower triangle; g (D,), half the
gradient; rows (3, W), the Jacobian of one point; force (K, 3) and stiffness (K, 6: xx xy xz yy yz zz), half derivatives
of the cost in metres; lever (J, 4) and t (4,), scratch.
"""

from __future__ import annotations

import numpy as np

from bodyfit.body.points.loops import place, point_rows, pose, tree_room, wide
from bodyfit.fit.assembly.kernels import any_weight, centred_on_points, on_own_points, on_points, on_variables
from bodyfit.runtime.compiled import inline, loose

__all__ = ["normal"]


@loose
def _copy(own, force, stiffness):
    for k in range(len(force)):
        for r in range(3):
            force[k, r] = own[0][k, r]
        for r in range(6):
            stiffness[k, r] = own[1][k, r]


@inline
def _stamp_column(a, k, transl, rows, force, stiffness, by_transl, t, H, g):
    """Add row `a` of J_k^T stiffness J_k up to the diagonal, and of J_k^T force.

    The columns from `transl` on use the stiffness `by_transl` (K, 6) instead.
    """
    u, v, z = np.float64(rows[0, a]), np.float64(rows[1, a]), np.float64(rows[2, a])
    g[a] += u * force[k, 0] + v * force[k, 1] + z * force[k, 2]
    H[a, transl] += u * by_transl[k, 0] + v * by_transl[k, 1] + z * by_transl[k, 2]
    H[a, transl + 1] += u * by_transl[k, 1] + v * by_transl[k, 3] + z * by_transl[k, 4]
    H[a, transl + 2] += u * by_transl[k, 2] + v * by_transl[k, 4] + z * by_transl[k, 5]
    t[0] = u * stiffness[k, 0] + v * stiffness[k, 1] + z * stiffness[k, 2]
    t[1] = u * stiffness[k, 1] + v * stiffness[k, 3] + z * stiffness[k, 4]
    t[2] = u * stiffness[k, 2] + v * stiffness[k, 4] + z * stiffness[k, 5]
    t0, t1, t2 = t[0], t[1], t[2]
    for i in range(a // 16 * 16 + 16):
        H[a, i] += t0 * rows[0, i] + t1 * rows[1, i] + t2 * rows[2, i]


@loose
def _stamp(points, tree, posed, pieces, own, force, stiffness, centred, shared, lever, rows, t, H, g):
    """Add the forces and stiffnesses of all points to H and g, and the sums that centring needs to `shared` (8, W).

    `own` (force, stiffness) leaves out centred residuals, on which the translation has no effect: in float32 the
    rounding of sums that cancel would exceed the depth's own stiffness, which is small. `pieces` are the posed pieces
    of points. The translation comes before all other columns that move points (`Variables`).
    """
    moved, mover, column, transl, end = points.mover_ptr, points.mover, tree.column, tree.transl, tree.betas
    n_s = points.offset_shape.shape[2]
    push, by_transl = own
    for k in range(len(force)):
        if stiffness[k, 0] == 0 and stiffness[k, 3] == 0 and stiffness[k, 5] == 0:
            continue
        point_rows(k, points, tree, posed, pieces, lever, rows)
        for r in range(3):
            g[transl + r] += push[k, r]
            for c in range(r + 1):
                H[transl + r, transl + c] += by_transl[k, r + c if c == 0 else r + c + 1]
        for n in range(moved[k], moved[k + 1]):
            for c in range(3):
                _stamp_column(column[mover[n]] + c, k, transl, rows, force, stiffness, by_transl, t, H, g)
        for s in range(n_s):
            _stamp_column(end + s, k, transl, rows, force, stiffness, by_transl, t, H, g)
        if len(centred):
            for r in range(3):
                t[0], t[1], t[2], t[3] = centred[k, 0], centred[k, 1 + r], centred[k, 4 + r], centred[k, 7 + r]
                share, dual, w, wq = t[0], t[1], t[2], t[3]
                for i in range(rows.shape[1]):
                    shared[r, i] += share * rows[r, i]
                    shared[3, i] += dual * rows[r, i]
                    shared[4 + r, i] += w * rows[r, i]
                    shared[7, i] += wq * rows[r, i]
        for n in range(moved[k], moved[k + 1]):
            for c in range(3):
                for r in range(3):
                    rows[r, column[mover[n]] + c] = 0


@loose
def _centre(shared, gram, drag, t, H, g):
    """Apply centring: H -= U A^T + A U^T - A gram A^T, and g -= A drag.

    A and U are the first and the last four rows of `shared` (8, W), transposed; gram (4, 4), drag (4,).
    """
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
def normal(
    first, stop, x, tree, points, measured, one_list, terms, cost, gradient, hessian
):  # fmt: skip
    """Compute cost (B,), gradient = J^T r (B, D) and hessian = J^T J (B, D, D) of people first to stop - 1 at x (B, D).

    `tree`: the kinematic tree and the columns of its variables (`TreeTables`); `points`, `measured`: the points of the
    keypoints and of the measured points (`PointTables`), `one_list` whether they are the same; `terms`: the weighted
    residuals (`CompiledTerms`).
    """
    size = x.shape[1]
    n_j, n_s, width = len(tree.bones), tree.bones_shape.shape[2], wide(size)
    n_k, n_p = len(points.piece_ptr) - 1, len(measured.piece_ptr) - 1
    posed = tree_room(n_j, n_s, tree.features)
    pieces, positions = np.empty((len(points.bone), 3)), np.empty((n_k, 3))
    force, stiffness = np.empty((n_k, 3)), np.empty((n_k, 6))
    own = np.empty((n_k, 3)), np.empty((n_k, 6))
    pieces2, positions2 = np.empty((len(measured.bone), 3)), np.empty((n_p, 3))
    force2, stiffness2 = np.zeros((n_p, 3)), np.zeros((n_p, 6))
    centred = np.zeros((n_k if any_weight(terms.centred) else 0, 10))
    other_list = not one_list and any_weight(terms.points3d)
    gram, drag, transl = np.empty((4, 4)), np.empty(4), np.empty(3)
    lever, t = np.zeros((n_j, 4)), np.empty(4, x.dtype)
    rows, shared = np.zeros((3, width), x.dtype), np.empty((8, width), x.dtype)
    H, g, room = np.empty((width, width), x.dtype), np.empty(size), np.empty(width, x.dtype)
    for b in range(first, stop):
        H[:] = 0
        g[:] = 0
        shared[:] = 0
        for r in range(3):
            transl[r] = x[b, tree.transl + r]
        pose(x, b, tree, posed)
        place(x, b, tree, points, posed, pieces, positions)
        own[0][:] = 0
        own[1][:] = 0
        total = on_points(b, positions, transl, terms.keypoints, own[0], own[1])
        if one_list:
            total += on_points(b, positions, transl, terms.points3d, own[0], own[1])
        _copy(own, force, stiffness)
        if len(centred):
            total += centred_on_points(b, positions, terms.centred, force, stiffness, centred, gram, drag)
        _stamp(points, tree, posed, pieces, own, force, stiffness, centred, shared, lever, rows, t, H, g)
        if len(centred):
            _centre(shared, gram, drag, t, H, g)
        if other_list:
            place(x, b, tree, measured, posed, pieces2, positions2)
            force2[:] = 0
            stiffness2[:] = 0
            total += on_points(b, positions2, transl, terms.points3d, force2, stiffness2)
            _stamp(
                measured,
                tree,
                posed,
                pieces2,
                (force2, stiffness2),
                force2,
                stiffness2,
                centred[:0],
                shared,
                lever,
                rows,
                t,
                H,
                g,
            )
        total += on_variables(x, b, terms.variables, room, t, H, g)
        total += on_own_points(x, b, terms.own_points, tree, posed, lever, rows, room, t, H, g)
        cost[b] = total
        for a in range(size):
            gradient[b, a] = g[a]
            for i in range(a + 1):
                hessian[b, a, i] = H[a, i]
        for a in range(size):
            for i in range(a + 1, size):
                hessian[b, a, i] = H[i, a]
