"""Compiled kernel of the conditional pose prior; the equations are those of `conditional`."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["conditional"]


@loose
def conditional(x, b, pose, size, prior, room, t, H, g):
    """Add each joint's Student distribution of person b to H (lower triangle) and g; return the weighted cost.

    Arguments: x (B, D); pose: first column of the body pose; size: number of its columns; prior: `ConditionalArrays`;
    room (D,) and t (4,): scratch.
    """
    w2, freedom, cost = prior.weight * prior.weight * np.float64(prior.share[b]), prior.freedom, 0.0
    half = 0.5 * (freedom + 3)
    for j in range(size // 3):
        a, m = pose + 3 * j, 0.0
        for i in range(3):
            white = 0.0
            for r in range(i, 3):
                white += np.float64(prior.factor[b, j, r, i]) * (x[b, a + r] - prior.expected[b, 3 * j + r])
            m += white * white
            t[i] = white
        cost += half * math.log1p(m / freedom)
        share = w2 * half / (freedom + m)
        for r in range(3):
            for i in range(r + 1):
                g[a + r] += share * prior.factor[b, j, r, i] * t[i]
            for c in range(r + 1):
                value = 0.0
                for i in range(c + 1):
                    value += np.float64(prior.factor[b, j, r, i]) * prior.factor[b, j, c, i]
                H[a + r, a + c] += share * value
    return w2 * cost
