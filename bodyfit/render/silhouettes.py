"""Draw masks against bodies: what is in both, in one alone, and where the mask ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from bodyfit.geometry.camera import Camera
from bodyfit.keypoints import SoftMask
from bodyfit.raster.depth import depth_map

__all__ = ["draw_silhouettes"]

_MASK_ALONE, _BODY_ALONE, _EDGE = (255, 150, 30), (40, 130, 255), (255, 255, 255)
_TINT = 0.6
_MARGIN = 0.06
"""About the people, in parts of their extent."""


def draw_silhouettes(
    image: UInt8[np.ndarray, "H W 3"],
    masks: Sequence[SoftMask],
    bodies: Sequence[Float[Tensor, "V 3"]],
    faces: Int[Tensor, "F 3"],
    cameras: Camera,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the edge of each person's mask in white, the mask alone in orange and the body alone in blue.

    bodies: vertices in camera axes, metres, of the same people, with one camera each. Returns the part of the picture
    about these people.
    """
    size = (image.shape[1], image.shape[0])
    picture = image.astype(np.float32)
    low, high = np.array(size), np.zeros(2, np.int64)
    corners = faces.cpu().numpy()
    edges = np.zeros(image.shape[:2], bool)
    for i, (mask, vertices) in enumerate(zip(masks, bodies, strict=True)):
        inside = mask.full(size) >= 128
        points = vertices.detach().cpu().to(torch.float64).numpy()
        centre = cameras.principal_point_px[i].tolist()
        body = depth_map(points, corners, float(cameras.focal_px[i]), (centre[0], centre[1]), size).faces >= 0
        for only, color in ((inside & ~body, _MASK_ALONE), (body & ~inside, _BODY_ALONE)):
            picture[only] = (1 - _TINT) * picture[only] + _TINT * np.array(color, np.float32)
        rows, columns = np.nonzero(inside | body)
        if len(rows):
            low = np.minimum(low, (columns.min(), rows.min()))
            high = np.maximum(high, (columns.max() + 1, rows.max() + 1))
        edges |= _edge(inside, max(1, round(max(size) / 1400)))
    picture[edges] = _EDGE
    if not (high > low).all():
        return image
    margin = int(_MARGIN * (high - low).max())
    (x0, y0), (x1, y1) = np.maximum(low - margin, 0), np.minimum(high + margin, size)
    return np.ascontiguousarray(picture[y0:y1, x0:x1].round().astype(np.uint8))


def _edge(inside: Bool[np.ndarray, "H W"], width: int) -> Bool[np.ndarray, "H W"]:
    """Mark the pixels at the edge of a mask."""
    import cv2

    values, kernel = inside.astype(np.uint8), np.ones((2 * width + 1,) * 2, np.uint8)
    return np.asarray(cv2.dilate(values, kernel)) != np.asarray(cv2.erode(values, kernel))
