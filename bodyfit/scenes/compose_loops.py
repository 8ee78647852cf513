"""Put people over a background and develop the picture, in loops compiled by numba."""

from __future__ import annotations

import numpy as np

from bodyfit.render.samples import SRGB_OF_LINEAR
from bodyfit.runtime.compiled import jit

__all__ = ["develop", "over_background"]


@jit
def over_background(behind, shadow, rgba, left, top, out):
    """Write to `out` (S, S, 3), sRGB, a background of linear light in its shadows and a layer over it.

    behind: (S, S, 3). shadow: (S, S) the part of its light that the background keeps. rgba: (h, w, 4) premultiplied
    sRGB at column `left` and row `top`.
    """
    height, width = behind.shape[:2]
    h, w = rgba.shape[:2]
    for row in range(height):
        for column in range(width):
            for k in range(3):
                value = min(max(behind[row, column, k] * shadow[row, column], 0.0), 1.0)
                out[row, column, k] = SRGB_OF_LINEAR[int(value * 4096 + 0.5)]
            y, x = row - top, column - left
            if 0 <= y < h and 0 <= x < w and rgba[y, x, 3] > 0:
                for k in range(3):
                    out[row, column, k] = (1 - rgba[y, x, 3]) * out[row, column, k] + rgba[y, x, k]


@jit
def develop(picture, noise, offset, grain, gain, out):
    """Write bytes (S, S, C) of a picture in [0, 1] with grain of a standard deviation, then brighter by a gain.

    noise: (N,) numbers of deviation 1, of which those from `offset` on are taken, around.
    """
    height, width, channels = picture.shape
    at = offset % len(noise)
    for row in range(height):
        for column in range(width):
            for k in range(channels):
                value = gain * (picture[row, column, k] + grain * noise[at])
                out[row, column, k] = np.uint8(min(max(255 * value, 0.0), 255.0) + 0.5)
                at += 1
                if at == len(noise):
                    at = 0
