"""Textures as pyramids of ever smaller pictures, and the level that each face takes its texels from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

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
    first: Int[np.ndarray, "T"]
    """Each texture's finest level, as a row of `sheets`."""
    level: Float[np.ndarray, "G"]
    """Each face's row of `sheets`, between two of which the texels are mixed."""
    last: Int[np.ndarray, "T"]
    """Each texture's coarsest level."""


def pyramids(
    images: Sequence[UInt8[np.ndarray, "_ _ _"]],
    texture_ids: Int[np.ndarray, "G"],
    uv: Float[np.ndarray, "G 3 2"],
    corners_px: Float[np.ndarray, "G 3 2"],
) -> Pyramids:
    """Build the levels of textures that faces need in a picture, where their corners are at `corners_px`."""
    scale = np.array([image.shape[1] * image.shape[0] for image in images], np.float64)[texture_ids]
    texels_px = _areas(uv) * scale / np.maximum(_areas(corners_px), 1e-4)
    wanted = np.maximum(0.5 * np.log2(np.maximum(texels_px, 1e-6)) - _SHARPEN, 0)
    parts, sheets, start = [], [], 0
    first, last = np.zeros(len(images), np.int64), np.zeros(len(images), np.int64)
    level = np.zeros(len(uv), np.float32)
    order = np.argsort(texture_ids, kind="stable")
    bounds = np.searchsorted(texture_ids[order], np.arange(len(images) + 1))
    for t, image in enumerate(images):
        mine = order[bounds[t] : bounds[t + 1]]
        low = int(np.quantile(wanted[mine], 0.02)) if len(mine) else 0
        first[t] = len(sheets)
        for picture in _levels(image, low, float(wanted[mine].max(initial=0.0))):
            sheets.append((start, *picture.shape[:2]))
            parts.append(picture.reshape(-1, 4))
            start += len(parts[-1])
        last[t] = len(sheets) - 1
        level[mine] = np.clip(first[t] + wanted[mine] - low, first[t], last[t])
    return Pyramids(np.concatenate(parts), np.array(sheets, np.int64), first, level, last)


def _levels(image: UInt8[np.ndarray, "H W C"], low: int, high: float) -> list[UInt8[np.ndarray, "_ _ 4"]]:
    """Halve a picture `low` times, then keep it and each half of the half up to level `high`, as RGBA."""
    picture = image
    height, width = picture.shape[:2]
    out = []
    for k in range(low, int(np.ceil(high)) + 1):
        size = max(width >> k, _SMALLEST), max(height >> k, _SMALLEST)
        if size != picture.shape[1::-1]:
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        rgba = picture if picture.shape[2] == 4 else cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
        out.append(np.ascontiguousarray(rgba))
        if min(size) <= _SMALLEST:
            break
    return out


def _areas(triangles: Float[np.ndarray, "G 3 2"]) -> Float[np.ndarray, "G"]:
    """Return twice the areas of triangles."""
    u, v = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
