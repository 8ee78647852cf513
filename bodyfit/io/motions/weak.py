"""Where bodies are that a file places by a weak-perspective camera alone: as far off as they are large.

Such a camera says the size and the place of a body in the picture and nothing of the focal length. Programs put the
body tens of metres off, before a camera with a focal length of 5000 pixels. Here the camera is the one that bodyfit
takes of a picture of unknown focal length (`default_focal_px`), so that bodies stand where a photographer would have
seen them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from bodyfit.geometry.camera import default_focal_px

__all__ = ["NOTE", "from_crop", "from_picture", "nearer"]

NOTE = (
    "the file has only the size of the body in the picture: it is placed as far off as it looks through a lens of "
    "53 degrees over the diagonal"
)
_CROP = (1, 1)
"""A crop is square."""


def from_picture(camera: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 3"]:
    """Translations of (sx, sy, tx, ty), which project x to sx (x + tx) in half widths of the whole picture, and y to
    sy (y + ty) in half heights: their ratio is the picture's."""
    scale_x, scale_y, x, y = camera.T
    width, height = np.ones_like(scale_x), scale_x / scale_y  # in widths
    focal = np.hypot(width, height)
    return np.stack([x, y, 2 * focal / scale_x], 1)


def from_crop(camera: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3"]:
    """Translations of (s, tx, ty), which project x to s (x + tx) in half widths of a square crop: as if that were the
    picture."""
    scale, x, y = camera.T
    return np.stack([x, y, 2 * default_focal_px(_CROP) / scale], 1)


def nearer(
    trans: Float[np.ndarray, "T 3"], focal: float, sizes: Float[np.ndarray, "T 2"] | None
) -> Float[np.ndarray, "T 3"]:
    """Translations before a camera of so long a focal length, in sides of the longer side of a picture, moved to where
    the default one sees them as large; sizes: the pictures', in either order."""
    longer = np.ones(len(trans)) if sizes is None else sizes.max(1)
    diagonal = np.full(len(trans), np.hypot(1, 9 / 16)) if sizes is None else np.hypot(*sizes.T)
    return trans * np.stack([np.ones(len(trans)), np.ones(len(trans)), diagonal / longer / focal], 1)
