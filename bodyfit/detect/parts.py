"""Hands, face and irises of a person whose body landmarks are known: where to look, how often, and what to believe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.networks.faces import EYE_CORNERS, EyeLook, FaceLook, FaceNetwork, IrisNetwork
from bodyfit.detect.networks.hands import HandLook, HandNetworks
from bodyfit.detect.regions import Roi
from bodyfit.keypoints import Part
from bodyfit.skeleton import layout_names

__all__ = ["Face", "FaceFinder", "HandFinder", "each_once"]

_NAMES = layout_names("mediapipe33")
_ARM = {
    side: [_NAMES.index(f"{side}_{p}") for p in ("elbow", "wrist", "pinky_knuckle", "index_knuckle")]
    for side in ("left", "right")
}
_FACE = list(range(_NAMES.index("mouth_right") + 1))
_MIN_CONFIDENCE = 0.3
"""Below it the body's landmarks do not say where the part is."""
_MIN_PALM_PX = 25.0
"""From the wrist to the knuckles: of a smaller hand the fingers are not to be told."""
_PALM_PER_FOREARM = 0.4
"""The least that a palm is taken for where it points at the camera and looks short."""
_MIN_FACE_PX = 12.0
"""Across the eyes, ears and mouth: of a smaller face the network sees nothing."""
_MIN_EYE_PX = 12.0
"""From corner to corner: of a smaller eye the iris is no more than a pixel or two, and the lids are the mesh's."""


_HIDDEN = 0.4
"""An eye so much narrower than the other is behind the nose."""


class HandFinder:
    """The hand networks, loaded. Threads may share it."""

    def __init__(self) -> None:
        self._networks = HandNetworks()

    def hands(self, image: UInt8[np.ndarray, "H W 3"], body: Float[np.ndarray, "33 3"]) -> dict[str, Part]:
        """Find the hands of a person with these landmarks, under "left" and "right"; who does not show one lacks it.

        Which hand it is the body says, so that left and right cannot be exchanged; what the network thinks of it is
        part of the score.
        """
        found = {side: self._hand(image, body, side) for side in _ARM}
        return {side: hand for side, hand in found.items() if hand is not None}

    def alone(self, image: UInt8[np.ndarray, "H W 3"], side: str) -> Part | None:
        """Find a hand that fills most of a picture, "left" or "right" of the person, without a body.

        None where the network sees none. The score is low where it rather looks like the other hand.
        """
        height, width = image.shape[:2]
        region = self._networks.region(image, Roi(width / 2, height / 2, float(max(width, height)), 0.0))
        look = region and self._networks.look(image, region)
        if look is None:
            return None
        look = self._networks.look(image, look.next_roi) or look
        return _hand_part(look, side, 1.0, image)

    def _hand(self, image: np.ndarray, body: np.ndarray, side: str) -> Part | None:
        rough = _rough_hand(body[_ARM[side]])
        region = rough and self._networks.region(image, rough)
        look = region and self._networks.look(image, region)
        if look is None:
            return None
        # The palm that was seen places the region better than the first network; a look that loses the hand is dropped.
        look = self._networks.look(image, look.next_roi) or look
        return _hand_part(look, side, float(body[_ARM[side][1], 2]), image)


@dataclass(frozen=True)
class Face:
    """A face with its irises."""

    mesh: Part
    """MediaPipe's 468 points, the eyes' lids by the iris network where the eyes are large enough."""
    irises: Mapping[str, Part]
    """Under "left" and "right" of the person, of the eyes that are large enough: `Keypoints2D.irises`."""


class FaceFinder:
    """The networks of the face and the irises, loaded. Threads may share it."""

    def __init__(self) -> None:
        self._mesh, self._iris = FaceNetwork(), IrisNetwork()

    def face(self, image: UInt8[np.ndarray, "H W 3"], body: Float[np.ndarray, "33 3"]) -> Face | None:
        """Find the face of a person with these landmarks; None where the network sees none."""
        points = body[_FACE]
        rough = _rough_face(points)
        look = self._mesh.look(image, rough) if rough else None
        if rough is None or look is None:
            return None
        if not _shows_the_same(rough, look.next_roi):
            look = self._mesh.look(image, look.next_roi) or look
        xy = look.xy_px.copy()
        eyes = {side: eye for side in EYE_CORNERS if (eye := self._eye(image, look, side)) is not None}
        for eye in eyes.values():
            xy[eye.about] = eye.lids_px
        # The network has no say on single points: they get the confidence of the body's own points of the face.
        sure = float(np.median(points[:, 2]))
        irises = {side: _part(eye.iris_px, sure, look.presence, image) for side, eye in eyes.items()}
        return Face(_part(xy, sure, look.presence, image), irises)

    def _eye(self, image: np.ndarray, look: FaceLook, side: str) -> EyeLook | None:
        widths = {eye: math.dist(*look.xy_px[list(corners)]) for eye, corners in EYE_CORNERS.items()}
        least = max(_MIN_EYE_PX, _HIDDEN * max(widths.values()))
        return self._iris.look(image, look.xy_px, side) if widths[side] >= least else None


def each_once(people: Sequence[Mapping[str, Part]]) -> list[dict[str, Part]]:
    """Drop the hands of several people that somebody else claims more surely.

    Where someone's wrist is hidden, his landmarks may end at a neighbour's hand.
    """
    claims = [(i, side, hand) for i, hands in enumerate(people) for side, hand in hands.items()]
    accepted: list[dict[str, Part]] = [{} for _ in people]
    for i, side, hand in sorted(claims, key=lambda claim: -float(claim[2].xyc[:, 2].mean() * claim[2].score)):
        size = float(np.ptp(hand.xyc[:, :2], axis=0).max())
        others = [other.xyc for j, hands in enumerate(accepted) if j != i for other in hands.values()]
        if not any(np.median(np.hypot(*(hand.xyc - xyc)[:, :2].T)) < 0.3 * size for xyc in others):
            accepted[i][side] = hand
    return accepted


def _rough_hand(arm: Float[np.ndarray, "4 3"]) -> Roi | None:
    """The region about a hand that an arm's elbow, wrist and knuckles suggest; None for one unseen or too small.

    As MediaPipe's `HandLandmarksFromPoseToRecropRoi` has it, but for hands that point at the camera.
    """
    elbow, wrist, pinky, index = arm
    middle = (2 * index + pinky)[:2] / 3
    dx, dy = (middle - wrist[:2]).tolist()
    palm = max(math.hypot(dx, dy), _PALM_PER_FOREARM * math.dist(wrist[:2], elbow[:2]))
    if wrist[2] < _MIN_CONFIDENCE or palm < _MIN_PALM_PX:
        return None
    angle = math.atan2(dx, -dy)
    x, y = middle + np.array((math.sin(angle), -math.cos(angle))) * 0.2 * math.hypot(dx, dy)
    return Roi(float(x), float(y), 2.7 * 2 * max(math.hypot(dx, dy), 0.75 * palm), angle)


def _rough_face(points: Float[np.ndarray, "11 3"]) -> Roi | None:
    """The region about a face that the body's landmarks of it suggest; None for one unseen or too small."""
    reach = float(np.ptp(points[:, :2], axis=0).max())
    if np.median(points[:, 2]) < _MIN_CONFIDENCE or reach < _MIN_FACE_PX:
        return None
    (right_x, right_y), (left_x, left_y) = (points[_NAMES.index(f"{side}_eye"), :2] for side in ("right", "left"))
    x, y = points[:, :2].mean(0).tolist()
    return Roi(x, y, 2 * reach, math.atan2(left_y - right_y, left_x - right_x))


def _shows_the_same(roi: Roi, other: Roi) -> bool:
    """Whether a look at another region is not worth its time.

    Stricter than MediaPipe's `RoiTrackingCalculator` (a shift of 0.1, 0.3 of the size, 15 degrees): a first look at a
    face by the body's landmarks takes open mouths for half as open.
    """
    shift = math.hypot(roi.x - other.x, roi.y - other.y)
    turn = abs(math.remainder(roi.angle - other.angle, 2 * math.pi))
    return shift < 0.03 * other.size and abs(roi.size - other.size) < 0.06 * other.size and turn < math.radians(5)


def _hand_part(look: HandLook, side: str, confidence: float, image: np.ndarray) -> Part:
    agrees = look.right if side == "right" else 1 - look.right
    part = _part(look.xy_px, confidence, look.presence * agrees, image)
    return Part(part.xyc, look.lift_m.astype(np.float32), part.score)


def _part(xy: Float[np.ndarray, "K 2"], confidence: float, score: float, image: np.ndarray) -> Part:
    """Points of equal confidence, none for those beyond the picture's edge."""
    inside = np.all((xy >= 0) & (xy <= (image.shape[1], image.shape[0])), axis=1)
    return Part(np.concatenate([xy, confidence * inside[:, None]], 1).astype(np.float32), None, float(score))
