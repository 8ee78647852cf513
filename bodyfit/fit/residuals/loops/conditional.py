"""Compiled kernels of the conditional pose prior; the equations are those of `conditional` and `conditional_root`."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["conditional", "conditional_root"]


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


@loose
def conditional_root(x, b, first, size, prior, room, t, H, g):
    """Add the Student distribution of the root's orientation of person b to H (lower triangle) and g; return the cost.

    Arguments: those of `conditional`; first: first column of the orientation.
    """
    w2, freedom = prior.weight * prior.weight * np.float64(prior.share[b]), prior.freedom
    half = 0.5 * (freedom + 3)
    a2 = x[b, first] * x[b, first] + x[b, first + 1] * x[b, first + 1] + x[b, first + 2] * x[b, first + 2]
    angle = math.sqrt(a2)
    k, slope = 0.5 - a2 / 48, -1 / 24 + a2 / 960
    if a2 >= 1e-6:
        k = math.sin(0.5 * angle) / angle
        slope = (0.5 * math.cos(0.5 * angle) - k) / a2
    w = math.cos(0.5 * angle)
    near = np.float64(prior.expected[b, 3]) * w
    for i in range(3):
        near += np.float64(prior.expected[b, i]) * k * x[b, first + i]
    sign = 2.0 if near >= 0 else -2.0
    # Columns 0 to 2 of room: the Jacobian of the difference, row by row; t: the difference.
    for r in range(3):
        p, q = (r + 1) % 3, (r + 2) % 3
        u_p, u_q = np.float64(prior.expected[b, p]), np.float64(prior.expected[b, q])
        u_r, s = np.float64(prior.expected[b, r]), np.float64(prior.expected[b, 3])
        x_r, x_p, x_q = x[b, first + r], x[b, first + p], x[b, first + q]
        t[r] = sign * (s * k * x_r - w * u_r - k * (u_p * x_q - u_q * x_p))
        for c in range(3):
            x_c = x[b, first + c]
            by = s * slope * x_r * x_c + 0.5 * u_r * k * x_c - slope * (u_p * x_q - u_q * x_p) * x_c
            if c == r:
                by += s * k
            elif c == q:
                by -= u_p * k
            else:
                by += u_q * k
            room[3 * r + c] = sign * by
    # In place: L^T times both.
    m = 0.0
    for i in range(3):
        white = 0.0
        for r in range(i, 3):
            white += np.float64(prior.factor[b, r, i]) * t[r]
        t[i] = white  # rows before i are not read again
        m += white * white
        for c in range(3):
            value = 0.0
            for r in range(i, 3):
                value += np.float64(prior.factor[b, r, i]) * room[3 * r + c]
            room[3 * i + c] = value
    share = w2 * half / (freedom + m)
    for r in range(3):
        for i in range(3):
            g[first + r] += share * room[3 * i + r] * t[i]
        for c in range(r + 1):
            value = 0.0
            for i in range(3):
                value += room[3 * i + r] * room[3 * i + c]
            H[first + r, first + c] += share * value
    return w2 * half * math.log1p(m / freedom)
