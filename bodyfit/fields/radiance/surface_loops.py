"""Find where rays meet a surface field, and pull losses of depth and masks back to its values, compiled by numba."""

from __future__ import annotations

import math

import numpy as np

from bodyfit.fields.casting.samples import PLACE_UNIT_M
from bodyfit.fields.radiance.cell_loops import corners
from bodyfit.fields.radiance.train_loops import longest
from bodyfit.runtime.compiled import loose

__all__ = ["meet"]

_LEAST_SLOPE = 1.0
"""Smallest slope of the field along a ray by which a depth is divided, 1/m: grazing rays say little."""


@loose
def meet(first, last, batch, ptr, place, t, origin, masks, depths, low, tables, dims, starts, sizes, values, weights_of,
         gap, grads, losses, met_at):  # fmt: skip
    """Add the gradients of a batch's rays; job j has the j-th part of them. Writes the depths to `met_at` (B,).

    t: (N,) distance of each sample along its ray; depths: (R,) along the ray, NaN where unknown; values: (R, 1), the
    field, positive inside; gap: longest distance of samples between which a surface can lie, metres; weights_of: (3,)
    of |depth error| per metre, of free space, of occupancy. grads: (J, R, 1); met_at: NaN where nothing is met.

    The surface is at the first change of sign, between samples k - 1 and k by the secant, and its depth has the
    derivative -(df/dt)^-1 df/dvalues there (Niemeyer et al. 2020, eq. 10), for this discrete field exactly.
    """
    jobs, nodes, most = len(grads), 8 * len(sizes), longest(ptr, batch)
    rows, parts = np.empty((most, nodes), np.int64), np.empty((most, nodes))
    f, by_f = np.empty(most), np.empty(most)
    for job in range(first, last):
        for b in range(job * len(batch) // jobs, (job + 1) * len(batch) // jobs):
            r = batch[b]
            begin, count = ptr[r], ptr[r + 1] - ptr[r]
            met, best = -1, 0
            by_f[:count] = 0
            for k in range(count):
                n = begin + k
                x = place[n, 0] * PLACE_UNIT_M + origin[0]
                y = place[n, 1] * PLACE_UNIT_M + origin[1]
                z = place[n, 2] * PLACE_UNIT_M + origin[2]
                corners(x, y, z, low, tables, dims, starts, sizes, rows[k], parts[k])
                f[k] = 0.0
                for c in range(nodes):
                    if rows[k, c] >= 0:
                        f[k] += parts[k, c] * values[rows[k, c], 0]
                if f[k] > f[best]:
                    best = k
                if met < 0 and k > 0 and f[k - 1] < 0 <= f[k] and t[n] - t[n - 1] <= gap:
                    met = k
            if masks[r] > 127:
                if met > 0:
                    n = begin + met
                    share = -f[met - 1] / (f[met] - f[met - 1])
                    depth = t[n - 1] + share * (t[n] - t[n - 1])
                    met_at[b] = depth
                    error = depth - depths[r]
                    if not math.isnan(error):
                        losses[job] += weights_of[0] * abs(error)
                        slope = max((f[met] - f[met - 1]) / (t[n] - t[n - 1]), _LEAST_SLOPE)
                        g = -math.copysign(weights_of[0], error) / slope
                        by_f[met - 1] += g * (1 - share)
                        by_f[met] += g * share
                elif count > 0:
                    losses[job] += weights_of[2] * math.log1p(math.exp(-f[best]))
                    by_f[best] -= weights_of[2] / (1 + math.exp(f[best]))
            elif met > 0:
                n = begin + met
                share = -f[met - 1] / (f[met] - f[met - 1])
                met_at[b] = t[n - 1] + share * (t[n] - t[n - 1])
                # Rays of the background meet nothing: their most solid sample is to be empty.
                losses[job] += weights_of[1] * math.log1p(math.exp(f[best]))
                by_f[best] += weights_of[1] / (1 + math.exp(-f[best]))
            for k in range(count):
                if by_f[k] != 0:
                    for c in range(nodes):
                        if rows[k, c] >= 0:
                            grads[job, rows[k, c], 0] += parts[k, c] * by_f[k]
