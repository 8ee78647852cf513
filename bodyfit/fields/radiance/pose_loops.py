"""Differentiate the loss of rays by the canonical places of their samples, in loops compiled by numba."""

from __future__ import annotations

import numpy as np

from bodyfit.fields.casting.samples import PLACE_UNIT_M
from bodyfit.fields.radiance.cell_loops import corners_with_slopes
from bodyfit.fields.radiance.train_loops import longest, march, ray_loss, sample_gradient
from bodyfit.runtime.compiled import loose

__all__ = ["place_gradients"]


@loose
def place_gradients(first, last, ptr, place, normal, origin, colors, masks, cameras, backgrounds, low, tables, dims,
                    starts, sizes, values, light, gains, offsets, opaque, weights_of, by_place, losses):  # fmt: skip
    """Write the derivatives of the loss of rays first to last - 1 by their samples' places to `by_place` (N, 3).

    Arguments as in `train_loops`; backgrounds: (R, 3); by_place: zeros before; losses: (R,). Normals stay.
    """
    nodes, most = 8 * len(sizes), longest(ptr, np.arange(first, last))
    rows, parts = np.empty((most, nodes), np.int64), np.empty((most, nodes))
    stored, basis, sums, pulled = np.empty((most, 12)), np.empty((most, 9)), np.empty(3), np.empty(3)
    slopes = np.empty((nodes, 3))
    for r in range(first, last):
        used, through = march(r, ptr, place, normal, origin, low, tables, dims, starts, sizes, values, light, opaque,
                              rows, parts, stored, basis, sums)  # fmt: skip
        losses[r], by_opacity = ray_loss(sums, through, colors[r], masks[r] / 255.0, gains[cameras[r]],
                                         offsets[cameras[r]], backgrounds[r], weights_of, pulled)  # fmt: skip
        after = 0.0
        for k in range(used - 1, -1, -1):
            by_logit, g0, g1, g2, after = sample_gradient(stored, k, opaque[2], pulled, by_opacity, after)
            n = ptr[r] + k
            x = place[n, 0] * PLACE_UNIT_M + origin[0]
            y = place[n, 1] * PLACE_UNIT_M + origin[1]
            z = place[n, 2] * PLACE_UNIT_M + origin[2]
            corners_with_slopes(x, y, z, low, tables, dims, starts, sizes, rows[k], parts[k], slopes)
            for c in range(nodes):
                row = rows[k, c]
                if row >= 0:
                    g = by_logit * values[row, 0] + g0 * values[row, 1] + g1 * values[row, 2] + g2 * values[row, 3]
                    for axis in range(3):
                        by_place[n, axis] += slopes[c, axis] * g
