"""Hatching: how bodies are drawn whose fit is not to be relied on, so that nobody takes them for the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from bodyfit.geometry.camera import Camera
from bodyfit.render.maps import draw_maps
from bodyfit.render.scene import Paint

__all__ = ["hatch_bodies"]

_PERIOD, _OF_BODY, _STRIPE = 0.022, 0.06, 0.36
"""Distance of the stripes' middles, in diagonals of the picture and at most in extents of the body, and the part of it
that a stripe is wide."""
_LEFT = 0.12
"""How much of the body's colour stays between stripes."""
_INK = np.array((20.0, 23.0, 31.0))
"""Of the outline, as of keypoints."""


def hatch_bodies(
    picture: UInt8[np.ndarray, "H W 3"],
    before: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    which: Collection[int],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
) -> None:
    """Turn some of the bodies that are drawn in a picture into stripes with an outline, in place.

    `before` is the picture without any body, which shows between the stripes; `which` are places in `bodies`; bodies
    and camera are those that were drawn (vertices in camera axes, metres). What stands before them stays whole.
    """
    if not which:
        return
    person = draw_maps(bodies, faces, camera, which=("silhouette",)).person
    assert person is not None
    for index in which:
        _hatch(picture, before, person == index + 1)


def _hatch(
    picture: UInt8[np.ndarray, "H W 3"], before: UInt8[np.ndarray, "H W 3"], there: Bool[np.ndarray, "H W"]
) -> None:
    """Stripes and an outline where a body shows."""
    if not there.any():
        return
    height, width = there.shape
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0])
    period = max(5.0, min(_PERIOD * math.hypot(height, width), _OF_BODY * extent))
    line = max(1.2, 0.11 * period)
    pad = math.ceil(line) + 2
    y0, y1 = max(rows[0] - pad, 0), min(rows[-1] + pad + 1, height)
    x0, x1 = max(columns[0] - pad, 0), min(columns[-1] + pad + 1, width)
    box = (slice(y0, y1), slice(x0, x1))
    mask, drawn, under = there[box], picture[box].astype(np.float32), before[box].astype(np.float32)
    y, x = np.mgrid[y0:y1, x0:x1]
    off = np.abs((x - y) / math.sqrt(2) % period - period / 2)
    stripe = np.clip(0.5 * _STRIPE * period - off + 0.5, 0, 1)[..., None]
    kept = np.where(mask[..., None], np.maximum(stripe, _LEFT), 1.0)
    mixed = kept * drawn + (1 - kept) * under
    # Signed distance to the border: where it is within half a line, there is ink, soft at both sides.
    inside, outside = (np.asarray(distance_transform_edt(m)) for m in (mask, ~mask))
    edge = np.where(mask, inside, 1 - outside) - 0.5
    ink = np.clip(line / 2 - np.abs(edge - line / 2) + 0.5, 0, 1)[..., None]
    picture[box] = np.round(ink * _INK + (1 - ink) * mixed).astype(np.uint8)
