"""Draw rays through a field, pull the loss back to its values, and step with Adam, in loops compiled by numba.

Arguments that the loops share:
    ptr, place, normal: the samples of all rays, as in `RaySamples`; origin: (3,) canonical place of zero.
    low, tables, dims, starts, sizes: as in `GridArrays`.
    values: (R, 4) float32, density logit and three albedo logits of each node.
    light: (9, 3) harmonics of the light; gains, offsets: (C, 3) of each camera.
    opaque: (4,) bias of the density logit, density scale 1/m, step m, least transmittance.
"""

from __future__ import annotations

import math

import numpy as np

from bodyfit.fields.casting.samples import PLACE_UNIT_M
from bodyfit.fields.radiance.cell_loops import corners, harmonics
from bodyfit.runtime.compiled import inline, jit, loose

__all__ = ["adam", "longest", "march", "ray_loss", "sample_gradient", "smooth", "softplus", "train"]


@inline
def softplus(x):
    """Return log(1 + exp(x)) and its derivative."""
    if x > 20:
        return x, 1.0
    e = math.exp(x)
    return math.log1p(e), e / (1 + e)


@inline
def _logistic(x):
    return 1 / (1 + math.exp(-x))


@inline
def march(r, ptr, place, normal, origin, low, tables, dims, starts, sizes, values, light, opaque, rows, parts, stored,
          basis, sums):  # fmt: skip
    """Draw ray r from front to back; return the number of samples used and the transmittance that is left.

    Fills the nodes `rows` (S, 8 L) and weights `parts` of each sample, its numbers `stored` (S, 12) and harmonics
    `basis` (S, 9), and the colour `sums` (3,). The numbers are opacity, transmittance before, derivative of the density
    by its logit, albedo (3), shading (3) and colour (3).
    """
    bias, scale, step, least = opaque[0], opaque[1], opaque[2], opaque[3]
    through, k = 1.0, 0
    sums[:] = 0
    for n in range(ptr[r], ptr[r + 1]):
        x = place[n, 0] * PLACE_UNIT_M + origin[0]
        y = place[n, 1] * PLACE_UNIT_M + origin[1]
        z = place[n, 2] * PLACE_UNIT_M + origin[2]
        corners(x, y, z, low, tables, dims, starts, sizes, rows[k], parts[k])
        d = a0 = a1 = a2 = 0.0
        for c in range(rows.shape[1]):
            row = rows[k, c]
            if row >= 0:
                w = parts[k, c]
                d += w * values[row, 0]
                a0 += w * values[row, 1]
                a1 += w * values[row, 2]
                a2 += w * values[row, 3]
        density, slope = softplus(d + bias)
        alpha = 1 - math.exp(-scale * density * step)
        harmonics(normal[n, 0] / 127.0, normal[n, 1] / 127.0, normal[n, 2] / 127.0, basis[k])
        stored[k, 0], stored[k, 1], stored[k, 2] = alpha, through, scale * slope
        for c in range(3):
            shade = 0.0
            for h in range(9):
                shade += light[h, c] * basis[k, h]
            albedo = _logistic(a0 if c == 0 else a1 if c == 1 else a2)
            stored[k, 3 + c], stored[k, 6 + c], stored[k, 9 + c] = albedo, shade, albedo * shade
            sums[c] += through * alpha * albedo * shade
        through *= 1 - alpha
        k += 1
        if through < least:
            break
    return k, through


@inline
def ray_loss(sums, through, color, mask, gain, offset, behind, weights_of, pulled):
    """Return a ray's loss and its derivative by the opacity; fill `pulled` (3,) with those by the colour's sums.

    color: (3,) uint8; mask: in [0, 1]; gain, offset: (3,) of the camera; behind: (3,) the colour behind the person.
    weights_of: (3,) weight of the mask, of half-transparent rays, and 1 where pictures are cut out by their masks and
    laid over `behind`, 0 where they are as they are.
    """
    opacity = 1 - through
    loss = weights_of[0] * (opacity - mask) ** 2 + weights_of[1] * opacity * through
    by_opacity = 2 * weights_of[0] * (opacity - mask) + weights_of[1] * (1 - 2 * opacity)
    for c in range(3):
        drawn = gain[c] * sums[c] + opacity * offset[c] + through * behind[c]
        cut = weights_of[2] * (1 - mask)
        apart = drawn - ((1 - cut) * color[c] / 255.0 + cut * behind[c])
        loss += apart * apart / 3
        pulled[c] = 2 * apart / 3 * gain[c]
        by_opacity += 2 * apart / 3 * (offset[c] - behind[c])
    return loss, by_opacity


@inline
def sample_gradient(stored, k, step, pulled, by_opacity, after):
    """Return the derivatives of the loss by sample k's density logit and albedo logits, and the sum behind with it.

    With q_i = pulled . color_i + by_opacity, the logit's is step s'(g) (T_(i+1) q_i - sum_(j > i) w_j q_j).
    """
    alpha, before = stored[k, 0], stored[k, 1]
    share = before * alpha
    q = by_opacity
    for c in range(3):
        q += pulled[c] * stored[k, 9 + c]
    by_logit = step * stored[k, 2] * (before * (1 - alpha) * q - after)
    g0 = share * pulled[0] * stored[k, 6] * stored[k, 3] * (1 - stored[k, 3])
    g1 = share * pulled[1] * stored[k, 7] * stored[k, 4] * (1 - stored[k, 4])
    g2 = share * pulled[2] * stored[k, 8] * stored[k, 5] * (1 - stored[k, 5])
    return by_logit, g0, g1, g2, after + share * q


@jit
def longest(ptr, batch):
    """Return the largest number of samples of a batch's rays."""
    most = 1
    for b in range(len(batch)):
        most = max(most, ptr[batch[b] + 1] - ptr[batch[b]])
    return most


@loose
def train(first, last, batch, ptr, place, normal, origin, colors, masks, cameras, backgrounds, low, tables, dims,
          starts, sizes, values, light, gains, offsets, opaque, weights_of, grads, small, losses):  # fmt: skip
    """Add the gradients of the loss of a batch's rays; job j has the j-th part of them and its own sums.

    batch: (B,) rays. colors: (R, 3) uint8; masks: (R,) uint8, 255 for the person; cameras: (R,). backgrounds: (B, 3).
    weights_of: as in `ray_loss`. grads: (J, R, 4); small: (J, 27 + 6 C) of light,
    gains and offsets; losses: (J,).
    """
    jobs, nodes, most = len(grads), 8 * len(sizes), longest(ptr, batch)
    rows, parts = np.empty((most, nodes), np.int64), np.empty((most, nodes))
    stored, basis, sums, pulled = np.empty((most, 12)), np.empty((most, 9)), np.empty(3), np.empty(3)
    for job in range(first, last):
        grad, own = grads[job], small[job]
        for b in range(job * len(batch) // jobs, (job + 1) * len(batch) // jobs):
            r = batch[b]
            camera = cameras[r]
            used, through = march(r, ptr, place, normal, origin, low, tables, dims, starts, sizes, values, light,
                                  opaque, rows, parts, stored, basis, sums)  # fmt: skip
            loss, by_opacity = ray_loss(sums, through, colors[r], masks[r] / 255.0, gains[camera], offsets[camera],
                                        backgrounds[b], weights_of, pulled)  # fmt: skip
            losses[job] += loss
            for c in range(3):
                by_drawn = pulled[c] / gains[camera, c]
                own[27 + 6 * camera + c] += by_drawn * sums[c]
                own[30 + 6 * camera + c] += by_drawn * (1 - through)
            after = 0.0
            for k in range(used - 1, -1, -1):
                by_logit, g0, g1, g2, after = sample_gradient(stored, k, opaque[2], pulled, by_opacity, after)
                share = stored[k, 0] * stored[k, 1]
                if share > 1e-4:
                    for c in range(3):
                        by_shade = share * pulled[c] * stored[k, 3 + c]
                        for h in range(9):
                            own[3 * h + c] += by_shade * basis[k, h]
                for c in range(nodes):
                    row = rows[k, c]
                    if row >= 0:
                        w = parts[k, c]
                        grad[row, 0] += w * by_logit
                        grad[row, 1] += w * g0
                        grad[row, 2] += w * g1
                        grad[row, 3] += w * g2


@loose
def smooth(first, last, neighbours, signed, values, by_density, by_albedo, fall, grad):
    """Add the gradients of the total variation of nodes first to last - 1, and of their density logits, to `grad`.

    by_density, by_albedo: weights of |difference| (as sqrt(d^2 + 0.01)) between neighbours; fall: weight of the logits
    outside of the body, which `signed` (R,) tells.
    """
    for row in range(first, last):
        if signed[row] > 0:
            grad[row, 0] += fall
        for axis in range(3):
            other = neighbours[row, axis]
            if other < 0:
                continue
            for c in range(values.shape[1]):
                d = values[other, c] - values[row, c]
                g = (by_density if c == 0 else by_albedo) * d / math.sqrt(d * d + 0.01)
                grad[other, c] += g
                grad[row, c] -= g


@jit
def adam(first, last, values, grads, first_moment, second_moment, rates, first_decay, second_decay, first_bias,
         second_bias):  # fmt: skip
    """Step rows first to last - 1 of `values` along their summed gradients, and clear those.

    rates: (columns,). Rows whose gradient is zero stay, with their moments: most of the grid is in no ray of a batch.
    """
    jobs, _, columns = grads.shape
    for row in range(first, last):
        for c in range(columns):
            g = 0.0
            for job in range(jobs):
                g += grads[job, row, c]
                grads[job, row, c] = 0
            if g == 0:
                continue
            m = first_decay * first_moment[row, c] + (1 - first_decay) * g
            v = second_decay * second_moment[row, c] + (1 - second_decay) * g * g
            first_moment[row, c], second_moment[row, c] = m, v
            values[row, c] -= rates[c] * (m / first_bias) / (math.sqrt(v / second_bias) + 1e-12)
