"""Place bodies of files with a weak-perspective camera: estimate their depth from their size in the picture.

A weak-perspective camera gives the size and position of a body in the picture and no focal length. Programs place the
body tens of metres away, before a camera with a focal length of 5000 pixels. Here the camera is bodyfit's default for a
picture of unknown focal length (`default_focal_px`), which gives realistic depths.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from bodyfit.geometry.camera import default_focal_px

__all__ = ["NOTE", "from_crop", "from_picture", "rescale_depth"]

NOTE = (
    "the file has only the size of the body in the picture: it is placed as far off as it looks through a lens of "
    "53 degrees over the diagonal"
)
_CROP = (1, 1)
"""Size of a crop, which is square."""


def from_picture(camera: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 3"]:
    """Convert weak-perspective cameras (sx, sy, tx, ty) of the whole picture to translations, metres.

    They project x to sx (x + tx) in half widths and y to sy (y + ty) in half heights, so that sx / sy is the picture's
    aspect ratio.
    """
    scale_x, scale_y, x, y = camera.T
    width, height = np.ones_like(scale_x), scale_x / scale_y  # in widths
    focal = np.hypot(width, height)
    return np.stack([x, y, 2 * focal / scale_x], 1)


def from_crop(camera: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3"]:
    """Convert weak-perspective cameras (s, tx, ty) of a square crop to translations, metres.

    They project x to s (x + tx) in half widths of the crop, which is treated as the whole picture.
    """
    scale, x, y = camera.T
    return np.stack([x, y, 2 * default_focal_px(_CROP) / scale], 1)


def rescale_depth(
    trans: Float[np.ndarray, "T 3"], focal: float, sizes: Float[np.ndarray, "T 2"] | None
) -> Float[np.ndarray, "T 3"]:
    """Scale depths from a camera of a focal length to the default camera, keeping the size in the picture.

    focal: in units of the picture's longer side. sizes: the pictures' sizes, in either order; None for 16:9.
    """
    longer = np.ones(len(trans)) if sizes is None else sizes.max(1)
    diagonal = np.full(len(trans), np.hypot(1, 9 / 16)) if sizes is None else np.hypot(*sizes.T)
    return trans * np.stack([np.ones(len(trans)), np.ones(len(trans)), diagonal / longer / focal], 1)
