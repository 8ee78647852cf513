"""Compiled kernels of bends, limits and betas; the equations are those of `bends`, `limits` and `shape`.

Each returns the weighted cost of person b and adds half its gradient to g (D,) and half its Hessian to the diagonal of
H (D, D). Arguments (`Loop.place` "variables"): x (B, D); the first column and the number of columns of the block; the
residual's arrays; room (D,) and t (4,), scratch that is not used here.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["bend", "limit", "shape"]


@loose
def bend(x, b, pose, size, bends, room, t, H, g):
    """Add the prior against bending backwards (`AnglePrior`); `bends` are `AnglePriorArrays`, pose in radians."""
    cost, w2 = 0.0, bends.weight * bends.weight
    for n in range(len(bends.column)):
        a, sign = pose + bends.column[n], bends.sign[n]
        r = 10 * math.exp(min(sign * x[b, a], 4.0))
        cost += w2 * r * r
        g[a] += w2 * sign * r * r
        H[a, a] += w2 * r * r
    return cost


@loose
def limit(x, b, pose, size, limits, room, t, H, g):
    """Add the joint limits (`LimitPrior`); `limits` are `LimitArrays`, pose in radians."""
    cost, w2 = 0.0, limits.weight * limits.weight
    for p in range(len(limits.lower)):
        v = np.float64(x[b, pose + p])
        beyond = v - min(max(v, limits.lower[p]), limits.upper[p])
        if beyond != 0:
            cost += w2 * beyond * beyond
            g[pose + p] += w2 * beyond
            H[pose + p, pose + p] += w2
    return cost


@loose
def shape(x, b, betas, size, prior, room, t, H, g):
    """Add the prior of the betas (`ShapePrior`); `prior` are `ShapeArrays`."""
    cost, w2 = 0.0, prior.weight * prior.weight
    for s in range(betas, betas + size):
        v = np.float64(x[b, s])
        cost += w2 * v * v
        g[s] += w2 * v
        H[s, s] += w2
    return cost
