"""YOLO-pose through Ultralytics, which the user installs: its code and weights are under AGPL-3.0."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.detect.topdown import layout_of, person_from
from bodyfit.errors import DetectorError, OptionError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.runtime.environment import environment

__all__ = ["LICENCE", "YoloDetector"]

LICENCE = (
    "Ultralytics YOLO is under AGPL-3.0: what you build with it and offer to others must be under it too, "
    "unless you have their enterprise licence. It is no part of bodyfit."
)


class YoloDetector:
    """People and their 17 keypoints in one pass."""

    def __init__(self, weights: str | Path | None = None, *, max_people: int | None = None) -> None:
        """`weights` is a .pt, .onnx or .yaml file, or a name that Ultralytics downloads. A .pt file is a pickle, which
        can run code as it is loaded: take it from whom you trust. Raises `DetectorError`; warns of the licence.
        """
        if max_people is not None and max_people < 1:
            raise OptionError(f"max_people must be at least 1, or None for everyone, got {max_people}")
        self._name = str(weights or "yolo11n-pose.pt")
        make = _imported(offline=Path(self._name).exists())
        warnings.warn(LICENCE, stacklevel=2)
        try:
            self._model = make(self._name)
        except Exception as error:  # of the network, the disk or the file
            raise DetectorError(
                f"YOLO {self._name} cannot be loaded ({error}); offline, give a file: detector='yolo:PATH.pt'"
            ) from error
        if self._model.task != "pose":
            raise DetectorError(f"YOLO {self._name} is for {self._model.task}, not for pose; take a -pose model")
        self._max_people = max_people

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """One list a frame with one entry a person, the largest person first; no lift."""
        return [self._people(frame) for frame in frames]

    def _people(self, frame: Frame) -> list[Keypoints2D]:
        (result,) = self._model(np.ascontiguousarray(frame.image[..., ::-1]), verbose=False)  # it takes BGR
        if result.keypoints is None or not len(result.boxes):
            return []
        points = result.keypoints.data.cpu().numpy()
        boxes, scores = result.boxes.xyxy.cpu().numpy(), result.boxes.conf.cpu().numpy()
        layout = layout_of(points.shape[1], f"YOLO {self._name}")
        sure = points[..., 2] if points.shape[2] == 3 else np.ones(points.shape[:2])
        sure = np.where((points[..., :2] == 0).all(-1), 0, sure)  # before 8.4 it put unsure ones at (0, 0)
        people = [
            person_from(layout, xy, c, box, float(score))
            for xy, c, box, score in zip(points[..., :2], sure, boxes, scores, strict=True)
        ]
        people.sort(key=lambda person: -_height_px(person))
        return people[: self._max_people]


def _imported(*, offline: bool) -> Any:
    """Ultralytics' class YOLO, with its usage statistics off; `offline` without its look-ups in the network, too."""
    try:
        with environment(**({"YOLO_OFFLINE": "true"} if offline else {})):
            from ultralytics import YOLO  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DetectorError(f"yolo needs Ultralytics: pip install ultralytics. Mind: {LICENCE}") from None
    for module in ("ultralytics.utils.events", "ultralytics.hub.utils"):  # where the sender is, in 8.4 and before
        events = getattr(sys.modules.get(module), "events", None)
        if events is not None:
            events.enabled = False
    return YOLO


def _height_px(person: Keypoints2D) -> float:
    x0, y0, x1, y1 = person.box or person.box_px()
    return max(x1 - x0, y1 - y0)
