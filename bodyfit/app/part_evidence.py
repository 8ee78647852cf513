"""What a detector found of hands and faces, as arrays for the fit: pixels, and lifts in the picture's axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from bodyfit.app.pipeline import rotation_to_ray
from bodyfit.keypoints import Keypoints2D, Part

__all__ = ["face_array", "hand_arrays"]

_SIDES = ("left", "right")
_HAND, _FACE, _IRIS = 21, 468, 5


def hand_arrays(
    people: Sequence[Keypoints2D], focal_px: Sequence[float], image_size: Sequence[tuple[int, int]]
) -> tuple[Float32[np.ndarray, "B 2 21 3"], Float32[np.ndarray, "B 2 21 3"]]:
    """Stack the hands of people, left and right: x px, y px and confidence, and the lift in camera axes, metres.

    The confidence is that of the points times the hand's score; a hand that was not seen has confidence 0 and a lift of
    NaN. Each person has a focal length and the size (width, height) of the picture. A lift is as a camera has it that
    looks straight at the middle of the hand, so it is turned by the rotation between that ray and the optical axis.
    """
    xyc = np.zeros((len(people), len(_SIDES), _HAND, 3), np.float32)
    lift = np.full_like(xyc, np.nan)
    for row, (person, focal, (w, h)) in enumerate(zip(people, focal_px, image_size, strict=True)):
        for column, side in enumerate(_SIDES):
            hand = (person.hands or {}).get(side)
            if hand is None:
                continue
            xyc[row, column] = _weighted(hand)
            if hand.lift_m is not None:
                u, v = 0.5 * (hand.xyc[:, :2].min(0) + hand.xyc[:, :2].max(0))
                R_cam_lift = rotation_to_ray(((u - w / 2) / focal, (v - h / 2) / focal, 1.0))
                lift[row, column] = hand.lift_m @ R_cam_lift.T
    return xyc, lift


def face_array(people: Sequence[Keypoints2D]) -> Float32[np.ndarray, "B 478 3"]:
    """Stack the faces of people: MediaPipe's 468 points, then five of the right iris and five of the left.

    x px, y px and confidence, which is 0 where no face or no iris was seen.
    """
    xyc = np.zeros((len(people), _FACE + len(_SIDES) * _IRIS, 3), np.float32)
    for row, person in enumerate(people):
        if person.face is None:
            continue
        xyc[row, :_FACE] = _weighted(person.face)
        for at, side in ((_FACE, "right"), (_FACE + _IRIS, "left")):
            iris = (person.irises or {}).get(side)
            if iris is not None:
                xyc[row, at : at + _IRIS] = _weighted(iris)
    return xyc


def _weighted(part: Part) -> Float32[np.ndarray, "K 3"]:
    return (part.xyc * np.array((1.0, 1.0, part.score))).astype(np.float32)
