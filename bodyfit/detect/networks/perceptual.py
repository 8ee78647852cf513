"""How alike two pictures of a person are to the eye of the landmark network: distances of its features."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from bodyfit.detect.networks.session import Network, shipped_network
from bodyfit.errors import check_shape

__all__ = ["Perceptual"]

_SIDE = 256
_GREY = 128
"""Beside a picture that is not square."""


class Perceptual:
    """Compares pictures by features of the shipped landmark network, as LPIPS does by those of others.

    Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018, without learned weights:
    features of each place are scaled to length 1, and the squared distances averaged over places and summed over two
    maps, edges at half of the input's resolution (16 features) and what is made of the whole network's at a quarter
    (48). The numbers are not those of LPIPS.
    """

    def __init__(self) -> None:
        """Load the network. Raises `AssetError` and `DetectorError`."""
        self._network: Network = shipped_network("pose_landmarks", 1)

    def distance(self, picture: UInt8[np.ndarray, "H W 3"], truth: UInt8[np.ndarray, "H W 3"]) -> float:
        """Compute the distance of two pictures of one size: 0 for equal ones, 8 for opposite features everywhere.

        Pictures are fitted into the network's 256 pixels. Raises `ShapeError`.
        """
        check_shape("picture", picture, truth.shape, hint="as large as the truth")
        return float(
            sum(
                np.mean(((a - b) ** 2).sum(0))
                for a, b in zip(self._features(picture), self._features(truth), strict=True)
            )
        )

    def _features(self, picture: UInt8[np.ndarray, "H W 3"]) -> list[Float32[np.ndarray, "C h w"]]:
        maps = self._network.run(["fine", "coarse"], {"input": _fitted(picture)})
        return [one[0] / np.maximum(np.linalg.norm(one[0], axis=0, keepdims=True), 1e-6) for one in maps]


def _fitted(picture: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "1 S S 3"]:
    """Fit a picture into the network's input, in [0, 1]."""
    height, width = picture.shape[:2]
    scale = _SIDE / max(height, width)
    size = max(round(scale * width), 1), max(round(scale * height), 1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    square = np.full((_SIDE, _SIDE, 3), _GREY, np.uint8)
    x, y = (_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2
    square[y : y + size[1], x : x + size[0]] = cv2.resize(picture, size, interpolation=how)
    return square[None].astype(np.float32) / np.float32(255)
