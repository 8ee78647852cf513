"""The turned square of a picture that a network sees, and the way from its pixels back to the picture's."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bodyfit.detect.regions import Box, Roi

__all__ = ["averaged", "crop", "from_picture", "to_picture", "turned"]

_MIN_PX = 8
"""Of a region of fewer pixels within the picture there is nothing to look at."""


def crop(image: UInt8[np.ndarray, "H W 3"], roi: Roi, side: int) -> Float32[np.ndarray, "1 S S 3"] | None:
    """Sample a region as a network's input of `side` by `side` pixels with values in [0, 1].

    Beyond the picture's edge its outermost pixels go on. None where fewer than 8 pixels of the region lie in it.
    """
    import cv2

    box = roi.box((image.shape[1], image.shape[0]))
    if box[2] - box[0] < _MIN_PX or box[3] - box[1] < _MIN_PX:
        return None
    part, factor = averaged(image, box, roi.size, side)
    # From the input's pixels to the part's; as in MediaPipe's graphs, no half pixels.
    linear = _turn(roi) * (roi.size / factor / side)
    start = (np.array((roi.x, roi.y)) - box[:2]) / factor - linear @ (side / 2, side / 2)
    pixels = cv2.warpPerspective(
        part,
        np.vstack([np.column_stack([linear, start]), (0, 0, 1)]),
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return pixels[None] * np.float32(1 / 255)


def to_picture(xy: Float[np.ndarray, "K 2"], roi: Roi) -> Float[np.ndarray, "K 2"]:
    """Turn places in a region, as parts of its side from its first corner, into pixels of the picture."""
    return (xy - 0.5) @ _turn(roi).T * roi.size + (roi.x, roi.y)


def from_picture(roi: Roi, side: int, corner_px: tuple[int, int] = (0, 0)) -> Float[np.ndarray, "2 3"]:
    """The affine map from pixels of the picture, counted from `corner_px`, to those of a region's `side` by `side`."""
    linear = _turn(roi).T * (side / roi.size)
    return np.column_stack([linear, side / 2 - linear @ (np.array((roi.x, roi.y)) - corner_px)])


def turned(xyz: Float[np.ndarray, "K 3"], roi: Roi) -> Float[np.ndarray, "K 3"]:
    """Turn a lift in the axes of a region (x right, y down, z away) into those of the picture."""
    return np.concatenate([xyz[:, :2] @ _turn(roi).T, xyz[:, 2:]], 1)


def averaged(
    image: UInt8[np.ndarray, "H W *C"], box: Box, size_px: float, side: int = 256
) -> tuple[UInt8[np.ndarray, "h w *C"], int]:
    """Cut a box out of the picture, averaged down, and tell of how many pixels, across and down, one is the mean.

    `size_px` is how much of the picture a network sees in an input of `side` pixels. Networks sample their input from
    single pixels, so what they would see far smaller is first averaged.
    """
    from PIL import Image

    part = _packed(image[box[1] : box[3], box[0] : box[2]])
    factor = max(1, int(size_px / (1.5 * side)))
    if factor > 1:
        part = np.ascontiguousarray(Image.fromarray(part).reduce(factor))
    return part, factor


def _packed(part: UInt8[np.ndarray, "h w *C"]) -> UInt8[np.ndarray, "h w *C"]:
    """Copy a part of a picture with its pixels in a row, which costs Pillow far more to make than numpy.

    numpy copies a mirrored picture pixel by pixel, three bytes at a time; channel by channel takes a third of that.
    """
    if part.strides[1] > 0:
        return np.ascontiguousarray(part)
    copy = np.empty(part.shape, part.dtype)
    for channel in range(3):
        copy[..., channel] = part[..., channel]
    return copy


def _turn(roi: Roi) -> Float[np.ndarray, "2 2"]:
    """The rotation from a region's axes to the picture's."""
    return np.array([[math.cos(roi.angle), -math.sin(roi.angle)], [math.sin(roi.angle), math.cos(roi.angle)]])
