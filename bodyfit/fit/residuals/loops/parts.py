"""Compiled kernels of the points of hands and faces; the equations are those of `parts/hands.py` and `parts/face.py`.

Arguments (`Loop.place` "own points"): x (B, D); b: the person; arrays: the residual's record; tree: `TreeTables`;
posed: the posed tree; lever (J, 4), 0 before and after; H (D, D), lower triangle, and g (D,). Each returns the weighted
cost.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.body.points.loops import place
from bodyfit.body.points.part_loops import anchored, part_rows, scatter, stamp_block
from bodyfit.body.points.parts import BLOCK, SIZE
from bodyfit.fit.residuals.loops.lift import lift, subtract_centre
from bodyfit.fit.residuals.loops.measured import measure
from bodyfit.fit.residuals.loops.reprojection import reproject
from bodyfit.fit.residuals.reprojection import NEAR_M
from bodyfit.runtime.compiled import loose

__all__ = ["apart", "hands_lift", "measure_parts", "reproject_parts"]


@loose
def _room(parts, like):
    """Allocate the pieces' and the points' positions, force, stiffness and, by reduced columns, rows and sums."""
    n_k, width = len(parts.column_ptr) - 1, parts.full.shape[1]
    return (
        np.empty((len(parts.points.bone), 3)),
        np.empty((n_k, 3)),
        np.zeros((n_k, 3)),
        np.zeros((n_k, 6)),
        np.zeros((3 * BLOCK, width), like.dtype),
        np.zeros((width, width), like.dtype),
        np.zeros(width),
    )


@loose
def _clear(n, rows, H_part, g_part):
    """Set the sums of a part of n reduced columns, and the rows, to 0."""
    rows[:] = 0
    for a in range(n):
        g_part[a] = 0
        for i in range(a // 16 * 16 + 16):
            H_part[a, i] = 0


@loose
def _moved(x, b, p, parts, about_mean, positions, origin, moved):
    """Write points of part p with the part's size and offset into `moved` (K, 3); return the size.

    Sets origin (3,): what the part is scaled about, its first point or the mean of its points.
    """
    first, stop = parts.start[p], parts.start[p + 1]
    size, offset = parts.full[p, SIZE], parts.offset[p]
    scale = math.exp(x[b, size]) if size >= 0 else 1.0
    for r in range(3):
        origin[r] = positions[first, r]
        if about_mean:
            origin[r] = 0
            for k in range(first, stop):
                origin[r] += positions[k, r]
            origin[r] /= stop - first
    for k in range(first, stop):
        for r in range(3):
            moved[k, r] = origin[r] + scale * (positions[k, r] - origin[r])
            if offset >= 0:
                moved[k, r] += x[b, offset + r]
    return scale


@loose
def _of_unscaled(p, parts, about_mean, scale, origin, positions, force, stiffness):
    """Turn forces and stiffnesses of scaled points into those of the points as posed.

    Returns half the cost's gradient by the logarithm of the scale.

    What moves with the origin as the part is scaled is left out of the stiffnesses, as in `hands.scaled_term`.
    """
    first, stop, by_size = parts.start[p], parts.start[p + 1], 0.0
    for r in range(3):
        total = 0.0
        for k in range(first, stop):
            total += force[k, r]
            by_size += force[k, r] * scale * (positions[k, r] - origin[r])
            force[k, r] *= scale
        rest = (1 - scale) * total
        if about_mean:
            for k in range(first, stop):
                force[k, r] += rest / (stop - first)
        else:
            force[first, r] += rest
    for k in range(first, stop):
        for r in range(6):
            stiffness[k, r] *= scale * scale
    return by_size


@loose
def _is_idle(k, force, stiffness):
    """Tell whether point k adds nothing."""
    still = stiffness[k, 0] == 0 and stiffness[k, 3] == 0 and stiffness[k, 5] == 0
    return still and force[k, 0] == 0 and force[k, 1] == 0 and force[k, 2] == 0


@loose
def _stamp(p, parts, tree, posed, pieces, positions, origin, force, stiffness, by_size, lever, rows, sums, H, g):
    """Add forces and stiffnesses of the points of part p to H and g; `sums` are `H_part` and `g_part`."""
    centre, n, (H_part, g_part) = np.empty(3), parts.reduced[p], sums
    anchored(p, parts, posed, centre)
    _clear(n, rows, H_part, g_part)
    sized = parts.full[p, SIZE] >= 0
    for block in range(parts.part_block[p], parts.part_block[p + 1]):
        first, idle = parts.block_ptr[block], True
        for i in range(first, parts.block_ptr[block + 1]):
            k = parts.block[i]
            if _is_idle(k, force, stiffness):
                continue
            idle = False
            part_rows(k, p, parts, tree, posed, pieces, positions[k], centre, lever, rows, 3 * (i - first))
            if sized:
                for r in range(3):
                    rows[3 * (i - first) + r, SIZE] = positions[k, r] - origin[r]
        if idle:
            continue
        stamp_block(block, parts, rows, force, stiffness, H_part, g_part)
        k = parts.block[first]
        for i in range(parts.column_ptr[k], parts.column_ptr[k + 1]):
            a = parts.column[i]
            for r in range(3 * BLOCK):
                rows[r, a] = 0
    if sized:
        g_part[SIZE] = by_size
    scatter(p, parts, tree, posed, centre, False, H_part, g_part, H, g)


@loose
def reproject_parts(x, b, arrays, tree, posed, lever, rows, room, t, H, g):
    """Add the reprojection errors of hands or of a face; `arrays` are `PartReprojectionArrays`."""
    parts, mean = arrays.parts, arrays.about_mean
    pieces, positions, force, stiffness, rows, H_part, g_part = _room(parts, x)
    moved, transl, n_p = np.empty_like(positions), np.empty(3), len(parts.anchor)
    origins, scales = np.empty((n_p, 3)), np.empty(n_p)
    place(x, b, tree, parts.points, posed, pieces, positions)
    for r in range(3):
        transl[r] = x[b, tree.transl + r]
    for p in range(n_p):
        scales[p] = _moved(x, b, p, parts, mean, positions, origins[p], moved)
    cost = reproject(b, moved, transl, arrays.picture, force, stiffness)
    sums = H_part, g_part
    for p in range(n_p):
        by_size = _of_unscaled(p, parts, mean, scales[p], origins[p], positions, force, stiffness)
        _stamp(p, parts, tree, posed, pieces, positions, origins[p], force, stiffness, by_size, lever, rows, sums, H, g)
    return cost


@loose
def measure_parts(x, b, arrays, tree, posed, lever, rows, room, t, H, g):
    """Add the distances from measured points of hands, which have an offset but no size; `PartMeasuredArrays`."""
    parts = arrays.parts
    pieces, positions, force, stiffness, rows, H_part, g_part = _room(parts, x)
    moved, transl, origin = np.empty_like(positions), np.empty(3), np.zeros(3)
    place(x, b, tree, parts.points, posed, pieces, positions)
    for r in range(3):
        transl[r] = x[b, tree.transl + r]
    for p in range(len(parts.anchor)):
        _moved(x, b, p, parts, False, positions, origin, moved)
    cost = measure(b, moved, transl, arrays.measured, force, stiffness)
    sums = H_part, g_part
    for p in range(len(parts.anchor)):
        _stamp(p, parts, tree, posed, pieces, positions, origin, force, stiffness, 0.0, lever, rows, sums, H, g)
    return cost


@loose
def hands_lift(x, b, arrays, tree, posed, lever, rows, room, t, H, g):
    """Add the distances from the lift of each hand; `arrays` are `HandLiftArrays`."""
    parts, n_k = arrays.parts, arrays.parts.start[1]
    pieces, positions, force, stiffness, rows, H_part, g_part = _room(parts, x)
    lifted, gram, drag, centre = np.empty((n_k, 10)), np.empty((4, 4)), np.empty(4), np.empty(3)
    shared, total = np.empty((8, rows.shape[1])), 0.0
    place(x, b, tree, parts.points, posed, pieces, positions)
    for p in range(2):
        first, n = parts.start[p], parts.reduced[p]
        record = arrays.left if p == 0 else arrays.right
        own = slice(first, first + n_k)
        total += lift(b, positions[own], record, force[own], stiffness[own], lifted, gram, drag)
        _clear(n, rows, H_part, g_part)
        shared[:] = 0
        anchored(p, parts, posed, centre)
        for block in range(parts.part_block[p], parts.part_block[p + 1]):
            start, stop = parts.block_ptr[block], parts.block_ptr[block + 1]
            for j in range(start, stop):
                k, at = parts.block[j], 3 * (j - start)
                if stiffness[k, 0] == 0:
                    continue
                part_rows(k, p, parts, tree, posed, pieces, positions[k], centre, lever, rows, at)
                i = k - first
                for m in range(parts.column_ptr[k], parts.column_ptr[k + 1]):
                    a = parts.column[m]
                    for r in range(3):
                        v = np.float64(rows[at + r, a])
                        shared[r, a] += lifted[i, 0] * v
                        shared[3, a] += lifted[i, 1 + r] * v
                        shared[4 + r, a] += lifted[i, 4 + r] * v
                        shared[7, a] += lifted[i, 7 + r] * v
            stamp_block(block, parts, rows, force, stiffness, H_part, g_part)
            rows[:] = 0
        subtract_centre(shared, gram, drag, n, H_part, g_part)
        scatter(p, parts, tree, posed, centre, True, H_part, g_part, H, g)
    return total


@loose
def apart(x, b, arrays, tree, posed, lever, rows, room, t, H, g):
    """Add what sums of points whose shares add up to 0 are off in the picture; `arrays` are `ApartArrays`.

    The points of `arrays.parts` are those of one sum after the other.
    """
    parts = arrays.parts
    pieces, positions, _, _, rows, H_part, g_part = _room(parts, x)
    centre, n, total = np.empty(3), parts.reduced[0], 0.0
    both, off = np.empty((2, rows.shape[1]), rows.dtype), np.empty(2)
    place(x, b, tree, parts.points, posed, pieces, positions)
    anchored(0, parts, posed, centre)
    _clear(n, rows, H_part, g_part)
    for row in range(arrays.scale.shape[1]):
        scale = arrays.weight * arrays.scale[b, row]
        if scale == 0:
            continue
        both[:] = 0
        off[:] = 0
        for m in range(len(arrays.shares)):
            k, share = len(arrays.shares) * row + m, arrays.shares[m]
            z = max(positions[k, 2] + x[b, tree.transl + 2], NEAR_M)
            part_rows(k, 0, parts, tree, posed, pieces, positions[k], centre, lever, rows, 0)
            for axis in range(2):
                uv = (positions[k, axis] + x[b, tree.transl + axis]) / z
                off[axis] += share * (uv - arrays.target[b, k, axis])
                for i in range(n):
                    both[axis, i] += scale * share / z * (rows[axis, i] - uv * rows[2, i])
            for i in range(n):
                rows[0, i] = rows[1, i] = rows[2, i] = 0
        for axis in range(2):
            r = scale * off[axis]
            total += r * r
            for a in range(n):
                g_part[a] += r * both[axis, a]
                for i in range(a + 1):
                    H_part[a, i] += both[axis, a] * both[axis, i]
    scatter(0, parts, tree, posed, centre, False, H_part, g_part, H, g)
    return total
