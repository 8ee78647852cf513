"""Draw a mask against a body: where they agree, where only one of them is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from bodyfit.errors import OptionError
from bodyfit.geometry.camera import Camera
from bodyfit.render.maps import draw_maps

__all__ = ["mask_overlay"]

_BOTH, _MASK, _BODY = (238, 238, 238), (255, 140, 0), (30, 110, 255)
"""sRGB of what is in both, in the mask alone, in the body alone."""
_STRENGTH = 0.62
_DIM = 0.55


def mask_overlay(
    image: UInt8[np.ndarray, "H W 3"],
    mask: UInt8[np.ndarray, "H W"],
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
) -> UInt8[np.ndarray, "H W 3"]:
    """Colour a photograph by a person's mask and body: grey in both, orange in the mask alone, blue in the body alone.

    mask: 0 to 255 = all of the pixel; vertices: camera axes, metres. What is in neither is darkened. Raises
    `OptionError` for a mask of another size.
    """
    if mask.shape != image.shape[:2]:
        raise OptionError(f"the mask is {mask.shape}, the picture {image.shape[:2]} (rows, columns)")
    drawn = draw_maps([(vertices, (0.5, 0.5, 0.5))], faces, camera, which=("silhouette",)).person
    assert drawn is not None
    body, person = drawn > 0, mask >= 128
    grey = image.astype(np.float32) @ np.array((0.299, 0.587, 0.114), np.float32)
    picture = np.repeat(_DIM * grey[..., None], 3, 2)
    _tint(picture, body & person, _BOTH, grey)
    _tint(picture, person & ~body, _MASK, grey)
    _tint(picture, body & ~person, _BODY, grey)
    return picture.clip(0, 255).astype(np.uint8)


def _tint(
    picture: Float[np.ndarray, "H W 3"],
    where: Bool[np.ndarray, "H W"],
    color: tuple[int, int, int],
    grey: Float[np.ndarray, "H W"],
) -> None:
    """Mix a colour into some pixels, which keep a part of their light."""
    picture[where] = _STRENGTH * np.array(color, np.float32) + (1 - _STRENGTH) * grey[where][:, None]
