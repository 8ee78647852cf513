"""Take steps of Levenberg-Marquardt on the CPU, one item at a time, in loops compiled by numba; see `lm._step`.

Imported where it is used, because numba takes a while to load.

Arguments that the loops share (B items, D variables):
    first, stop: the range of items. x: (B, D); cost: (B,); gradient: (B, D), J^T r; hessian: (B, D, D), J^T J.
    damping, finished, iterations: (B,) the state of the items. trial_x: (B, D) points after the step.
    predicted: (B,) reduction of the cost by the quadratic model, NaN where no step was taken.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["damping_factor", "judge", "propose"]


@loose
def damping_factor(reduction, predicted, down, up):
    """Return the factor on the damping after an accepted step, by the ratio of actual to predicted reduction.

    `down` after a good step, the square root of `up` after a poor one, else 1.
    """
    return down if reduction > 0.75 * predicted else 1.0 if reduction > 0.25 * predicted else math.sqrt(up)


@loose
def _factor(U, sparse):
    """Factor A = U^T U in place in A's upper triangle; return whether A is positive definite.

    `sparse`: whether to pass over rows that are 0 in a column, as most of uncoupled blocks are if these come first.
    U: (D, W), W a multiple of 16. Rows are processed from a multiple of 16 on, so that loops fill vectors; the entries
    that this writes left of the diagonal are zeroed again.
    """
    n, width = U.shape
    for i in range(n):
        begin, k = i // 16 * 16, 0
        while k + 4 <= i:
            a, b, c, d = U[k, i], U[k + 1, i], U[k + 2, i], U[k + 3, i]
            if not sparse or a != 0 or b != 0 or c != 0 or d != 0:
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
def propose(first, stop, x, gradient, hessian, damping, finished, tiny, order, trial_x, predicted):
    """Write `trial_x`, x minus a damped step, and the predicted reduction for items first to stop - 1.

    tiny: least damping. order: (D,), the order in which variables are eliminated, uncoupled blocks first; or (0,).
    An item that is finished or whose matrix is not positive definite keeps x, with NaN predicted.
    """
    n = x.shape[1]
    width = (n + 15) // 16 * 16
    U, y, damping_term = np.zeros((n, width), x.dtype), np.empty(width, x.dtype), np.empty(n, x.dtype)
    sorted_first = len(order) > 0
    for b in range(first, stop):
        predicted[b] = np.nan
        for i in range(n):
            trial_x[b, i] = x[b, i]
        if finished[b]:
            continue
        largest = hessian[b, 0, 0]
        for i in range(n):
            largest = max(largest, hessian[b, i, i])
        for i in range(n):
            for j in range(i // 16 * 16, i):
                U[i, j] = 0
            row = order[i] if sorted_first else i
            if sorted_first:
                for j in range(i, n):
                    U[i, j] = hessian[b, row, order[j]]
            else:
                for j in range(i, n):
                    U[i, j] = hessian[b, i, j]
            damping_term[i] = 1e-9 * largest + tiny + damping[b] * hessian[b, row, row]
            U[i, i] += damping_term[i]
            y[i] = gradient[b, row]
        if not _factor(U, sorted_first):
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
            row = order[i] if sorted_first else i
            gain += y[i] * (gradient[b, row] + np.float64(damping_term[i]) * y[i])
        if not abs(gain) < np.inf:
            continue
        predicted[b] = gain
        for i in range(n):
            trial_x[b, order[i] if sorted_first else i] -= y[i]


@loose
def judge(
    first, stop, trial_x, trial_cost, trial_gradient, trial_hessian, predicted, tolerance, down, up, most,
    x, cost, gradient, hessian, damping, finished, iterations
):  # fmt: skip
    """Accept the steps that lower the cost of items first to stop - 1, update their damping, mark converged items.

    trial_cost, trial_gradient, trial_hessian: at `trial_x`. tolerance: `cost_tolerance`; down, up, most:
    `damping_down`, `damping_up`, `damping_max` of `LMConfig`. The last seven arrays are updated in place.
    """
    n = x.shape[1]
    for b in range(first, stop):
        if finished[b]:
            continue
        iterations[b] += 1
        before, reduction = abs(cost[b]), np.float64(cost[b]) - trial_cost[b]
        if predicted[b] == predicted[b] and reduction > 0 and reduction < np.inf:
            cost[b] = trial_cost[b]
            for i in range(n):
                x[b, i], gradient[b, i] = trial_x[b, i], trial_gradient[b, i]
                for j in range(n):
                    hessian[b, i, j] = trial_hessian[b, i, j]
            by = damping_factor(reduction, predicted[b], down, up)
            finished[b] = reduction < tolerance * max(before, 1e-12)
        else:
            by = up
        damping[b] = min(max(damping[b] * by, 1e-9), 10 * most)
        finished[b] = finished[b] or damping[b] > most
