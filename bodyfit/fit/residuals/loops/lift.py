"""Compiled kernel of a detector's 3D keypoints (lift); the equations are those of `lift`."""

from __future__ import annotations

import numpy as np

from bodyfit.fit.residuals.lift import SIZES
from bodyfit.runtime.compiled import loose

__all__ = ["lift", "subtract_centre"]


@loose
def lift(b, positions, arrays, force, stiffness, lifted, gram, drag):
    """Return the weighted cost of person b (`lift.centred_distance`); add to force and stiffness without centring.

    The Jacobian's row of coordinate c of point k is, by the size, the point's own minus e_kc = (unit vector c, q_kc)
    times four rows that all share: the derivatives of the mean and of the size; q is the point about the mean, by the
    size.

    Arguments: positions (K, 3), metres; arrays: `LiftArrays`; force (K, 3); stiffness (K, 6). Sets lifted (K, 10): by
    point, its share of the mean, its derivative of the size (3), the weights (3) and the weights times q (3); gram
    (4, 4): the weighted sum of e e^T; drag (4,): the weighted sum of e times the residual.
    """
    target, weight, factor = arrays.target_m, arrays.confidence, arrays.weight
    n_k, s2, total, cost = len(positions), arrays.sigma * arrays.sigma, 0.0, 0.0
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
    size = min(max(pq / qq, 1 / SIZES), SIZES)
    free = size == pq / qq
    for k in range(n_k):
        w2 = (factor * weight[b, k]) ** 2
        if w2 == 0:
            continue
        for r in range(3):
            q = (positions[k, r] - p0[r]) / size
            e = 100 * (q - (target[b, k, r] - q0[r]))
            ratio = s2 / (s2 + e * e)
            cost += w2 * ratio * e * e
            f = 100 * w2 * ratio * ratio / size
            stiff = 100 * f / size
            force[k, r] += f * e
            stiffness[k, 0 if r == 0 else 3 if r == 1 else 5] += stiff
            if free:
                lifted[k, 1 + r] = lifted[k, 0] * (target[b, k, r] - q0[r]) / qq
            else:
                q = 0.0
            lifted[k, 4 + r] = stiff
            gram[r, r] += stiff
            gram[r, 3] += stiff * q
            gram[3, 3] += stiff * q * q
            drag[r] += f * e
            drag[3] += f * e * q
            lifted[k, 7 + r] = stiff * q
    for r in range(3):
        gram[3, r] = gram[r, 3]
    return cost


@loose
def subtract_centre(shared, gram, drag, n, H, g):
    """Subtract what centring the lift takes away from the first n columns, below the diagonal of H.

    shared (8, W), gram (4, 4), drag (4,) as in `assembly/loops.py`; the last four rows of `shared` are changed.
    """
    for c in range(4):
        for e in range(4):
            for i in range(n):
                shared[4 + c, i] -= 0.5 * gram[c, e] * shared[e, i]
    for a in range(n):
        for c in range(4):
            g[a] -= drag[c] * shared[c, a]
            for i in range(a + 1):
                H[a, i] -= shared[4 + c, a] * shared[c, i] + shared[c, a] * shared[4 + c, i]
