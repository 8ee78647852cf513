"""Compiled kernels of the priors of hands and faces; the equations are those of `parts/hand_prior.py`,
`parts/face_prior.py` and `common/normal.py`.

Each returns the weighted cost of person b and adds half its gradient to g (D,) and half its Hessian to the lower
triangle H (D, D). Arguments (`Loop.place` "variables"): x (B, D); the first column and the number of columns of the
residual's first block; its arrays; room (D,) and t (4,), scratch.
"""

from __future__ import annotations

import numpy as np

from bodyfit.fit.residuals.loops.mixture import mixture
from bodyfit.runtime.compiled import loose

__all__ = ["face", "hand_limits", "hands", "jaw", "limit_hand", "normal"]


@loose
def normal(x, b, first, size, prior, room, t, H, g):
    """Add independent normal priors about 0 (`NormalPrior`)."""
    cost, w2 = 0.0, (prior.weight / prior.deviation) ** 2
    for a in range(first, first + size):
        v = np.float64(x[b, a])
        cost += w2 * v * v
        g[a] += w2 * v
        H[a, a] += w2
    return cost


@loose
def hands(x, b, first, size, prior, room, t, H, g):
    """Add the mixture over poses of both hands (`HandPosePrior`)."""
    cost = mixture(x, b, prior.first[0], size, prior.left, room, t, H, g)
    return cost + mixture(x, b, prior.first[1], size, prior.right, room, t, H, g)


@loose
def limit_hand(x, b, first, weight, about, axes, limits, H, g):
    """Add the limits of one hand's joints along their axes (15, 3, 3), and return their cost.

    first: the first column of the hand's pose, which is about `about` (45,). limits: (15, 3, 2).
    """
    cost, w2 = 0.0, weight * weight
    for j in range(len(axes)):
        at = first + 3 * j
        for axis in range(3):
            along = 0.0
            for c in range(3):
                along += axes[j, axis, c] * (np.float64(x[b, at + c]) + about[3 * j + c])
            beyond = along - min(max(along, limits[j, axis, 0]), limits[j, axis, 1])
            if beyond == 0:
                continue
            cost += w2 * beyond * beyond
            for c in range(3):
                g[at + c] += w2 * beyond * axes[j, axis, c]
                for e in range(c + 1):
                    H[at + c, at + e] += w2 * axes[j, axis, c] * axes[j, axis, e]
    return cost


@loose
def hand_limits(x, b, first, size, prior, room, t, H, g):
    """Add the limits of finger joints along their axes (`HandLimits`)."""
    cost = 0.0
    for i in range(2):
        own = prior.about[i], prior.axes[i], prior.limits[i]
        cost += limit_hand(x, b, prior.first[i], prior.weight, own[0], own[1], own[2], H, g)
    return cost


@loose
def face(x, b, first, size, prior, room, t, H, g):
    """Add the prior of jaw and gaze (`FacePrior`)."""
    cost, w2, column, precision = 0.0, prior.weight * prior.weight, prior.column, prior.precision
    for i in range(len(column)):
        pulled = 0.0
        for j in range(len(column)):
            pulled += np.float64(precision[i, j]) * x[b, column[j]]
            if precision[i, j] != 0 and column[j] <= column[i]:
                H[column[i], column[j]] += w2 * precision[i, j]
        cost += w2 * pulled * x[b, column[i]]
        g[column[i]] += w2 * pulled
    return cost


@loose
def jaw(x, b, first, size, prior, room, t, H, g):
    """Add the range in which a jaw opens (`JawLimits`)."""
    if size == 0:
        return 0.0
    v, w2 = np.float64(x[b, first]), prior.weight * prior.weight
    beyond = v - min(max(v, prior.least), prior.most)
    if beyond != 0:
        g[first] += w2 * beyond
        H[first, first] += w2
    return w2 * beyond * beyond
