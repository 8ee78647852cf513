"""What is behind a person: the photograph with the hole filled."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

__all__ = ["without_person"]

_MOST_PX = 480
"""Side at which holes are filled: what is behind a person is smooth at best."""
_EDGE = 0.008
"""Of the picture's longer side, by which the hole is wider than the mask."""
_RADIUS_PX = 4


def without_person(image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Fill the hole that a person leaves by OpenCV's inpainting (Telea 2004), at a lower resolution."""
    if not mask.any() or mask.all():
        return image.copy()
    height, width = mask.shape
    edge = max(2, round(_EDGE * max(height, width)))
    hole = cv2.dilate(mask.astype(np.uint8), np.ones((2 * edge + 1,) * 2, np.uint8))
    scale = min(_MOST_PX / max(height, width), 1.0)
    size = max(round(scale * width), 1), max(round(scale * height), 1)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small_hole = (cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    filled = cv2.inpaint(small, small_hole, _RADIUS_PX, cv2.INPAINT_TELEA)
    smooth = cv2.GaussianBlur(filled, (0, 0), 2.0)
    filled = np.where(small_hole[..., None] > 0, smooth, filled)
    whole = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), edge / 2)[..., None]
    soft = np.maximum(soft, cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))[..., None])
    return np.round(soft * whole + (1 - soft) * image).astype(np.uint8)
