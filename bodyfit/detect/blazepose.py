"""MediaPipe's two pose networks, each by itself: where people may be, and one person's landmarks.

`mediapipe.solutions.pose.Pose` runs both in a row and keeps only the first person. The graphs below are the same
subgraphs out of the same wheel (for one person the landmarks agree), so that several people can be followed up and
each landmark's presence is kept, which `Pose` drops.
"""

from __future__ import annotations

from queue import Empty, LifoQueue
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bodyfit.detect.networks.landmarks import Landmarks
from bodyfit.detect.networks.mediapipe_graph import Graph, part_of, starting
from bodyfit.detect.regions import Box, Roi

__all__ = ["Blazepose"]

_PROPOSE = """
input_stream: "image"
output_stream: "detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""
_LANDMARKS = """
input_stream: "image"
input_stream: "roi"
input_side_packet: "complexity"
output_stream: "landmarks"
output_stream: "circle"
output_stream: "world"
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:roi"
  input_side_packet: "MODEL_COMPLEXITY:complexity"
  output_stream: "LANDMARKS:landmarks"
  output_stream: "AUXILIARY_LANDMARKS:circle"
  output_stream: "WORLD_LANDMARKS:world"
}
"""


class Blazepose:
    """Both networks, loaded. Threads may share `landmarks`, which makes a graph for each at a time; not `propose`."""

    def __init__(self) -> None:
        with starting():
            from mediapipe.framework.formats import rect_pb2  # pyright: ignore[reportMissingImports]
            from mediapipe.python import packet_creator, packet_getter  # pyright: ignore[reportMissingImports]

            self._create, self._get, self._rect = packet_creator, packet_getter, rect_pb2.NormalizedRect  # pyright: ignore
            self._propose = Graph(_PROPOSE, ("detections",), {})
            # The wheel carries one landmark network, of complexity 1.
            self._side = {"complexity": packet_creator.create_int(1)}
            self._idle: LifoQueue[Graph] = LifoQueue()
            self._making = Lock()
            # The first run starts threads, which have their say too.
            blank = np.zeros((64, 64, 3), np.uint8)
            self.propose(blank, (0, 0, 64, 64))
        self.landmarks(blank, Roi(32.0, 32.0, 64.0, 0.0))

    def propose(self, image: UInt8[np.ndarray, "H W 3"], box: Box) -> list[tuple[Roi, float]]:
        """The regions within a box of the picture that may hold a person, with scores in [0.5, 1], best first."""
        packet_image, scale = part_of(image, box, float(max(box[2] - box[0], box[3] - box[1])))
        packets = self._propose.run(image=packet_image)
        found = []
        w, h = box[2] - box[0], box[3] - box[1]
        for detection in self._get.get_proto_list(packets["detections"]) if "detections" in packets else []:
            points = detection.location_data.relative_keypoints
            centre, edge = ((p.x * scale[0] * w + box[0], p.y * scale[1] * h + box[1]) for p in points[:2])
            roi = Roi.from_body_circle(centre, edge)
            if roi.size >= 16:
                found.append((roi, float(detection.score[0])))
        return sorted(found, key=lambda item: -item[1])

    def landmarks(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> Landmarks | None:
        """The landmarks of the person in a region; None where the network sees nobody there."""
        box = roi.box((image.shape[1], image.shape[0]))
        w, h = box[2] - box[0], box[3] - box[1]
        if w < 8 or h < 8:
            return None
        packet_image, scale = part_of(image, box, roi.size)
        w, h = w * scale[0], h * scale[1]
        rect = self._rect(
            x_center=(roi.x - box[0]) / w,
            y_center=(roi.y - box[1]) / h,
            width=roi.size / w,
            height=roi.size / h,
            rotation=roi.angle,
        )
        packets = self._look(image=packet_image, roi=self._create.create_proto(rect))
        if not {"landmarks", "circle", "world"} <= packets.keys():
            return None
        points, circle, world = (self._get.get_proto(packets[n]).landmark for n in ("landmarks", "circle", "world"))
        xy = np.array([(p.x * w + box[0], p.y * h + box[1]) for p in points])
        centre, edge = ((p.x * w + box[0], p.y * h + box[1]) for p in circle[:2])
        return Landmarks(
            xy,
            np.array([p.visibility for p in points]),
            np.array([p.presence for p in points]),
            np.array([(p.x, p.y, p.z) for p in world]),
            roi,
            Roi.from_body_circle(centre, edge),
        )

    def _look(self, **inputs: Any) -> dict[str, Any]:
        """One run of a landmark graph that nobody uses now. They keep nothing between runs: any of them will do."""
        try:
            graph = self._idle.get_nowait()
        except Empty:
            with self._making, starting():
                graph = Graph(_LANDMARKS, ("landmarks", "circle", "world"), self._side)
                packets = graph.run(**inputs)
        else:
            packets = graph.run(**inputs)
        self._idle.put(graph)
        return packets
