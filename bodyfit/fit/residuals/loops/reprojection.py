"""Compiled kernel of the reprojection error; the equations are those of `reprojection`."""

from __future__ import annotations

import numpy as np

from bodyfit.fit.residuals.reprojection import NEAR_M
from bodyfit.runtime.compiled import loose

__all__ = ["reproject"]


@loose
def _add_outer(stiffness, k, f, i, j, m):
    """Add f times the outer product of (i, j, m) to the stiffness (K, 6) of point k."""
    stiffness[k, 0] += f * i * i
    stiffness[k, 1] += f * i * j
    stiffness[k, 2] += f * i * m
    stiffness[k, 3] += f * j * j
    stiffness[k, 4] += f * j * m
    stiffness[k, 5] += f * m * m


@loose
def reproject(b, positions, transl, arrays, force, stiffness):
    """Return the weighted cost of person b; add to force (K, 3) and stiffness (K, 6: xx, xy, xz, yy, yz, zz).

    positions (K, 3) without the translation transl (3,), metres, axes of the first camera; arrays:
    `ReprojectionArrays`. The cost is infinite if a weighted point is not in front of its camera.
    """
    target, weight, scale_cm, R, t = arrays.target, arrays.confidence, arrays.scale_cm, arrays.R, arrays.t
    n_k, s2, factor, cost = len(positions), arrays.sigma * arrays.sigma, arrays.weight * arrays.weight, 0.0
    for c in range(len(R)):
        for k in range(n_k):
            n = c * n_k + k
            w2 = factor * np.float64(weight[b, n]) ** 2
            if w2 == 0:
                continue
            px, py, pz = positions[k, 0] + transl[0], positions[k, 1] + transl[1], positions[k, 2] + transl[2]
            z = R[c, 2, 0] * px + R[c, 2, 1] * py + R[c, 2, 2] * pz + t[c, 2]
            if z < NEAR_M:
                cost = np.inf
            inverse = 1 / max(z, NEAR_M)
            scale = np.float64(scale_cm[b, n if scale_cm.shape[1] > 1 else 0])
            for axis in range(2):
                v = R[c, axis, 0] * px + R[c, axis, 1] * py + R[c, axis, 2] * pz + t[c, axis]
                uv = v * inverse
                r = (uv - target[b, n, axis]) * scale
                ratio = s2 / (s2 + r * r)
                cost += w2 * ratio * r * r
                # The row by the point, in the axes of the body, without its factor.
                slope = scale * inverse
                i = slope * (R[c, axis, 0] - uv * R[c, 2, 0])
                j = slope * (R[c, axis, 1] - uv * R[c, 2, 1])
                m = slope * (R[c, axis, 2] - uv * R[c, 2, 2])
                f = w2 * ratio * ratio
                force[k, 0] += f * r * i
                force[k, 1] += f * r * j
                force[k, 2] += f * r * m
                _add_outer(stiffness, k, f, i, j, m)
    return cost
