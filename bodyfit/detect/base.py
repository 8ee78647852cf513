"""What every detector is, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from bodyfit.errors import OptionError
from bodyfit.frame import Frame
from bodyfit.keypoints import Keypoints2D

__all__ = ["DETECTORS", "Detector", "load_detector"]


@runtime_checkable
class Detector(Protocol):
    """Anything that finds people's keypoints in pictures."""

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """One list a frame with one entry a person, the largest person first; an empty list where nobody is."""
        ...


def _mediapipe() -> Detector:
    from bodyfit.detect.mediapipe import MediapipeDetector

    return MediapipeDetector()


DETECTORS: dict[str, Callable[[], Detector]] = {"mediapipe": _mediapipe}
"""The detectors by name; each is imported when it is asked for."""


def load_detector(name: str = "mediapipe") -> Detector:
    """The detector of that name, with its networks loaded.

    Raises `OptionError` for a name that is none and `DetectorError` where the detector cannot run here.
    """
    if name not in DETECTORS:
        raise OptionError(f"detector must be one of {', '.join(DETECTORS)}, got {name!r}")
    return DETECTORS[name]()
