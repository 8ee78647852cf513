"""Draw thin anti-aliased lines and dots at sub-pixel positions: keypoints and skeletons over photographs."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.skeleton import SMPL, layout_edges, layout_names

__all__ = ["draw_keypoints", "draw_line", "draw_skeleton"]

_COLORS = {"left": (0.20, 0.86, 0.98), "right": (1.00, 0.62, 0.20), "middle": (1.0, 1.0, 1.0)}
_INK = (0.08, 0.09, 0.12)
_LEAST_CONFIDENCE = 0.1
"""Keypoints below this confidence are not drawn; from there to 0.6 they fade in."""


def draw_keypoints(picture: UInt8[np.ndarray, "H W 3"], xyc: Float[np.ndarray, "K 3"], layout: str) -> None:
    """Draw one person's keypoints and the lines between them over a picture, in place.

    The person's left is blue, the right orange; the less confidence, the fainter. Pixel centres lie at +0.5.
    """
    names = layout_names(layout)
    radius = _radius_px(picture)
    xy = np.asarray(xyc[:, :2], np.float64)
    faded = np.clip((xyc[:, 2].astype(np.float64) - _LEAST_CONFIDENCE) / (0.6 - _LEAST_CONFIDENCE), 0, 1)
    alpha = np.where(np.isfinite(xyc).all(1), faded, 0.0).tolist()
    sides = [_side(name) for name in names]
    for a, b in layout_edges(layout):
        side = sides[a] if sides[a] == sides[b] else "middle"
        draw_line(picture, xy[a], xy[b], radius, _COLORS[side], 0.8 * min(alpha[a], alpha[b]))
    for point, side, opacity in zip(xy, sides, alpha, strict=True):
        draw_line(picture, point, point, 2.1 * radius, _INK, 0.7 * opacity)
        draw_line(picture, point, point, 1.6 * radius, _COLORS[side], opacity)


def draw_skeleton(picture: UInt8[np.ndarray, "H W 3"], joints_px: Float[np.ndarray, "J 2"]) -> None:
    """Draw one body's first joints (SMPL's 24, or the 22 to the wrists) as bones over a picture, in place.

    Bones are white and joints coloured as keypoints are; joints that are not finite are left out.
    """
    xy = np.asarray(joints_px[: len(SMPL)], np.float64)
    finite = np.all(np.isfinite(xy), axis=1)
    if not finite.any():
        return
    extent = float(np.ptp(xy[finite], axis=0).max())
    radius = min(_radius_px(picture), max(0.7, 0.0045 * extent))  # thinner on small people
    bones = [(j, SMPL.parents[j]) for j in range(1, len(xy)) if finite[j] and finite[SMPL.parents[j]]]
    for scale, color, opacity in ((2.3, _INK, 0.55), (1.5, (1.0, 1.0, 1.0), 0.95)):  # all outlines below all bones
        for joint, parent in bones:
            draw_line(picture, xy[parent], xy[joint], scale * radius, color, opacity)
    for joint in np.flatnonzero(finite):
        draw_line(picture, xy[joint], xy[joint], 2.9 * radius, _INK, 0.8)
        draw_line(picture, xy[joint], xy[joint], 2.2 * radius, _COLORS[_side(SMPL.names[joint])], 1.0)


def draw_line(
    picture: UInt8[np.ndarray, "H W 3"],
    start_px: Float[np.ndarray, " 2"],
    end_px: Float[np.ndarray, " 2"],
    radius_px: float,
    color: tuple[float, float, float],
    opacity: float,
) -> None:
    """Draw a line with round ends (a dot where the ends agree) over a picture, in place; colours in [0, 1]."""
    from bodyfit.render.samples import draw_line_over

    if opacity <= 0:
        return
    limit = 4.0 * max(picture.shape[:2])  # an end farther out is a false detection
    if max(np.abs(start_px).max(), np.abs(end_px).max()) > limit:
        return
    ends = (float(v) for v in (*start_px, *end_px))
    draw_line_over(picture, *ends, float(radius_px), np.array(color), float(opacity))


def _radius_px(picture: UInt8[np.ndarray, "H W 3"]) -> float:
    """Return half the width of a thin line, in proportion to the picture's diagonal."""
    height, width = picture.shape[:2]
    return max(0.7, 0.0007 * math.hypot(height, width))


def _side(name: str) -> str:
    """Return the side, left, right or middle, that a keypoint's name says."""
    return next((side for side in ("left", "right") if name.startswith(side) or name.endswith(f"_{side}")), "middle")
