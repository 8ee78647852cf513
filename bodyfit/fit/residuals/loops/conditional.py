"""Compiled kernels of what is expected of a pose; the equations are those of `conditional` and `estimate`."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.runtime.compiled import loose

__all__ = ["conditional", "estimate"]


@loose
def conditional(x, b, first, size, prior, room, t, H, g):
    """Add the Student distribution of person b's orientation and joints to H (lower triangle) and g; return the cost.

    Arguments: x (B, D); first: first column of the orientation, which the body pose follows; size: number of its
    columns; prior: `ConditionalArrays`; room (D,) and t (4,): scratch.
    """
    w2, freedom, n = prior.weight * prior.weight * np.float64(prior.share[b]), prior.freedom, prior.precision.shape[1]
    if w2 == 0.0:
        return 0.0
    half, by = 0.5 * (freedom + n), np.empty((3, 3))
    turned(x, b, first, prior.orient, t, by)
    # Forces P e, in room; the errors of joints are differences.
    m = 0.0
    for r in range(n):
        value = 0.0
        for c in range(3):
            value += np.float64(prior.precision[b, r, c]) * t[c]
        for c in range(3, n):
            value += np.float64(prior.precision[b, r, c]) * (x[b, first + c] - prior.pose[b, c - 3])
        room[r] = value
        m += value * (t[r] if r < 3 else x[b, first + r] - prior.pose[b, r - 3])
    share = w2 * half / (freedom + m)
    for r in range(3):
        for i in range(3):
            g[first + r] += share * by[i, r] * room[i]
        for c in range(r + 1):
            value = 0.0
            for i in range(3):
                for k in range(3):
                    value += by[i, r] * np.float64(prior.precision[b, i, k]) * by[k, c]
            H[first + r, first + c] += share * value
    for r in range(3, n):
        g[first + r] += share * room[r]
        for c in range(3):
            value = 0.0
            for k in range(3):
                value += np.float64(prior.precision[b, r, k]) * by[k, c]
            H[first + r, first + c] += share * value
        for c in range(3, r + 1):
            H[first + r, first + c] += share * np.float64(prior.precision[b, r, c])
    return w2 * half * math.log1p(m / freedom)


@loose
def turned(x, b, first, expected, t, by):
    """Compute 2 Im(conj(q_mu) q) of person b's orientation in t, and its Jacobian by the axis-angle in by (3, 3)."""
    a2 = x[b, first] * x[b, first] + x[b, first + 1] * x[b, first + 1] + x[b, first + 2] * x[b, first + 2]
    angle = math.sqrt(a2)
    k, slope = 0.5 - a2 / 48, -1 / 24 + a2 / 960
    if a2 >= 1e-6:
        k = math.sin(0.5 * angle) / angle
        slope = (0.5 * math.cos(0.5 * angle) - k) / a2
    w, s = math.cos(0.5 * angle), np.float64(expected[b, 3])
    near = s * w
    for i in range(3):
        near += np.float64(expected[b, i]) * k * x[b, first + i]
    sign = 2.0 if near >= 0 else -2.0
    for r in range(3):
        p, q = (r + 1) % 3, (r + 2) % 3
        u_r, u_p, u_q = np.float64(expected[b, r]), np.float64(expected[b, p]), np.float64(expected[b, q])
        x_r, x_p, x_q = x[b, first + r], x[b, first + p], x[b, first + q]
        t[r] = sign * (s * k * x_r - w * u_r - k * (u_p * x_q - u_q * x_p))
        for c in range(3):
            value = (s * slope * x_r + 0.5 * u_r * k - slope * (u_p * x_q - u_q * x_p)) * x[b, first + c]
            if c == r:
                value += s * k
            elif c == q:
                value -= u_p * k
            else:
                value += u_q * k
            by[r, c] = sign * value


@loose
def estimate(x, b, pose, size, prior, room, t, H, g):
    """Add each joint's Student distribution about the estimate of person b to H (lower triangle), g; return the cost.

    Arguments: x (B, D); pose: first column of the body pose; size: number of its columns; prior: `EstimateArrays`;
    room (D,) and t (4,): scratch.
    """
    w2, freedom, cost = prior.weight * prior.weight, prior.freedom, 0.0
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
