"""Close-ups: people whose hips are not seen, and what the head and shoulders say of where the rest is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float

from bodyfit.detect.regions import Roi
from bodyfit.skeleton import layout_names

__all__ = ["UNSEEN", "close_up", "connected", "extent_px", "head_region"]

_COCO = layout_names("coco17")
_HEAD = slice(0, 5)
_EYES, _EARS, _SHOULDERS, _HIPS, _KNEES, _ANKLES = (
    [_COCO.index(f"{side}_{part}") for side in ("left", "right")]
    for part in ("eye", "ear", "shoulder", "hip", "knee", "ankle")
)
UNSEEN = 0.1
"""MoveNet gives hips below this that are not in the picture, 0.05 at most in 40 close-ups; hidden ones have 0.2."""
_SURE = 0.3
_SPREAD_M = 0.05
"""Root mean square distance of nose, eyes and ears from their middle in the picture, whichever way the head looks."""
_TO_HIPS_M, _SIDE_M = 0.73, 2.2
"""From the eyes to the hips, and the side of the square that the landmark network expects, of an adult."""
_EXTENT_M = 0.8
"""What is compared of a close-up, the crown to the elbows."""


def close_up(xyc: Float[np.ndarray, "17 3"]) -> bool:
    """Whether MoveNet sees no hip, and nothing below."""
    return bool(xyc[_HIPS, 2].max() < UNSEEN and xyc[[*_KNEES, *_ANKLES], 2].max() < _SURE)


def head_region(xyc: Float[np.ndarray, "17 3"]) -> Roi | None:
    """The square about a person whose head is seen and nothing from the hips down; None for everybody else."""
    if not _shows_head_alone(xyc):
        return None
    middle, px_per_m = _head(xyc)
    down = _down(xyc, middle)
    x, y = middle + _TO_HIPS_M * px_per_m * down
    return Roi(float(x), float(y), max(16.0, _SIDE_M * px_per_m), float(np.arctan2(-down[0], down[1])))


def extent_px(xyc: Float[np.ndarray, "17 3"]) -> float | None:
    """The size, pixels, that the head tells of what a close-up shows; None for everybody else.

    The box about a close-up's keypoints tells of the picture's edges, and of guesses.
    """
    return _EXTENT_M * _head(xyc)[1] if _shows_head_alone(xyc) else None


def _shows_head_alone(xyc: Float[np.ndarray, "17 3"]) -> bool:
    """Whether a close-up shows three points of the head."""
    return close_up(xyc) and bool((xyc[_HEAD, 2] >= _SURE).sum() >= 3)


def _head(xyc: Float[np.ndarray, "17 3"]) -> tuple[Float[np.ndarray, "2"], float]:
    """The middle of the head, and pixels a metre there."""
    head = xyc[_HEAD, :2]
    middle = head.mean(0)
    return middle, float(np.sqrt(((head - middle) ** 2).sum(1).mean())) / _SPREAD_M


def _down(xyc: Float[np.ndarray, "17 3"], middle: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """The way down the body in the picture: to the shoulders, else square to eyes and ears, else straight down."""
    if xyc[_SHOULDERS, 2].min() >= _SURE:
        down = xyc[_SHOULDERS, :2].mean(0) - middle
    else:
        left, right = np.transpose((_EYES, _EARS))
        across = (xyc[left, :2] - xyc[right, :2]).sum(0)
        down = np.array((-across[1], across[0]))
        down = -down if down[1] < 0 else down
    length = float(np.hypot(*down))
    return down / length if length > 0 else np.array((0.0, 1.0))


def connected(xyc: Float[np.ndarray, "17 3"]) -> Float[np.ndarray, "17 3"]:
    """The keypoints without those of limbs that hang on nothing: a wrist on a face with neither elbow nor shoulder."""
    trimmed = xyc.copy()
    for chain in (("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")):
        for side in ("left", "right"):
            rows = [_COCO.index(f"{side}_{part}") for part in chain]
            for above, below in pairwise(rows):
                if trimmed[above, 2] < UNSEEN:
                    trimmed[below, 2] = 0
    return trimmed
