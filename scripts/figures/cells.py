"""Cells of figures: a picture cut about a person."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from bodyfit.keypoints import Keypoints2D

__all__ = ["cell_about"]


def cell_about(picture: UInt8[np.ndarray, "H W 3"], person: Keypoints2D, size: tuple[int, int]) -> Image.Image:
    """Cut a picture about a person, a quarter larger than its keypoints' box, and resize it to (width, height)."""
    x0, y0, x1, y1 = person.box_px()
    side = 1.25 * max(y1 - y0, (x1 - x0) * size[1] / size[0])
    middle, half = ((x0 + x1) / 2, (y0 + y1) / 2), (side * size[0] / size[1] / 2, side / 2)
    box = (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1])
    return Image.fromarray(picture).transform(size, Image.Transform.EXTENT, box, Image.Resampling.BICUBIC)
