"""Compiled kernel of the pose prior; the equations are those of `mixture`."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["mixture"]


@loose
def mixture(x, b, pose, size, prior, white, d, H, g):
    """Add the mixture's component of lowest cost of person b to H (lower triangle) and g; return its weighted cost.

    Arguments: x (B, D); pose: first column of the body pose; size: number of its columns; prior: `MixtureArrays`;
    white (D,) and d (4,): scratch.
    """
    means, root, precision = prior.means, prior.root, prior.precision
    n, best, lowest = means.shape[1], 0, np.inf
    for m in range(len(means)):
        for i in range(len(white)):
            white[i] = 0
        for p in range(n):
            by = x[b, pose + p] - means[m, p]
            for i in range(p // 16 * 16 + 16):
                white[i] += by * root[m, p, i]
        cost = 0.0
        for i in range(n):
            cost += np.float64(white[i]) * white[i]
        cost = 0.5 * cost + prior.constant[m]
        if not cost >= lowest:
            best, lowest = m, cost
    tail, w2 = prior.tail, prior.weight * prior.weight
    relative = lowest / tail
    d[0] = w2 * 0.5 / (1 + relative)
    half = d[0]
    for i in range(n):
        white[i] = 0
    for p in range(n):
        by = x[b, pose + p] - means[best, p]
        for i in range(n):
            white[i] += by * precision[best, p, i]
        for i in range(p + 1):
            H[pose + p, pose + i] += half * precision[best, p, i]
    for i in range(n):
        g[pose + i] += half * white[i]
    return w2 * (lowest if tail == np.inf else tail * math.log1p(relative))
