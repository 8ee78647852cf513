"""Differentiate rays by the canonical places of their samples, and by joints, in loops compiled by numba."""

from __future__ import annotations

import numpy as np

from bodyfit.fields.casting.samples import PLACE_UNIT_M
from bodyfit.fields.radiance.cell_loops import corners_with_slopes
from bodyfit.fields.radiance.train_loops import longest, march, ray_loss, sample_gradient
from bodyfit.runtime.compiled import loose

__all__ = ["curvature", "place_gradients"]


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


@loose
def curvature(first, last, ptr, place, normal, origin, points, vertex, warp, owner_ptr, owner, owner_share, joints,
              backgrounds, cameras, low, tables, dims, starts, sizes, values, light, gains, offsets, opaque,
              mask_weight, normals):  # fmt: skip
    """Add the Gauss-Newton matrix of the loss of rays by rotations of joints and a translation of the body.

    Job j has the j-th part of the rays and adds to `normals` (J, D, D), D = 3 times the joints and 3. A rotation w, of
    axes of the parameters, about joint k moves a place x of vertex v by s w x (x - joint), with s the skinning weight
    of k and of what hangs on it; the canonical place goes the other way. owner: the joints of vertex v are
    owner[owner_ptr[v] : owner_ptr[v + 1]], with the shares s. points: (N, 3) posed; warp: (V, 18) as in `PosedBody`;
    joints: (K, 3). Other arguments as in `train_loops`.
    """
    jobs, rays, size = len(normals), len(ptr) - 1, 3 * len(joints) + 3
    nodes, most = 8 * len(sizes), longest(ptr, np.arange(rays))
    rows, parts = np.empty((most, nodes), np.int64), np.empty((most, nodes))
    stored, basis, sums, slopes = np.empty((most, 12)), np.empty((most, 9)), np.empty(3), np.empty((nodes, 3))
    by, after, pulled, slope_of = np.empty((4, size)), np.empty(4), np.empty(3), np.empty((4, 3))
    used_columns = np.empty(size, np.int64)
    for job in range(first, last):
        for r in range(job * rays // jobs, (job + 1) * rays // jobs):
            used, _ = march(r, ptr, place, normal, origin, low, tables, dims, starts, sizes, values, light, opaque,
                            rows, parts, stored, basis, sums)  # fmt: skip
            by[:] = 0
            after[:] = 0
            camera = cameras[r]
            for k in range(used - 1, -1, -1):
                alpha, before = stored[k, 0], stored[k, 1]
                share, through = before * alpha, before * (1 - alpha)
                n = ptr[r] + k
                x = place[n, 0] * PLACE_UNIT_M + origin[0]
                y = place[n, 1] * PLACE_UNIT_M + origin[1]
                z = place[n, 2] * PLACE_UNIT_M + origin[2]
                corners_with_slopes(x, y, z, low, tables, dims, starts, sizes, rows[k], parts[k], slopes)
                slope_of[:] = 0
                for c in range(nodes):
                    row = rows[k, c]
                    if row >= 0:
                        for o in range(4):
                            for axis in range(3):
                                slope_of[o, axis] += slopes[c, axis] * values[row, o]
                v = vertex[n]
                for o in range(4):
                    q = 1.0
                    if o < 3:
                        q = gains[camera, o] * stored[k, 9 + o] + offsets[camera, o] - backgrounds[r, o]
                    by_logit = opaque[2] * stored[k, 2] * (through * q - after[o])
                    after[o] += share * q
                    by_albedo = 0.0
                    if o < 3:
                        albedo = stored[k, 3 + o]
                        by_albedo = gains[camera, o] * share * stored[k, 6 + o] * albedo * (1 - albedo)
                    for axis in range(3):
                        pulled[axis] = 0.0
                    for i in range(3):
                        g = by_logit * slope_of[0, i]
                        if o < 3:
                            g += by_albedo * slope_of[1 + o, i]
                        for axis in range(3):
                            pulled[axis] += warp[v, 6 + 3 * i + axis] * g
                    for e in range(owner_ptr[v], owner_ptr[v + 1]):
                        j = owner[e]
                        s = owner_share[e]
                        a, b, c0 = points[n, 0] - joints[j, 0], points[n, 1] - joints[j, 1], points[n, 2] - joints[j, 2]
                        by[o, 3 * j] += s * (pulled[1] * c0 - pulled[2] * b)
                        by[o, 3 * j + 1] += s * (pulled[2] * a - pulled[0] * c0)
                        by[o, 3 * j + 2] += s * (pulled[0] * b - pulled[1] * a)
                    for axis in range(3):
                        by[o, size - 3 + axis] -= pulled[axis]
            count = 0
            for d in range(size):
                if by[0, d] != 0 or by[1, d] != 0 or by[2, d] != 0 or by[3, d] != 0:
                    used_columns[count] = d
                    count += 1
            for i in range(count):
                p = used_columns[i]
                for j in range(i + 1):
                    q = used_columns[j]
                    total = mask_weight * by[3, p] * by[3, q]
                    for o in range(3):
                        total += by[o, p] * by[o, q] / 3
                    normals[job, p, q] += total
                    if p != q:
                        normals[job, q, p] += total
