"""Add up the colours of texels over views, in loops compiled by numba; imported where they are used."""

from __future__ import annotations

import math

from bodyfit.runtime.compiled import jit

__all__ = ["add_view"]


@jit
def add_view(
    face, mix, faces, at, cosine, image, trust, nearest, per_pixel, gain, shades, power, middle, best, spread, sums,
    total, most,
):  # fmt: skip
    """Add one view's colours to texels that it sees, with the weight cosine^power times the trust in the pixel.

    face: (M,) of each texel, mix: (M, 3) its place on it; faces: (F, 3). at: (V, 3) x px, y px and depth in metres of
    the vertices; cosine: (V,) of their normals to the view. image: (H, W, 3) bytes; trust: (H, W) in [0, 1]; nearest:
    (H, W) the depth behind which places are hidden; per_pixel: what finer views count more. gain: (3,), shades: (V, 3)
    that colours are divided by. middle, spread: (M, 3) colours and a deviation; what is far off them counts less, and
    what is seen worse than `best` (M,) does; a spread of 0 for neither. sums: (M, 3); total, most: (M,) sums and maxima
    of weights.
    """
    height, width = trust.shape
    for m in range(len(face)):
        a, b, c = faces[face[m], 0], faces[face[m], 1], faces[face[m], 2]
        u, v, w = mix[m, 0], mix[m, 1], mix[m, 2]
        cos = u * cosine[a] + v * cosine[b] + w * cosine[c]
        if cos <= 0.05:
            continue
        x = u * at[a, 0] + v * at[b, 0] + w * at[c, 0]
        y = u * at[a, 1] + v * at[b, 1] + w * at[c, 1]
        column, row = math.floor(x), math.floor(y)
        if not (0 <= column < width and 0 <= row < height):
            continue
        weight = trust[row, column]
        if weight <= 0 or u * at[a, 2] + v * at[b, 2] + w * at[c, 2] > nearest[row, column]:
            continue
        weight *= cos**power * per_pixel
        x, y = min(max(x - 0.5, 0.0), width - 1.0), min(max(y - 0.5, 0.0), height - 1.0)
        x0, y0 = int(x), int(y)
        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
        fx, fy = x - x0, y - y0
        r = (1 - fy) * ((1 - fx) * image[y0, x0, 0] + fx * image[y0, x1, 0])
        r += fy * ((1 - fx) * image[y1, x0, 0] + fx * image[y1, x1, 0])
        g = (1 - fy) * ((1 - fx) * image[y0, x0, 1] + fx * image[y0, x1, 1])
        g += fy * ((1 - fx) * image[y1, x0, 1] + fx * image[y1, x1, 1])
        e = (1 - fy) * ((1 - fx) * image[y0, x0, 2] + fx * image[y0, x1, 2])
        e += fy * ((1 - fx) * image[y1, x0, 2] + fx * image[y1, x1, 2])
        r /= 255 * gain[0] * (u * shades[a, 0] + v * shades[b, 0] + w * shades[c, 0])
        g /= 255 * gain[1] * (u * shades[a, 1] + v * shades[b, 1] + w * shades[c, 1])
        e /= 255 * gain[2] * (u * shades[a, 2] + v * shades[b, 2] + w * shades[c, 2])
        most[m] = max(most[m], weight)
        if spread > 0:
            off = (r - middle[m, 0]) ** 2 + (g - middle[m, 1]) ** 2 + (e - middle[m, 2]) ** 2
            weight *= (weight / best[m]) ** 2 / (1 + off / spread**2) ** 2
        sums[m, 0] += weight * r
        sums[m, 1] += weight * g
        sums[m, 2] += weight * e
        total[m] += weight
