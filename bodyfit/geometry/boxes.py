"""Boxes in pictures, x0, y0, x1, y1: about points, and assigned to each other by their overlap."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

__all__ = ["assigned_boxes", "box_about", "box_overlaps"]


def box_about(points: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "4"]:
    """Return the box about points; NaN about none."""
    return np.concatenate([points.min(0), points.max(0)]) if len(points) else np.full(4, np.nan)


def box_overlaps(a: Float[np.ndarray, "N 4"], b: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, "N M"]:
    """Compute the intersections over unions of boxes; 0 for boxes of NaN and of no area."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b))
    return np.nan_to_num(common / np.maximum(area_a[:, None] + area_b[None] - common, 1e-9))


def assigned_boxes(a: Float[np.ndarray, "N 4"], b: Float[np.ndarray, "M 4"], least: float) -> list[tuple[int, int]]:
    """Pair boxes, each once, so that the sum of overlaps is greatest; pairs that overlap by less than `least` drop out.

    An overlap is an intersection over union.
    """
    if not len(a) or not len(b):
        return []
    overlap = box_overlaps(a, b)
    pairs = zip(*linear_sum_assignment(-overlap), strict=True)
    return [(int(i), int(j)) for i, j in pairs if overlap[i, j] >= least]
