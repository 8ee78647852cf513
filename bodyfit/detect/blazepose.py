"""MediaPipe's two pose networks, each by itself: where people may be, and one person's landmarks.

`mediapipe.solutions.pose.Pose` runs both in a row and keeps only the first person. The graphs below are the same
subgraphs out of the same wheel (for one person the landmarks agree), so that several people can be followed up and
each landmark's presence is kept, which `Pose` drops.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.regions import Box, Roi
from bodyfit.errors import DetectorError

__all__ = ["Blazepose", "Landmarks"]

_INPUT_PX = 256
"""Side of the landmark network's input."""

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


@dataclass(frozen=True)
class Landmarks:
    """What the landmark network says of one region."""

    xy_px: Float[np.ndarray, "33 2"]
    """Pixels of the whole picture; points beyond its edge are extrapolated."""
    visibility: Float[np.ndarray, "33"]
    """Probability that the point is in view and not hidden."""
    presence: Float[np.ndarray, "33"]
    """Probability that the point is within the region."""
    world_m: Float[np.ndarray, "33 3"]
    """Metres from the middle of the hips: x right, y down, z away, of a camera that looks at the region's centre."""
    roi: Roi
    """The region that was looked at."""
    next_roi: Roi
    """The region that these landmarks suggest, for a second look."""


class Blazepose:
    """Both networks, loaded. Not safe to share between threads."""

    def __init__(self) -> None:
        # MediaPipe's C++ parts write their start-up notes straight to the process's standard error.
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with _quiet_stderr():
            try:
                import mediapipe
                from mediapipe.framework.formats import rect_pb2
                from mediapipe.python import packet_creator, packet_getter
                from mediapipe.python._framework_bindings import resource_util
            except ImportError as error:
                raise DetectorError(
                    f"the detector mediapipe cannot be imported ({error}); "
                    "install it with: pip install mediapipe==0.10.21"
                ) from None
            self._create, self._get, self._rect = packet_creator, packet_getter, rect_pb2.NormalizedRect  # pyright: ignore
            self._format = mediapipe.ImageFormat.SRGB
            try:
                resource_util.set_resource_dir(str(Path(mediapipe.__file__).parents[1]))
                self._propose = _Graph(_PROPOSE, ("detections",), {})
                side = {"complexity": packet_creator.create_int(1)}  # the one landmark network that the wheel carries
                self._landmarks = _Graph(_LANDMARKS, ("landmarks", "circle", "world"), side)
                # The first run starts threads, which have their say too.
                blank = np.zeros((64, 64, 3), np.uint8)
                self.propose(blank, (0, 0, 64, 64))
                self.landmarks(blank, Roi(32.0, 32.0, 64.0, 0.0))
            except (RuntimeError, ValueError, OSError) as error:
                raise DetectorError(
                    f"mediapipe {getattr(mediapipe, '__version__', '?')} does not start: {error}; "
                    "bodyfit needs mediapipe==0.10.21, the last version whose package carries its networks"
                ) from None

    def propose(self, image: UInt8[np.ndarray, "H W 3"], box: Box) -> list[tuple[Roi, float]]:
        """The regions within a box of the picture that may hold a person, with scores in [0.5, 1], best first."""
        packet_image, scale = self._part(image, box, float(max(box[2] - box[0], box[3] - box[1])))
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
        packet_image, scale = self._part(image, box, roi.size)
        w, h = w * scale[0], h * scale[1]
        rect = self._rect(
            x_center=(roi.x - box[0]) / w,
            y_center=(roi.y - box[1]) / h,
            width=roi.size / w,
            height=roi.size / h,
            rotation=roi.angle,
        )
        packets = self._landmarks.run(image=packet_image, roi=self._create.create_proto(rect))
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

    def _part(self, image: np.ndarray, box: Box, side_px: float) -> tuple[Any, tuple[float, float]]:
        """A box of the picture as a packet, and how much larger than the box its padded sides are.

        The networks sample their input from single pixels, so what they would see far smaller is first averaged down.
        """
        from PIL import Image

        part = image[box[1] : box[3], box[0] : box[2]]
        factor = max(1, int(side_px / (1.5 * _INPUT_PX)))
        scale = (1.0, 1.0)
        if factor > 1:
            h, w = part.shape[:2]
            part = np.asarray(Image.fromarray(part).reduce(factor))
            scale = (part.shape[1] * factor / w, part.shape[0] * factor / h)  # the last pixel may stand for fewer
        packet = self._create.create_image_frame(data=np.ascontiguousarray(part), image_format=self._format)
        return packet, scale


class _Graph:
    """A MediaPipe graph that is run picture by picture."""

    def __init__(self, config: str, outputs: tuple[str, ...], side_packets: dict[str, Any]) -> None:
        from mediapipe.python._framework_bindings import calculator_graph

        self._graph = calculator_graph.CalculatorGraph(graph_config=config)
        self._packets: dict[str, Any] = {}
        self._time = 0
        for name in outputs:
            self._graph.observe_output_stream(name, self._packets.__setitem__)
        self._graph.start_run(side_packets)

    def run(self, **inputs: Any) -> dict[str, Any]:
        """The packets that come out; a stream without one is left out."""
        self._time += 1
        self._packets.clear()
        try:
            for name, packet in inputs.items():
                self._graph.add_packet_to_input_stream(name, packet.at(self._time))
            self._graph.wait_until_idle()
        except (RuntimeError, ValueError) as error:
            raise DetectorError(f"mediapipe failed: {error}") from error
        return dict(self._packets)


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what C++ code writes to file descriptor 2 from the user while the networks start; exceptions pass."""
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):  # no standard error at all, as in a window without a console
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
