"""Bends, limits and betas, one person at a time, compiled by numba; the equations are those of `bends`, `limits` and
`shape`. Each adds to the diagonal of H and to g and returns its part of the objective."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["bend", "limit", "shape"]


@loose
def bend(x, b, pose, size, bends, room, t, H, g):
    """Elbows and knees that bend backwards."""
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
    """Angles beyond their limits."""
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
    """The betas' prior."""
    cost, w2 = 0.0, prior.weight * prior.weight
    for s in range(betas, betas + size):
        v = np.float64(x[b, s])
        cost += w2 * v * v
        g[s] += w2 * v
        H[s, s] += w2
    return cost
