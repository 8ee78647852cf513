"""A hand in a region: where it lies, and its 21 landmarks with their lift, by MediaPipe's networks and onnxruntime.

What is done before and after the networks is what the graphs `HandRecropByRoiCpu` and `HandLandmarkCpu` of MediaPipe's
holistic solution do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.networks.crops import crop, to_picture, turned
from bodyfit.detect.networks.session import shipped_network
from bodyfit.detect.regions import Roi

__all__ = ["HandLook", "HandNetworks"]

_REGION_SIDE, _HAND_SIDE = 256, 224
"""Of the networks' inputs, pixels."""
_SURE = 0.5
"""The presence from which on there is a hand."""
_PALM = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]
"""The landmarks that move little with the fingers: they place the region of a second look."""


@dataclass(frozen=True)
class HandLook:
    """What the hand network says of one region."""

    xy_px: Float[np.ndarray, "21 2"]
    """Pixels of the whole picture: the wrist, then thumb, index, middle, ring and little finger, palm to tip."""
    lift_m: Float[np.ndarray, "21 3"]
    """Metres from about the middle of the hand, in the picture's axes: x right, y down, z away."""
    presence: float
    """Probability that a hand is there, above one half."""
    right: float
    """Probability that it is a right hand."""
    roi: Roi
    """The region that was looked at."""

    @property
    def next_roi(self) -> Roi:
        """The region that these landmarks suggest: twice the palm's, its fingers upwards, shifted towards them."""
        knuckles = self.xy_px[[5, 9, 13]].T @ (0.25, 0.5, 0.25)
        angle = _upright(self.xy_px[0], knuckles)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        palm = self.xy_px[_PALM] @ turn.T
        lo, hi = palm.min(0), palm.max(0)
        width, height = (hi - lo).tolist()
        centre = (0.5 * (lo + hi) - (0, 0.1 * height)) @ turn
        return Roi(float(centre[0]), float(centre[1]), 2 * max(width, height), angle)


class HandNetworks:
    """Both networks, loaded. Safe to share between threads; each run takes one."""

    def __init__(self) -> None:
        self._region = shipped_network("hand_region", 1)
        self._landmarks = shipped_network("hand_landmarks", 1)

    def region(self, image: UInt8[np.ndarray, "H W 3"], rough: Roi) -> Roi | None:
        """The region of the hand within a rough one, its fingers upwards; None outside of the picture."""
        pixels = crop(image, rough, _REGION_SIDE)
        if pixels is None:
            return None
        (ends,) = self._region.run(["ends"], {"input": pixels})
        centre, below = to_picture(ends.reshape(2, 2).astype(float) / _REGION_SIDE, rough)
        angle, size = _upright(below, centre), 2 * float(np.hypot(*(below - centre)))
        x, y = centre + np.array((math.sin(angle), -math.cos(angle))) * 0.1 * size
        return Roi(float(x), float(y), size, angle)

    def look(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> HandLook | None:
        """The landmarks of the hand in a region; None where the network sees none."""
        pixels = crop(image, roi, _HAND_SIDE)
        if pixels is None:
            return None
        points, presence, right, world = self._landmarks.run(
            ["points", "presence", "right", "world"], {"input": pixels}
        )
        if presence.item() <= _SURE:
            return None
        xy = to_picture(points.reshape(21, 3)[:, :2].astype(float) / _HAND_SIDE, roi)
        return HandLook(xy, turned(world.reshape(21, 3).astype(float), roi), presence.item(), right.item(), roi)


def _upright(low: Float[np.ndarray, "2"], high: Float[np.ndarray, "2"]) -> float:
    """The clockwise turn of a square whose upper side looks from one point towards another, radians."""
    dx, dy = (high - low).tolist()
    return math.atan2(dx, -dy)
