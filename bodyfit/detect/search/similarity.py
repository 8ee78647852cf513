"""How alike two sets of COCO's 17 keypoints are, and what of MediaPipe's 33 they correspond to."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from bodyfit import keypoints
from bodyfit.skeleton import layout_names

__all__ = ["COCO_ROWS", "HEAD_AND_SHOULDERS", "as_coco", "closeness", "oks"]

COCO_ROWS = np.array([layout_names("mediapipe33").index(name) for name in layout_names("coco17")])
"""The rows of MediaPipe's 33 landmarks that are COCO's 17."""

EVERYTHING = slice(None)
HEAD_AND_SHOULDERS = slice(0, 7)
"""The rows of COCO's keypoints from the nose to the shoulders."""

# Standard deviations of COCO's annotators, in parts of the square root of the person's area (cocodataset.org,
# "keypoint evaluation"): nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
_SIGMA = np.repeat((0.026, 0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089), (1, 2, 2, 2, 2, 2, 2, 2, 2))
_SCALE = 0.45
"""Square root of the area in parts of the longer side of the box: people fill about half of boxes 2.5 times as high as
wide."""
_MIN_CONFIDENCE = 0.1
"""Below this confidence a keypoint is not compared."""


def as_coco(xyc: Float[np.ndarray, "33 3"]) -> Float[np.ndarray, "17 3"]:
    """The 17 of MediaPipe's landmarks that COCO has."""
    return xyc[COCO_ROWS]


def closeness(a: Float[np.ndarray, "17 3"], b: Float[np.ndarray, "17 3"], height_px: float) -> Float[np.ndarray, "17"]:
    """For each keypoint how close the two are in COCO's measure: 1 on each other, 0 far apart."""
    return keypoints.closeness(a[:, :2], b[:, :2], 2 * _SIGMA * _SCALE * height_px)


def oks(
    a: Float[np.ndarray, "17 3"], b: Float[np.ndarray, "17 3"], height_px: float, *, of: slice = EVERYTHING
) -> float:
    """COCO's object keypoint similarity over what both see, in [0, 1]; 0 where that is fewer than three points."""
    both = (_is_confident(a) & _is_confident(b))[of]
    return float(closeness(a, b, height_px)[of][both].mean()) if both.sum() >= 3 else 0.0


def _is_confident(xyc: Float[np.ndarray, "17 3"]) -> Bool[np.ndarray, "17"]:
    return xyc[:, 2] > _MIN_CONFIDENCE
