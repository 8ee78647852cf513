"""One person's 33 landmarks in a region: MediaPipe's network by onnxruntime, without its graph and its mask.

What is done before and after the network is what MediaPipe's graph `PoseLandmarkByRoiCpu` does (its
`ImageToTensorCalculator`, `TensorsToLandmarksCalculator`, `RefineLandmarksFromHeatmapCalculator` and
`LandmarkProjectionCalculator`); the graph takes twice as long, for it always makes the mask as well.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bodyfit.detect.blazepose import Landmarks
from bodyfit.detect.networks.mediapipe_graph import averaged
from bodyfit.detect.networks.session import shipped_network
from bodyfit.detect.regions import Roi

__all__ = ["Landmarker"]

_SIDE = 256
"""Of the network's input, pixels."""
_REACH = 3
"""A landmark moves to the middle of the heat so many pixels about it on the 64x64 map."""
_SURE = 0.5
"""The probability from which on there is a person, and that the heat about a landmark has to reach."""


class Landmarker:
    """The network, loaded. Safe to share between threads; each run takes one."""

    def __init__(self) -> None:
        self._network = shipped_network("pose_landmarks", 1)

    def landmarks(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> Landmarks | None:
        """The landmarks of the person in a region; None where the network sees nobody there."""
        import cv2

        box = roi.box((image.shape[1], image.shape[0]))
        if box[2] - box[0] < 8 or box[3] - box[1] < 8:
            return None
        part, factor = averaged(image, box, roi.size)
        turn = np.array([[math.cos(roi.angle), -math.sin(roi.angle)], [math.sin(roi.angle), math.cos(roi.angle)]])
        centre = np.array((roi.x, roi.y))
        # From the input's pixels to the part's; as in MediaPipe's graph, no half pixels.
        linear = turn * (roi.size / factor / _SIDE)
        start = (centre - box[:2]) / factor - linear @ (_SIDE / 2, _SIDE / 2)
        seen = cv2.warpPerspective(
            part,
            np.vstack([np.column_stack([linear, start]), (0, 0, 1)]),
            (_SIDE, _SIDE),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        names = ["points", "presence", "heat", "world"]
        points, presence, heat, world = self._network.run(names, {"input": seen[None] * np.float32(1 / 255)})
        if presence.item() <= _SURE:
            return None
        points = points.reshape(39, 5)
        xy = _refined(points[:, :2] / _SIDE, heat[0])
        to_picture = (xy - 0.5) @ turn.T * roi.size + centre
        sure = 1 / (1 + np.exp(-points[:33, 3:].astype(float)))
        metres = world.reshape(39, 3)[:33].astype(float)
        metres[:, :2] = metres[:, :2] @ turn.T
        # After the body's points come the middle of the hips and the top of the circle that holds the person.
        (cx, cy), (ex, ey) = to_picture[33:35].tolist()
        return Landmarks(to_picture[:33], sure[:, 0], sure[:, 1], metres, roi, Roi.from_body_circle((cx, cy), (ex, ey)))


def _refined(xy: Float[np.ndarray, "39 2"], heat: Float32[np.ndarray, "64 64 39"]) -> Float[np.ndarray, "39 2"]:
    """Landmarks in parts of the input, each moved to the middle of the heat about it where that is sure."""
    size = np.array(heat.shape[1::-1])
    at = (xy * size).astype(int)
    inside = ((at >= 0) & (at < size)).all(1)
    near = at[:, None] + np.arange(-_REACH, _REACH + 1)[:, None]  # (landmarks, along a side, x and y)
    there = (near >= 0) & (near < size)
    x, y = np.clip(near, 0, size - 1).transpose(2, 0, 1)
    warm = 1 / (1 + np.exp(-heat[y[:, :, None], x[:, None], np.arange(len(xy))[:, None, None]].astype(float)))
    warm *= there[:, :, None, 1] & there[:, None, :, 0]
    across, down = warm.sum(1), warm.sum(2)
    middle = np.stack([(across * x).sum(1), (down * y).sum(1)], 1) / (
        np.maximum(warm.sum((1, 2)), 1e-9)[:, None] * size
    )
    sure = inside & (warm.max((1, 2)) >= _SURE)
    return np.where(sure[:, None], middle, xy)
