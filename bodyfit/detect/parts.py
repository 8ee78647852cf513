"""Hands and face of a person whose body landmarks are known, by MediaPipe's networks in its own wheel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.networks.mediapipe_graph import Graph, part_of, starting
from bodyfit.detect.regions import Box
from bodyfit.keypoints import Part
from bodyfit.skeleton import layout_names

__all__ = ["FaceFinder", "HandFinder", "each_once"]

_NAMES = layout_names("mediapipe33")
_HAND = {s: [_NAMES.index(f"{s}_{p}") for p in ("wrist", "pinky_knuckle", "index_knuckle")] for s in ("left", "right")}
_FACE = list(range(_NAMES.index("mouth_right") + 1))
_MIN_PX = 12.0
"""A hand or a face of fewer pixels shows the networks nothing."""

# The holistic solution's own subgraphs: a body's wrist and knuckles give a region, a small network turns and centres
# it, and the hand network looks there. Which hand it is the body says, so that left and right cannot be exchanged
# between the two; what the hand network thinks of it (handedness) is a check.
_HAND_GRAPH = """
input_stream: "image"
input_stream: "points"
input_side_packet: "complexity"
output_stream: "landmarks"
output_stream: "world"
output_stream: "handedness"
node {
  calculator: "HandLandmarksFromPoseCpu"
  input_stream: "IMAGE:image"
  input_stream: "HAND_LANDMARKS_FROM_POSE:points"
  output_stream: "HAND_LANDMARKS:first"
  output_stream: "HAND_ROI_FROM_RECROP:roi"
}
node {
  calculator: "HandLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  input_side_packet: "MODEL_COMPLEXITY:complexity"
  output_stream: "LANDMARKS:landmarks"
  output_stream: "WORLD_LANDMARKS:world"
  output_stream: "HANDEDNESS:handedness"
}
"""
_FACE_GRAPH = """
input_stream: "image"
input_stream: "points"
input_side_packet: "refine"
output_stream: "landmarks"
node {
  calculator: "FaceLandmarksFromPoseCpu"
  input_stream: "IMAGE:image"
  input_stream: "FACE_LANDMARKS_FROM_POSE:points"
  input_side_packet: "REFINE_LANDMARKS:refine"
  output_stream: "FACE_LANDMARKS:landmarks"
}
"""


class HandFinder:
    """MediaPipe's hand network, loaded. Not safe to share between threads."""

    def __init__(self) -> None:
        with starting():
            from mediapipe.python import packet_creator, packet_getter

            self._get: Any = packet_getter
            side = {"complexity": packet_creator.create_int(1)}
            self._graph = Graph(_HAND_GRAPH, ("landmarks", "world", "handedness"), side)
            self._graph.run(**_inputs(np.zeros((64, 64, 3), np.uint8), (0, 0, 64, 64), np.full((3, 3), 32.0))[0])

    def hands(self, image: UInt8[np.ndarray, "H W 3"], body: Float[np.ndarray, "33 3"]) -> dict[str, Part]:
        """The hands of a person with these landmarks, under "left" and "right"; who does not show one lacks it."""
        found = {side: self._hand(image, body, side) for side in _HAND}
        return {side: hand for side, hand in found.items() if hand is not None}

    def _hand(self, image: np.ndarray, body: np.ndarray, side: str) -> Part | None:
        wrist = body[_HAND[side]]
        elbow = body[_NAMES.index(f"{side}_elbow")]
        reach = max(float(np.hypot(*np.ptp(wrist[:, :2], axis=0))), 0.4 * float(np.hypot(*(wrist[0] - elbow)[:2])))
        box = _around(wrist, 4 * reach, image)
        if wrist[0, 2] < 0.3 or reach < _MIN_PX or box is None:
            return None
        inputs, size = _inputs(image, box, wrist)
        packets = self._graph.run(**inputs)
        if not {"landmarks", "world", "handedness"} <= packets.keys():
            return None
        label = self._get.get_proto(packets["handedness"]).classification[0]
        # The labels are those of a mirrored picture: "Left" is the right hand of who faces an ordinary camera.
        agrees = (label.label.lower() == "right") == (side == "left")
        score = float(label.score) if agrees else 1.0 - float(label.score)
        xy = _points(self._get.get_proto(packets["landmarks"]).landmark, box, size)
        world = np.array([(p.x, p.y, p.z) for p in self._get.get_proto(packets["world"]).landmark], np.float32)
        confidence = float(wrist[0, 2]) * _inside(xy, image)
        return Part(np.concatenate([xy, confidence[:, None]], 1).astype(np.float32), world, score)


class FaceFinder:
    """MediaPipe's face mesh, loaded. Not safe to share between threads."""

    def __init__(self) -> None:
        with starting():
            from mediapipe.python import packet_creator, packet_getter

            self._get: Any = packet_getter
            self._graph = Graph(_FACE_GRAPH, ("landmarks",), {"refine": packet_creator.create_bool(False)})
            blank = np.full((len(_FACE), 3), 32.0)
            self._graph.run(**_inputs(np.zeros((64, 64, 3), np.uint8), (0, 0, 64, 64), blank)[0])

    def face(self, image: UInt8[np.ndarray, "H W 3"], body: Float[np.ndarray, "33 3"]) -> Part | None:
        """The 468 points of the face of a person with these landmarks; None where the network sees none."""
        points = body[_FACE]
        reach = float(np.ptp(points[:, :2], axis=0).max())
        box = _around(points, 4 * reach, image)
        if np.median(points[:, 2]) < 0.3 or reach < _MIN_PX or box is None:
            return None
        inputs, size = _inputs(image, box, points)
        packets = self._graph.run(**inputs)
        if "landmarks" not in packets:
            return None
        xy = _points(self._get.get_proto(packets["landmarks"]).landmark, box, size)
        # The network has no say on single points: they get the confidence of the body's own points of the face.
        sure = float(np.median(points[:, 2]))
        return Part(np.concatenate([xy, sure * _inside(xy, image)[:, None]], 1).astype(np.float32), None, sure)


def each_once(people: Sequence[Mapping[str, Part]]) -> list[dict[str, Part]]:
    """The hands of several people without those that somebody else claims more surely.

    Where someone's wrist is hidden, his landmarks may end at a neighbour's hand.
    """
    claims = [(i, side, hand) for i, hands in enumerate(people) for side, hand in hands.items()]
    kept: list[dict[str, Part]] = [{} for _ in people]
    for i, side, hand in sorted(claims, key=lambda claim: -float(claim[2].xyc[:, 2].mean() * claim[2].score)):
        size = float(np.ptp(hand.xyc[:, :2], axis=0).max())
        others = [other.xyc for j, hands in enumerate(kept) if j != i for other in hands.values()]
        if not any(np.median(np.hypot(*(hand.xyc - xyc)[:, :2].T)) < 0.3 * size for xyc in others):
            kept[i][side] = hand
    return kept


def _around(points: np.ndarray, side_px: float, image: np.ndarray) -> Box | None:
    """A square about points, cut to the picture; None where little is left of it."""
    x, y = points[:, :2].mean(0)
    h, w = image.shape[:2]
    x0, y0 = max(0, int(x - side_px)), max(0, int(y - side_px))
    x1, y1 = min(w, int(x + side_px) + 1), min(h, int(y + side_px) + 1)
    return (x0, y0, x1, y1) if x1 - x0 >= 16 and y1 - y0 >= 16 else None


def _inputs(image: np.ndarray, box: Box, points: np.ndarray) -> tuple[dict[str, object], tuple[float, float]]:
    """A part of the picture and points as the graphs want them, and the part's padded size in the picture's pixels."""
    from mediapipe.framework.formats import landmark_pb2
    from mediapipe.python import packet_creator

    x0, y0, x1, y1 = box
    packet, scale = part_of(image, box, 0.5 * max(x1 - x0, y1 - y0))
    size = (x1 - x0) * scale[0], (y1 - y0) * scale[1]
    given = landmark_pb2.NormalizedLandmarkList()  # pyright: ignore[reportAttributeAccessIssue]
    for x, y, c in points.tolist():
        given.landmark.add(x=(x - x0) / size[0], y=(y - y0) / size[1], z=0.0, visibility=c, presence=c)
    return {"image": packet, "points": packet_creator.create_proto(given)}, size


def _points(landmarks: Sequence, box: Box, size: tuple[float, float]) -> Float[np.ndarray, "K 2"]:
    """Pixels of the whole picture."""
    return np.array([(p.x * size[0] + box[0], p.y * size[1] + box[1]) for p in landmarks])


def _inside(xy: Float[np.ndarray, "K 2"], image: np.ndarray) -> Float[np.ndarray, "K"]:
    """1 for points within the picture, 0 for those beyond its edge."""
    return ((xy >= 0) & (xy <= (image.shape[1], image.shape[0]))).all(1).astype(float)
