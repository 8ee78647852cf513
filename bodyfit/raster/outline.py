"""Trace the outline of a mask: points on its edge to a fraction of a pixel, with the directions out of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

__all__ = ["PER_STEP", "Outline", "crossings", "pixels_across", "reach_px", "trace"]

PER_STEP = 4 / np.pi
"""Mean number of points of an outline for each step of its grid along it, over all directions."""
_MOST_PX = 400
"""A longer mask is reduced: an outline to a quarter of a per cent of the height is finer than any network's."""
_SMOOTH_PX = 0.8
"""Deviation of the smoothing that rounds the steps of a mask that is black and white."""
_SLOPE_PX = 1.6
"""Deviation of the smoothing for the directions out of the mask."""
_BORDER = 2.0
"""Edges within so many (reduced) pixels of the picture's border or of unknown pixels may be theirs."""


@dataclass(frozen=True, eq=False)
class Outline:
    """Points on the edge of a mask."""

    xy_px: Float[np.ndarray, "E 2"]
    """Pixels of the picture (pixel centres at +0.5)."""
    normal: Float[np.ndarray, "E 2"]
    """Unit directions out of the mask."""
    certain: Bool[np.ndarray, "E"]
    """Whether the mask ends there for sure, and is not cut by the picture's border or by pixels that are unknown."""
    step_px: float
    """Distance of neighbouring points, about."""

    def __len__(self) -> int:
        return len(self.xy_px)

    def scaled(self, scale: float) -> Outline:
        """Return the outline for a picture resized by `scale`."""
        return replace(self, xy_px=scale * self.xy_px, step_px=scale * self.step_px)

    def thinned(self, most: int) -> Outline:
        """Return no more than so many of the points, in little memory."""
        every = max(1, -(-len(self) // most))
        xy, normal = (values[::every].astype(np.float32) for values in (self.xy_px, self.normal))
        return Outline(xy, normal, self.certain[::every], every * self.step_px)


def trace(
    alpha: UInt8[np.ndarray, "h w"],
    corner_px: tuple[int, int],
    picture_px: tuple[int, int],
    unknown: Bool[np.ndarray, "h w"] | None = None,
) -> Outline:
    """Trace where a mask (0 to 255), which lies at `corner_px` in a picture of some size, crosses one half.

    unknown: pixels of which nothing is known, such as those of people before it.
    """
    import cv2

    inside = np.argwhere(alpha >= 128)
    if len(inside) == 0:
        nothing = np.zeros((0, 2))
        return Outline(nothing, nothing, np.zeros(0, bool), 1.0)
    step = max(1, -(-int(np.ptp(inside, 0).max() + 1) // _MOST_PX))
    margin = 3 * step
    top, left = (inside.min(0) - margin).tolist()
    bottom, right = (inside.max(0) + 1 + margin).tolist()
    height, width = -(-(bottom - top) // step), -(-(right - left) // step)
    values = _reduced(_window(alpha, top, left, height * step, width * step), step) / 255
    values = cv2.GaussianBlur(values, (0, 0), _SMOOTH_PX, borderType=cv2.BORDER_REPLICATE)
    xy, normal = crossings(np.asarray(values, np.float32) - np.float32(0.5))
    origin = np.array((left + corner_px[0], top + corner_px[1]), float)
    xy_px = origin + step * xy
    reach = _BORDER * step
    certain = np.all((xy_px > reach) & (xy_px < np.array(picture_px) - reach), axis=1)
    if unknown is not None and unknown.any():
        blocked = _reduced(_window(unknown.astype(np.uint8), top, left, height * step, width * step), step) > 0
        size = 2 * round(_BORDER + _SMOOTH_PX) + 1
        near = cv2.dilate(blocked.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
        column, row = np.clip(xy.astype(int), 0, (width - 1, height - 1)).T
        certain &= ~near[row, column]
    return Outline(xy_px, normal, certain, float(step))


def _window(values: UInt8[np.ndarray, "h w"], top: int, left: int, height: int, width: int) -> np.ndarray:
    """Cut a window, 0 where it reaches beyond."""
    out = np.zeros((height, width), values.dtype)
    y0, x0 = max(top, 0), max(left, 0)
    part = values[y0 : max(top + height, 0), x0 : max(left + width, 0)]
    out[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    return out


def _reduced(values: np.ndarray, step: int) -> Float[np.ndarray, "h w"]:
    """Average blocks of step x step pixels."""
    h, w = values.shape
    return values.reshape(h // step, step, w // step, step).mean((1, 3), dtype=np.float32)


def crossings(values: Float32[np.ndarray, "h w"]) -> tuple[Float[np.ndarray, "E 2"], Float[np.ndarray, "E 2"]]:
    """Find where values change sign between neighbours, pixels, and the unit direction in which they fall."""
    import cv2

    # The steps of a mask that is black and white turn the slope of what shows where it ends.
    smooth = cv2.GaussianBlur(values, (0, 0), _SLOPE_PX, borderType=cv2.BORDER_REPLICATE)
    down, right = (np.asarray(slope) for slope in np.gradient(np.asarray(smooth, np.float64)))
    found, slopes = [], []
    for axis in (0, 1):
        a, b = (values[:-1], values[1:]) if axis == 0 else (values[:, :-1], values[:, 1:])
        row, column = np.nonzero((a >= 0) != (b >= 0))
        t = a[row, column] / (a[row, column] - b[row, column]).astype(np.float64)
        at = np.stack([column + 0.5, row + 0.5], 1).astype(np.float64)
        at[:, 1 - axis] += t
        next_row, next_column = row + (axis == 0), column + (axis == 1)
        slope = np.stack([right[row, column], down[row, column]], 1) * (1 - t)[:, None]
        slope += np.stack([right[next_row, next_column], down[next_row, next_column]], 1) * t[:, None]
        found.append(at)
        slopes.append(-slope)
    normal = np.concatenate(slopes)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    keep = length[:, 0] > 1e-6
    return np.concatenate(found)[keep], (normal / np.maximum(length, 1e-9))[keep]


def reach_px(inside: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Return the distance of pixel centres to the edge of a mask, positive inside, pixels.

    The picture's border is no edge.
    """
    across = pixels_across(np.pad(inside, 2, mode="edge"))[2:-2, 2:-2]
    return across - np.copysign(np.float32(0.5), across)


def pixels_across(inside: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Return the distance of pixels to the nearest one on the other side of a mask's edge, positive inside."""
    import cv2

    whole = inside.astype(np.uint8)
    far = [cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (whole, 1 - whole)]
    return np.asarray(far[0] - far[1], np.float32)
