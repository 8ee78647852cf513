"""A face in a region: its mesh of 468 points, then each eye's lids and iris, by MediaPipe's networks and onnxruntime.

What is done before and after the networks is what MediaPipe's graphs `FaceLandmarkCpu`, `FaceLandmarkLandmarksToRoi`,
`IrisLandmarkLeftAndRightCpu` and its `UpdateFaceLandmarksCalculator` do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.networks.crops import crop, to_picture
from bodyfit.detect.networks.session import shipped_network
from bodyfit.detect.regions import Roi

__all__ = ["EYE_CORNERS", "EyeLook", "FaceLook", "FaceNetwork", "IrisNetwork"]

_FACE_SIDE, _EYE_SIDE = 192, 64
"""Of the networks' inputs, pixels."""
_SURE = 0.5
"""The presence from which on there is a face."""
EYE_CORNERS = {"left": (263, 362), "right": (33, 133)}
"""The outer and the inner corner of the person's eyes among the mesh's points."""

# The 71 points that the iris network gives about an eye, as points of the mesh: the lower lid from the outer corner to
# the inner one and the upper lid between them, then rings about these and the brow. Of the person's right eye.
_ABOUT_RIGHT_EYE = (
    *(33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173),
    *(130, 25, 110, 24, 23, 22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190),
    *(226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189),
    *(35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245),
    *(156, 70, 63, 105, 66, 107, 55, 193),
)
_ABOUT_LEFT_EYE = (
    *(263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398),
    *(359, 255, 339, 254, 253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414),
    *(446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442, 441, 413),
    *(265, 353, 276, 283, 282, 295, 372, 340, 346, 347, 348, 349, 350, 357, 465),
    *(383, 300, 293, 334, 296, 336, 285, 417),
)
_ABOUT_EYE = {"left": np.array(_ABOUT_LEFT_EYE), "right": np.array(_ABOUT_RIGHT_EYE)}


@dataclass(frozen=True)
class FaceLook:
    """What the mesh network says of one region."""

    xy_px: Float[np.ndarray, "468 2"]
    """Pixels of the whole picture."""
    presence: float
    """Probability that a face is there, above one half."""
    roi: Roi
    """The region that was looked at."""

    @property
    def next_roi(self) -> Roi:
        """The region that these points suggest: upright with the eyes, half as large again as the face."""
        angle = _level(self.xy_px[EYE_CORNERS["right"][0]], self.xy_px[EYE_CORNERS["left"][0]])
        lo, hi = self.xy_px.min(0), self.xy_px.max(0)
        x, y = (0.5 * (lo + hi)).tolist()
        return Roi(x, y, 1.5 * float((hi - lo).max()), angle)


@dataclass(frozen=True)
class EyeLook:
    """What the iris network says of one eye."""

    about: np.ndarray
    """The points of the mesh, (71,), that `lids_px` are."""
    lids_px: Float[np.ndarray, "71 2"]
    """Lids and brow, pixels of the whole picture."""
    iris_px: Float[np.ndarray, "5 2"]
    """The iris: its middle, then its edge towards the picture's right, up, left and down in the eye's region."""


class FaceNetwork:
    """The network, loaded. Safe to share between threads; each run takes one."""

    def __init__(self) -> None:
        self._network = shipped_network("face_landmarks", 1)

    def look(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> FaceLook | None:
        """The mesh of the face in a region; None where the network sees none."""
        pixels = crop(image, roi, _FACE_SIDE)
        if pixels is None:
            return None
        points, logit = self._network.run(["points", "presence"], {"input": pixels})
        presence = 1 / (1 + math.exp(-min(30.0, max(-30.0, logit.item()))))
        if presence <= _SURE:
            return None
        return FaceLook(to_picture(points.reshape(468, 3)[:, :2].astype(float) / _FACE_SIDE, roi), presence, roi)


class IrisNetwork:
    """The network, loaded. Safe to share between threads; each run takes one."""

    def __init__(self) -> None:
        self._network = shipped_network("iris_landmarks", 1)

    def look(self, image: UInt8[np.ndarray, "H W 3"], face: Float[np.ndarray, "468 2"], side: str) -> EyeLook | None:
        """One eye of a face, "left" or "right" of the person; None outside of the picture.

        The network knows right eyes: a left one is shown to it in a mirror.
        """
        outer, inner = face[list(EYE_CORNERS[side])]
        middle, width = 0.5 * (outer + inner), float(np.abs(outer - inner).max())
        angle = _level(outer, inner) if side == "right" else _level(inner, outer)
        roi = Roi(float(middle[0]), float(middle[1]), 2.3 * width, angle)
        pixels = crop(image, roi, _EYE_SIDE)
        if pixels is None:
            return None
        if side == "left":
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        lids, iris = (
            points.reshape(-1, 3)[:, :2].astype(float) / _EYE_SIDE
            for points in self._network.run(["eye", "iris"], {"input": pixels})
        )
        if side == "left":
            lids, iris = ((1, 0) + points * (-1, 1) for points in (lids, iris[[0, 3, 2, 1, 4]]))
        return EyeLook(_ABOUT_EYE[side], to_picture(lids, roi), to_picture(iris, roi))


def _level(left: Float[np.ndarray, "2"], right: Float[np.ndarray, "2"]) -> float:
    """The clockwise turn of a square whose upper side runs along from one point to another, radians."""
    dx, dy = (right - left).tolist()
    return math.atan2(dy, dx)
