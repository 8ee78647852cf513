"""A step of Levenberg-Marquardt on the CPU, one item at a time, compiled by numba; `lm._step` has the equations.

Imported where it is used, because numba takes a while to load.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["damping_factor", "judge", "propose"]


@loose
def damping_factor(gained, foretold, down, up):
    """The factor of the damping after a step that lowered the objective by `gained`, where the quadratic model said
    `foretold`: `down` after a good step, the root of `up` after a poor one."""
    return down if gained > 0.75 * foretold else 1.0 if gained > 0.25 * foretold else math.sqrt(up)


@loose
def _factor(U):
    """U with U^T U = A in the place of A's upper triangle; returns whether A is positive definite.

    Rows are as long as a multiple of 16 and start at one, so that loops fill vectors: what that writes left of the
    diagonal is 0 again when the row is done.
    """
    n, width = U.shape
    for i in range(n):
        begin, k = i // 16 * 16, 0
        while k + 4 <= i:
            a, b, c, d = U[k, i], U[k + 1, i], U[k + 2, i], U[k + 3, i]
            for j in range(begin, width):
                U[i, j] -= a * U[k, j] + b * U[k + 1, j] + c * U[k + 2, j] + d * U[k + 3, j]
            k += 4
        while k < i:
            a = U[k, i]
            for j in range(begin, width):
                U[i, j] -= a * U[k, j]
            k += 1
        pivot = np.float64(U[i, i])
        if not pivot > 0 or pivot == np.inf:
            return False
        root = math.sqrt(pivot)
        for j in range(begin, i):
            U[i, j] = 0
        U[i, i] = root
        inverse = 1 / U[i, i]
        for j in range(i + 1, width):
            U[i, j] *= inverse
    return True


@loose
def propose(first, stop, x, gradient, hessian, damping, done, tiny, tried, foretold):
    """`tried` x less a damped step for items first to stop - 1, and what the quadratic model says that gains.

    An item that is done or whose matrix is not positive definite stays, and NaN is foretold.
    """
    n = x.shape[1]
    width = (n + 15) // 16 * 16
    U, y, added = np.zeros((n, width), x.dtype), np.empty(width, x.dtype), np.empty(n, x.dtype)
    for b in range(first, stop):
        foretold[b] = np.nan
        for i in range(n):
            tried[b, i] = x[b, i]
        if done[b]:
            continue
        largest = hessian[b, 0, 0]
        for i in range(n):
            largest = max(largest, hessian[b, i, i])
        for i in range(n):
            for j in range(i // 16 * 16, i):
                U[i, j] = 0
            for j in range(i, n):
                U[i, j] = hessian[b, i, j]
            added[i] = 1e-9 * largest + tiny + damping[b] * hessian[b, i, i]
            U[i, i] += added[i]
            y[i] = gradient[b, i]
        if not _factor(U):
            continue
        for i in range(n):
            y[i] /= U[i, i]
            by = y[i]
            for j in range(i + 1, n):
                y[j] -= by * U[i, j]
        for i in range(n - 1, -1, -1):
            total = y[i] * 0
            for j in range(i + 1, n):
                total += U[i, j] * y[j]
            y[i] = (y[i] - total) / U[i, i]
        gain = 0.0
        for i in range(n):
            gain += y[i] * (gradient[b, i] + np.float64(added[i]) * y[i])
        if not abs(gain) < np.inf:
            continue
        foretold[b] = gain
        for i in range(n):
            tried[b, i] -= y[i]


@loose
def judge(
    first, stop, tried, trial_cost, trial_gradient, trial_hessian, foretold, tolerance, down, up, most,
    x, cost, gradient, hessian, damping, done, iterations
):  # fmt: skip
    """Keep what lowers the objective of items first to stop - 1, set their damping, end those that are settled."""
    n = x.shape[1]
    for b in range(first, stop):
        if done[b]:
            continue
        iterations[b] += 1
        before, gained = abs(cost[b]), np.float64(cost[b]) - trial_cost[b]
        if foretold[b] == foretold[b] and gained > 0 and gained < np.inf:
            cost[b] = trial_cost[b]
            for i in range(n):
                x[b, i], gradient[b, i] = tried[b, i], trial_gradient[b, i]
                for j in range(n):
                    hessian[b, i, j] = trial_hessian[b, i, j]
            by = damping_factor(gained, foretold[b], down, up)
            done[b] = gained < tolerance * max(before, 1e-12)
        else:
            by = up
        damping[b] = min(max(damping[b] * by, 1e-9), 10 * most)
        done[b] = done[b] or damping[b] > most
