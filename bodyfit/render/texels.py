"""Textures as pyramids of ever smaller pictures, and the level that each face takes its texels from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

__all__ = ["Pyramids", "pyramids"]

_SMALLEST = 2
"""Levels end at this many pixels on the shorter side."""
_SHARPEN = 0.3
"""Levels are chosen so much finer than texels the size of pixels: eight samples a pixel filter what is left."""


@dataclass(frozen=True)
class Pyramids:
    """All texels that a picture needs."""

    texels: UInt8[np.ndarray, "N 4"]
    """RGBA of all levels of all textures, row by row, a level after the other."""
    sheets: Int[np.ndarray, "L 3"]
    """First texel, height and width of each level."""
    level: Float[np.ndarray, "G"]
    """Each face's row of `sheets`, between two of which the texels are mixed."""


def pyramids(
    images: Sequence[UInt8[np.ndarray, "_ _ _"]],
    bounds: Sequence[int],
    uv: tuple[Float[np.ndarray, "C 2"], Int[np.ndarray, "G 3"]],
    drawn: tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "G 3"]],
    seen: Bool[np.ndarray, "V"],
) -> Pyramids:
    """Build the levels of textures that faces need in a picture.

    Texture t is that of the faces `bounds[t]` to `bounds[t + 1]`. uv: texture coordinates, and the rows of each face.
    drawn: vertices (x px, y px and what is not looked at), and the faces. seen: vertices of faces that show; textures
    of which nothing shows get no texels.
    """
    from bodyfit.render.dressed_loops import texel_areas

    texels_px = np.empty(len(drawn[1]))
    for image, begin, end in zip(images, bounds[:-1], bounds[1:], strict=True):
        mine, size = slice(begin, end), float(image.shape[1] * image.shape[0])
        texel_areas(drawn[0], drawn[1][mine], uv[0], uv[1][mine], size, texels_px[mine])
    finer = np.maximum(0.5 * np.log2(np.maximum(texels_px, 1e-6)) - _SHARPEN, 0)
    level = np.zeros(len(finer), np.float32)
    sheets, start, jobs = [], 0, []
    for image, begin, end in zip(images, bounds[:-1], bounds[1:], strict=True):
        mine = finer[begin:end]
        low = int(_quantile(mine, 0.02)) if len(mine) else 0
        first, sizes = len(sheets), _sizes(image, low, float(mine.max(initial=0.0)))
        level[begin:end] = np.clip(first + mine - low, first, first + len(sizes) - 1)
        shows = bool(seen[drawn[1][begin:end]].any())
        for width, height in sizes:
            sheets.append((start if shows else 0, height, width))
            start += height * width if shows else 0
        if shows:
            jobs.append((image, slice(first, len(sheets))))
    texels = np.empty((start, 4), np.uint8)
    for image, rows in jobs:
        for at, height, width in sheets[rows]:
            image = _scaled(image, texels[at : at + height * width].reshape(height, width, 4))
    return Pyramids(texels, np.array(sheets, np.int64), level)


def _quantile(values: Float[np.ndarray, "N"], part: float) -> float:
    """The least value that `part` of all do not exceed, linear between two; numpy's takes five times as long."""
    at = part * (len(values) - 1)
    low = int(at)
    high = min(low + 1, len(values) - 1)
    below, above = np.partition(values, (low, high))[[low, high]].tolist()
    return below + (at - low) * (above - below)


def _sizes(image: UInt8[np.ndarray, "H W C"], low: int, high: float) -> list[tuple[int, int]]:
    """Width and height of a picture that is halved `low` times, and then up to level `high`."""
    height, width = image.shape[:2]
    out = []
    for k in range(low, int(np.ceil(high)) + 1):
        out.append((max(width >> k, _SMALLEST), max(height >> k, _SMALLEST)))
        if min(out[-1]) <= _SMALLEST:
            break
    return out


def _scaled(image: UInt8[np.ndarray, "H W C"], out: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w C"]:
    """Scale a picture to the size of `out`, and write it there as RGBA; returns it with the channels that it had."""
    size = (out.shape[1], out.shape[0])
    if image.shape[2] == 4:
        if size == image.shape[1::-1]:
            out[:] = image
        else:
            cv2.resize(image, size, dst=out, interpolation=cv2.INTER_AREA)
        return out
    scaled = image if size == image.shape[1::-1] else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cv2.cvtColor(scaled, cv2.COLOR_RGB2RGBA, dst=out)
    return scaled
