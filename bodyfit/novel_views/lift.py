"""Lift the person's pixels to depth: that of the body or of its clothed surface, continued over the mask."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8

from bodyfit.novel_views.square import Body, Square

__all__ = ["DEPTH_UNIT_M", "Lifted", "Points", "lifted"]

DEPTH_UNIT_M = 0.5
"""What 1 in channels of depth stands for."""
_STEEPEST = 5.0
"""Steepest slope of one surface, depth over width: 79 degrees."""
_JUMP_M = 0.05
"""Depths in the surroundings of a pixel that differ by more belong to different limbs."""


@dataclass(frozen=True, eq=False)
class Points:
    """The person's pixels in space."""

    xyz_m: Float[np.ndarray, "N 3"]
    """Camera axes of the photograph, metres."""
    color: Float32[np.ndarray, "N 3"]
    """RGB in [0, 1]."""
    facing: Float32[np.ndarray, " N"]
    """Cosine of the surface's normal to the optical axis: what was visible at a slant is spread thin elsewhere."""
    pairs: Int[np.ndarray, "M 2"]
    """Neighbouring pixels that show one surface."""


@dataclass(frozen=True, eq=False)
class Lifted:
    """A square with the depth of its person."""

    square: Square
    """The picture."""
    depth_m: Float32[np.ndarray, "S S"]
    """Depth along the optical axis, metres; good within the mask."""

    def points(self, *, erode_px: int = 1) -> Points:
        """List the person's pixels as points.

        erode_px: width of the mask's edge, which has background in it: its pixels take the colours of those within.
        """
        mask = self.square.mask.astype(np.uint8)
        rows, columns = np.nonzero(mask)
        depth = self.depth_m[rows, columns].astype(np.float64)
        color = self._inner_image(mask, erode_px)[rows, columns].astype(np.float32) / np.float32(255)
        facing = _facing(self.depth_m, self.square.focal_px[0])[rows, columns]
        xyz = self.square.unproject(rows, columns, depth)
        return Points(xyz, color, facing, _pairs(mask > 0, self.depth_m, self.square.focal_px[0]))

    def _inner_image(self, mask: UInt8[np.ndarray, "S S"], erode_px: int) -> UInt8[np.ndarray, "S S 3"]:
        inner = cv2.erode(mask, np.ones((2 * erode_px + 1,) * 2, np.uint8))  # the border counts as inside
        if erode_px < 1 or not inner.any():
            return self.square.image
        return _continued(self.square.image, inner > 0)

    def enlarged(self, square: Square) -> Lifted:
        """Give another resolution of the picture this depth, without mixing the depths of limbs before each other."""
        size = (square.side, square.side)
        if square.side == self.square.side:
            return Lifted(square, self.depth_m)
        around = np.ones((3, 3), np.uint8)
        jump = cv2.dilate(self.depth_m, around) - cv2.erode(self.depth_m, around) > _JUMP_M
        smooth = cv2.resize(self.depth_m, size, interpolation=cv2.INTER_LINEAR)
        plain = cv2.resize(self.depth_m, size, interpolation=cv2.INTER_NEAREST)
        edge = cv2.resize(jump.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        return Lifted(square, np.where(edge, plain, smooth).astype(np.float32))


def lifted(square: Square, body: Body) -> Lifted:
    """Give the person's pixels the depth of a surface, and those beside it that of its nearest pixel.

    A square without any of the surface has the depth of its pivot.
    """
    drawn = square.depth(body)
    there = drawn.faces >= 0
    if not there.any():
        return Lifted(square, np.full(there.shape, body.pivot[2], np.float32))
    return Lifted(square, _continued(np.asarray(drawn.depth_m, np.float32), there))


def _continued(values: Shaped[np.ndarray, "S S *C"], there: Bool[np.ndarray, "S S"]) -> Shaped[np.ndarray, "S S *C"]:
    """Give every pixel the value of the nearest one that is there."""
    beside = (~there).astype(np.uint8)
    _, label = cv2.distanceTransformWithLabels(beside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    label = np.asarray(label, np.int64)
    of_label = np.zeros((int(label.max()) + 1, *values.shape[2:]), values.dtype)
    of_label[label[there]] = values[there]
    return of_label[label]


def _pairs(
    mask: Bool[np.ndarray, "S S"], depth_m: Float32[np.ndarray, "S S"], focal_px: float
) -> Int[np.ndarray, "M 2"]:
    """List neighbours to the right and below, as rows of the mask's pixels, whose depths differ by a slope's worth."""
    number = np.cumsum(mask).reshape(mask.shape) - 1
    pairs = []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        step = np.abs(depth_m[one] - depth_m[other])
        there = mask[one] & mask[other] & (step < _STEEPEST * depth_m[one] / focal_px)
        pairs.append(np.stack([number[one][there], number[other][there]], 1))
    return np.concatenate(pairs)


def _facing(depth_m: Float32[np.ndarray, "S S"], focal_px: float) -> Float32[np.ndarray, "S S"]:
    """Compute the cosine of a depth map's normals to the optical axis."""
    slope_y, slope_x = np.gradient(depth_m)
    steep = (slope_x**2 + slope_y**2) * (focal_px / np.maximum(depth_m, 0.1)) ** 2
    return (1 / np.sqrt(1 + steep)).astype(np.float32)
