"""Hatch the bodies whose fit is poor, so that nobody mistakes them for reliable ones."""

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

_PERIOD, _MAX_PERIOD, _STRIPE = 0.022, 0.06, 0.36
"""Distance between stripe centres as a fraction of the picture's diagonal, its upper bound as a fraction of the body's
extent, and the width of a stripe as a fraction of that distance."""
_GAP_OPACITY = 0.12
"""Opacity of the body between stripes."""
_INK = np.array((20.0, 23.0, 31.0))
"""RGB of the outline, in bytes."""


def hatch_bodies(
    picture: UInt8[np.ndarray, "H W 3"],
    before: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    which: Collection[int],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
) -> None:
    """Redraw some of the bodies in a picture as stripes with an outline, in place.

    `before` is the picture without any body, which shows between the stripes; `which` are indices into `bodies`;
    `bodies` and `camera` are those that drew the picture (vertices in camera axes, metres). Bodies in front of the
    hatched ones are left as they are.
    """
    if not which:
        return
    person = draw_maps(bodies, faces, camera, which=("silhouette",)).person
    assert person is not None
    for index in which:
        _hatch(picture, before, person == index + 1)


def _hatch(
    picture: UInt8[np.ndarray, "H W 3"], before: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]
) -> None:
    """Draw stripes and an outline where `mask` is true, in place."""
    if not mask.any():
        return
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0])
    period = max(5.0, min(_PERIOD * math.hypot(height, width), _MAX_PERIOD * extent))
    line = max(1.2, 0.11 * period)
    pad = math.ceil(line) + 2
    y0, y1 = max(rows[0] - pad, 0), min(rows[-1] + pad + 1, height)
    x0, x1 = max(columns[0] - pad, 0), min(columns[-1] + pad + 1, width)
    box = (slice(y0, y1), slice(x0, x1))
    mask, foreground, background = mask[box], picture[box].astype(np.float32), before[box].astype(np.float32)
    y, x = np.mgrid[y0:y1, x0:x1]
    offset = np.abs((x - y) / math.sqrt(2) % period - period / 2)
    stripe = np.clip(0.5 * _STRIPE * period - offset + 0.5, 0, 1)[..., None]
    alpha = np.where(mask[..., None], np.maximum(stripe, _GAP_OPACITY), 1.0)
    mixed = alpha * foreground + (1 - alpha) * background
    # The outline covers pixels whose signed distance to the border is within half a line, anti-aliased at both sides.
    inside, outside = (np.asarray(distance_transform_edt(m)) for m in (mask, ~mask))
    edge = np.where(mask, inside, 1 - outside) - 0.5
    ink = np.clip(line / 2 - np.abs(edge - line / 2) + 0.5, 0, 1)[..., None]
    picture[box] = np.round(ink * _INK + (1 - ink) * mixed).astype(np.uint8)
