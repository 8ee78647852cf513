"""Compiled kernel of measured 3D points; the equations are those of `measured`."""

from __future__ import annotations

from bodyfit.runtime.compiled import loose

__all__ = ["measure"]


@loose
def measure(b, positions, transl, arrays, force, stiffness):
    """Return the weighted cost of person b; add to force (K, 3) and stiffness (K, 6: xx, xy, xz, yy, yz, zz).

    positions (K, 3) without the translation transl (3,), metres; arrays: `MeasuredArrays`.
    """
    where, weight, factor = arrays.target_m, arrays.confidence, arrays.weight
    s2, cost = arrays.sigma * arrays.sigma, 0.0
    for k in range(len(positions)):
        w2 = (factor * weight[b, k]) ** 2
        if w2 == 0:
            continue
        i = 100 * (positions[k, 0] + transl[0] - where[b, k, 0])
        j = 100 * (positions[k, 1] + transl[1] - where[b, k, 1])
        m = 100 * (positions[k, 2] + transl[2] - where[b, k, 2])
        r2 = i * i + j * j + m * m
        ratio = s2 / (s2 + r2)
        cost += w2 * ratio * r2
        f = 100 * w2 * ratio * ratio
        force[k, 0] += f * i
        force[k, 1] += f * j
        force[k, 2] += f * m
        for d in (0, 3, 5):
            stiffness[k, d] += 100 * f
    return cost
