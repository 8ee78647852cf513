"""Thin anti-aliased lines and dots with sub-pixel positions, for keypoints over photographs."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from bodyfit.skeleton import layout_edges, layout_names

__all__ = ["draw_keypoints", "draw_line"]

_COLORS = {"left": (0.20, 0.86, 0.98), "right": (1.00, 0.62, 0.20), "middle": (1.0, 1.0, 1.0)}
_LEAST_CONFIDENCE = 0.1
"""Keypoints below it are not drawn; from there to 0.6 they fade in."""


def draw_keypoints(picture: Float[np.ndarray, "H W 3"], xyc: Float[np.ndarray, "K 3"], layout: str) -> None:
    """Draw one person's keypoints and the lines between them over a picture in [0, 1], in place.

    The person's left is blue, the right orange; the less confidence, the fainter. Pixel centres lie at +0.5.
    """
    names = layout_names(layout)
    height, width = picture.shape[:2]
    radius = max(0.7, 0.0007 * math.hypot(height, width))
    xy = np.asarray(xyc[:, :2], np.float64)
    faded = np.clip((xyc[:, 2].astype(np.float64) - _LEAST_CONFIDENCE) / (0.6 - _LEAST_CONFIDENCE), 0, 1)
    alpha = np.where(np.isfinite(xyc).all(1), faded, 0.0).tolist()
    sides = [_side(name) for name in names]
    for a, b in layout_edges(layout):
        side = sides[a] if sides[a] == sides[b] else "middle"
        draw_line(picture, xy[a], xy[b], radius, _COLORS[side], 0.8 * min(alpha[a], alpha[b]))
    for point, side, opacity in zip(xy, sides, alpha, strict=True):
        draw_line(picture, point, point, 2.1 * radius, (0.08, 0.09, 0.12), 0.7 * opacity)
        draw_line(picture, point, point, 1.6 * radius, _COLORS[side], opacity)


def draw_line(
    picture: Float[np.ndarray, "H W 3"],
    start_px: Float[np.ndarray, " 2"],
    end_px: Float[np.ndarray, " 2"],
    radius_px: float,
    color: tuple[float, float, float],
    opacity: float,
) -> None:
    """Draw a line with round ends (a dot where the ends agree) over a picture in [0, 1], in place."""
    if opacity <= 0:
        return
    height, width = picture.shape[:2]
    most = 4.0 * max(height, width)  # beyond it an end is a detector's blunder, and floats would lose the line
    if max(np.abs(start_px).max(), np.abs(end_px).max()) > most:
        return
    pad = radius_px + 1
    x0, y0 = (max(math.floor(v), 0) for v in np.minimum(start_px, end_px) - pad)
    x1, y1 = np.maximum(start_px, end_px) + pad
    x1, y1 = min(math.ceil(x1), width), min(math.ceil(y1), height)
    if x1 <= x0 or y1 <= y0:
        return
    x = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - start_px[0])
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + np.float32(0.5 - start_px[1])
    dx, dy = (np.float32(v) for v in end_px - start_px)
    along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, np.float32(1e-12)), 0, 1)
    distance = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2)
    coverage = opacity * np.clip(radius_px + 0.5 - distance, 0, 1)[..., None]
    under = picture[y0:y1, x0:x1]
    under += coverage * (np.asarray(color, np.float32) - under)


def _side(name: str) -> str:
    return next((side for side in ("left", "right") if name.startswith(side) or name.endswith(f"_{side}")), "middle")
