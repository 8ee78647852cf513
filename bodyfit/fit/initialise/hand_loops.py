"""The normal equations of hands without a body on the CPU, one hand at a time; the equations are those of `hands.py`.

Imported where it is used, because numba takes a while to load.
"""

from __future__ import annotations

import numpy as np

from bodyfit.body.kernels.tree import exponential
from bodyfit.fit.residuals.loops.lift import lift, subtract_centre
from bodyfit.fit.residuals.loops.measured import measure
from bodyfit.fit.residuals.loops.mixture import mixture
from bodyfit.fit.residuals.loops.part_priors import limit_hand
from bodyfit.fit.residuals.loops.reprojection import reproject
from bodyfit.runtime.compiled import loose

__all__ = ["hand_normal"]

_POINTS, _SIZE = 21, 51


@loose
def _pose(x, b, rest, finger_joint, points, R, left, axes, joint_at):
    """Write the points (21, 3) of hand b and the world rotations `axes` (5, 3, 9) that its finger joints make.

    R, left: (4, 9), scratch, of which `left[3]` is the wrist's. joint_at: (5, 3, 3), positions of finger joints.
    """
    exponential(x[b, 3] + 0.0, x[b, 4] + 0.0, x[b, 5] + 0.0, R, left, 3, True)
    world, turned, bone = np.empty(9), np.empty(9), np.empty(3)
    for r in range(3):
        points[0, r] = x[b, r]
    for f in range(5):
        for r in range(9):
            world[r] = R[3, r]
        before, at = 0, 1 + 4 * f
        for joint in range(4):
            for r in range(3):
                bone[r] = rest[b, at + joint, r] - rest[b, before, r]
            for r in range(3):
                moved = world[3 * r] * bone[0] + world[3 * r + 1] * bone[1] + world[3 * r + 2] * bone[2]
                points[at + joint, r] = points[before, r] + moved
            before = at + joint
            if joint == 3:
                break
            a = 6 + 9 * finger_joint[f] + 3 * joint
            exponential(x[b, a] + 0.0, x[b, a + 1] + 0.0, x[b, a + 2] + 0.0, R, left, joint, True)
            for r in range(3):
                joint_at[f, joint, r] = points[before, r]
                u, v, w = world[3 * r], world[3 * r + 1], world[3 * r + 2]
                for c in range(3):
                    axes[f, joint, 3 * r + c] = u * left[joint, c] + v * left[joint, 3 + c] + w * left[joint, 6 + c]
                    turned[3 * r + c] = u * R[joint, c] + v * R[joint, 3 + c] + w * R[joint, 6 + c]
            for r in range(9):
                world[r] = turned[r]


@loose
def _turned(axes, arm, rows, at):
    """Write axis x arm for each column of axes (9,) to rows (3, W) from column `at` on."""
    for c in range(3):
        a, d, e = axes[c], axes[3 + c], axes[6 + c]
        rows[0, at + c] = d * arm[2] - e * arm[1]
        rows[1, at + c] = e * arm[0] - a * arm[2]
        rows[2, at + c] = a * arm[1] - d * arm[0]


@loose
def _rows(k, points, left, axes, joint_at, finger_joint, rows, columns):
    """Write the derivatives of point k into rows (3, W) and their columns into `columns`; return how many there are."""
    arm = np.empty(3)
    for c in range(6):
        rows[0, c] = rows[1, c] = rows[2, c] = 0
        columns[c] = c
    rows[0, 0] = rows[1, 1] = rows[2, 2] = 1
    for r in range(3):
        arm[r] = points[k, r] - points[0, r]
    _turned(left[3], arm, rows, 3)
    count = 6
    if k == 0:
        return count
    f = (k - 1) // 4
    for joint in range((k - 1) % 4):
        at = 6 + 9 * finger_joint[f] + 3 * joint
        for r in range(3):
            arm[r] = points[k, r] - joint_at[f, joint, r]
        _turned(axes[f, joint], arm, rows, at)
        for c in range(3):
            columns[count] = at + c
            count += 1
    return count


@loose
def _stamp(k, columns, count, rows, force, stiffness, H, g):
    """Add the force (K, 3) and the stiffness (K, 6) of point k to H, lower triangle, and g."""
    xx, xy, xz = stiffness[k, 0], stiffness[k, 1], stiffness[k, 2]
    yy, yz, zz = stiffness[k, 3], stiffness[k, 4], stiffness[k, 5]
    for n in range(count):
        a = columns[n]
        u, v, w = rows[0, a], rows[1, a], rows[2, a]
        g[a] += u * force[k, 0] + v * force[k, 1] + w * force[k, 2]
        p, q, r = u * xx + v * xy + w * xz, u * xy + v * yy + w * yz, u * xz + v * yz + w * zz
        for m in range(count):
            i = columns[m]
            if i <= a:
                H[a, i] += p * rows[0, i] + q * rows[1, i] + r * rows[2, i]


@loose
def hand_normal(first, stop, x, hands, cost, gradient, hessian):
    """Compute cost (N,), gradient (N, 51) and hessian (N, 51, 51) of hands first to stop - 1; `hands`: `HandArrays`."""
    points, R, left, axes = np.empty((_POINTS, 3)), np.empty((4, 9)), np.empty((4, 9)), np.empty((5, 3, 9))
    joint_at, columns, nowhere = np.empty((5, 3, 3)), np.empty(15, np.int64), np.zeros(3)
    force, stiffness = np.empty((_POINTS, 3)), np.empty((_POINTS, 6))
    rows, shared, H, g = np.zeros((3, 64)), np.zeros((8, 64)), np.zeros((64, 64)), np.zeros(64)
    lifted, gram, drag = np.zeros((_POINTS, 10)), np.zeros((4, 4)), np.zeros(4)
    room, d, flat = np.empty(64, x.dtype), np.empty(4), np.zeros(45)
    has_lift, measured = hands.lift.weight > 0, hands.measured.weight > 0
    for b in range(first, stop):
        H[:] = 0
        g[:] = 0
        force[:] = 0
        stiffness[:] = 0
        shared[:] = 0
        _pose(x, b, hands.rest, hands.finger_joint, points, R, left, axes, joint_at)
        total = reproject(b, points, nowhere, hands.picture, force, stiffness)
        if measured:
            total += measure(b, points, nowhere, hands.measured, force, stiffness)
        if has_lift:
            total += lift(b, points, hands.lift, force, stiffness, lifted, gram, drag)
        for k in range(_POINTS):
            if stiffness[k, 0] == 0 and stiffness[k, 3] == 0 and stiffness[k, 5] == 0:
                continue
            count = _rows(k, points, left, axes, joint_at, hands.finger_joint, rows, columns)
            _stamp(k, columns, count, rows, force, stiffness, H, g)
            if has_lift:
                for n in range(count):
                    a = columns[n]
                    for r in range(3):
                        v = rows[r, a]
                        shared[r, a] += lifted[k, 0] * v
                        shared[3, a] += lifted[k, 1 + r] * v
                        shared[4 + r, a] += lifted[k, 4 + r] * v
                        shared[7, a] += lifted[k, 7 + r] * v
        if has_lift:
            subtract_centre(shared, gram, drag, _SIZE, H, g)
        total += mixture(x, b, 6, 45, hands.prior, room, d, H, g)
        total += limit_hand(x, b, 6, hands.limit_weight, flat, hands.axes, hands.limits, H, g)
        for r in range(3):
            off = np.float64(x[b, r]) - hands.wrist[b, r]
            total += hands.stiff * off * off
            g[r] += hands.stiff * off
            H[r, r] += hands.stiff
        cost[b] = total
        for a in range(_SIZE):
            gradient[b, a] = g[a]
            for i in range(a + 1):
                hessian[b, a, i] = H[a, i]
                hessian[b, i, a] = H[a, i]
