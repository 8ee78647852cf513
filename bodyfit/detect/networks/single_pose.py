"""MoveNet SinglePose Thunder: COCO's 17 keypoints of the person in the middle of a region, by onnxruntime."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bodyfit.detect.networks.crops import crop, to_picture
from bodyfit.detect.networks.session import shipped_network
from bodyfit.detect.regions import Roi

__all__ = ["SinglePose", "decoded"]

_SIDE = 256
"""Of the network's input, pixels; of its maps a quarter."""
_NEAR_PX = 1.8
"""Pixels of the maps: heat is divided by its distance from the expected place and so much more."""


class SinglePose:
    """The network, loaded. Safe to share between threads; each run takes one."""

    def __init__(self) -> None:
        self._network = shipped_network("movenet_thunder", 1)

    def keypoints(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> Float[np.ndarray, "17 3"] | None:
        """Detect the keypoints of the person in the middle of a region: pixels of the picture and scores in [0, 1].

        The network places every keypoint, hidden ones with low scores. None where too little of the region lies in the
        picture.
        """
        pixels = crop(image, roi, _SIDE)
        if pixels is None:
            return None
        maps = ["centre", "heat", "expected", "offset"]
        centre, heat, expected, offset = self._network.run(maps, {"input": np.rint(255 * pixels).astype(np.uint8)})
        found = decoded(centre.reshape(heat.shape[2:]), heat[0], expected[0], offset[0])
        return np.concatenate([to_picture(found[:, :2], roi), found[:, 2:]], 1)


def decoded(
    centre: Float32[np.ndarray, "h w"],
    heat: Float32[np.ndarray, "17 h w"],
    expected: Float32[np.ndarray, "34 h w"],
    offset: Float32[np.ndarray, "34 h w"],
) -> Float[np.ndarray, "17 3"]:
    """Read the keypoints from the network's maps, in parts of the input's sides, with scores.

    The person is the peak of the map of centres, less what is far from the middle; a keypoint is the peak of its heat,
    less what is far from where the person's centre expects it, plus the place within a pixel: what the network's own
    graph computes after its last convolutions.
    """
    h, w = heat.shape[1:]
    down, across = np.arange(h), np.arange(w)
    nearness = 1 / (np.hypot(down[:, None] - h // 2, across - w // 2) + _NEAR_PX)
    y, x = np.unravel_index((centre * nearness).argmax(), (h, w))
    place = np.array((y, x)) + expected[:, y, x].reshape(17, 2).astype(float)
    away = np.hypot(down[:, None] - place[:, :1, None], across - place[:, 1:, None])
    at = (heat / (away + _NEAR_PX)).reshape(17, -1).argmax(1)
    rows, columns = at // w, at % w
    kind = np.arange(17)
    shift = offset.reshape(17, 2, h, w)[kind, :, rows, columns]
    xy = np.stack([(columns + shift[:, 1]) / w, (rows + shift[:, 0]) / h], 1)
    return np.concatenate([xy, heat[kind, rows, columns][:, None]], 1).astype(float)
