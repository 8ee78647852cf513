"""Choose anchors and weigh them, in loops compiled by numba."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import jit

__all__ = ["farthest_points", "weigh"]


@jit
def farthest_points(points, chosen):
    """Fill `chosen` (A,) with rows of points (V, 3): the first, then always the one farthest from the chosen."""
    least = np.full(len(points), np.float32(np.inf), np.float32)
    at = 0
    for n in range(len(chosen)):
        chosen[n] = at
        x, y, z = points[at, 0], points[at, 1], points[at, 2]
        most = np.float32(-1)
        for v in range(len(points)):
            dx, dy, dz = points[v, 0] - x, points[v, 1] - y, points[v, 2] - z
            d2 = dx * dx + dy * dy + dz * dz
            if d2 < least[v]:
                least[v] = d2
            if least[v] > most:
                most, at = least[v], v


@jit
def weigh(first, last, place, vertex, origin, unit, points, near, out_anchor, out_weight):
    """Write the four nearest anchors of samples first to last - 1 and their weights, of sum 255."""
    five, squares = np.empty(5, np.int64), np.empty(5)
    for n in range(first, last):
        x, y, z = place[n, 0] * unit + origin[0], place[n, 1] * unit + origin[1], place[n, 2] * unit + origin[2]
        count = 0
        for q in range(near.shape[1]):
            a = near[vertex[n], q]
            dx, dy, dz = x - points[a, 0], y - points[a, 1], z - points[a, 2]
            d2 = dx * dx + dy * dy + dz * dz
            if count == 5 and d2 >= squares[4]:
                continue
            k = count if count < 5 else 4
            while k > 0 and squares[k - 1] > d2:
                squares[k], five[k] = squares[k - 1], five[k - 1]
                k -= 1
            squares[k], five[k] = d2, a
            count = min(count + 1, 5)
        beyond = math.sqrt(squares[4])
        total = 0.0
        for k in range(4):
            d = max(math.sqrt(squares[k]), 1e-6)
            squares[k] = ((beyond - d) / (beyond * d)) ** 2 + 1e-12
            total += squares[k]
        rest = 255
        for k in range(3, -1, -1):
            share = rest if k == 0 else min(rest, round(255 * squares[k] / total))
            out_anchor[n, k], out_weight[n, k] = five[k], share
            rest -= share
