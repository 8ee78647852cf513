"""What detectors share whose network looks at one person at a time: whom to look at, and results in our terms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bodyfit.detect.base import Detector
from bodyfit.detect.movenet import MovenetDetector
from bodyfit.errors import DetectorError, OptionError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D

__all__ = ["BoxFinder", "layout_of", "person_from"]

_LAYOUTS = {16: "mpii16", 17: "coco17", 26: "halpe26", 133: "wholebody133", 136: "halpe136"}
"""What networks trained on COCO, COCO-WholeBody, Halpe and MPII mean by so many keypoints."""


class BoxFinder:
    """The boxes about people that another detector finds."""

    def __init__(self, detector: Detector | None = None, *, max_people: int | None = None) -> None:
        """`detector` is the default one if None. Raises `OptionError` for max_people below 1."""
        if max_people is not None and max_people < 1:
            raise OptionError(f"max_people must be at least 1, or None for everyone, got {max_people}")
        self._detector = MovenetDetector() if detector is None else detector
        self._max_people = max_people

    def __call__(self, frames: Sequence[Frame]) -> list[list[tuple[Float[np.ndarray, "4"], float]]]:
        """For each frame x0, y0, x1, y1 px and the score of each person, in the detector's order."""
        found = self._detector.detect(frames)
        return [[(_box(person), person.score) for person in people[: self._max_people]] for people in found]


def layout_of(count: int, what: str) -> str:
    """The layout of a network's keypoints. Raises `DetectorError`, beginning with `what`."""
    if count not in _LAYOUTS:
        known = ", ".join(f"{k} ({name})" for k, name in _LAYOUTS.items())
        raise DetectorError(f"{what} gives {count} keypoints, expected {known}")
    return _LAYOUTS[count]


def person_from(
    layout: str,
    xy: Float[np.ndarray, "K 2"],
    confidence: Float[np.ndarray, "K"],
    box: Float[np.ndarray, "4"],
    score: float,
) -> Keypoints2D:
    """A person whose keypoints count pixels from the middle of the first, as COCO's do and what is trained on them."""
    sure = np.clip(np.nan_to_num(confidence, nan=0.0), 0, 1)
    xyc = np.concatenate([np.where(sure[:, None] > 0, xy + 0.5, 0), sure[:, None]], 1)
    x0, y0, x1, y1 = (float(v) for v in box)
    return Keypoints2D(layout, xyc.astype(np.float32), score=min(1.0, max(0.0, score)), box=(x0, y0, x1, y1))


def _box(person: Keypoints2D) -> Float[np.ndarray, "4"]:
    """The person's own box, else that of the keypoints with room for the crown, the hands and the feet."""
    if person.box is not None:
        return np.array(person.box, np.float64)
    x0, y0, x1, y1 = person.box_px()
    room = 0.05 * max(x1 - x0, y1 - y0)
    return np.array((x0 - room, y0 - 2 * room, x1 + room, y1 + room), np.float64)
