"""What every detector is: the protocols that fits, clips and batches ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D

__all__ = ["Detector", "Follower"]


@runtime_checkable
class Detector(Protocol):
    """Anything that finds people's keypoints in pictures."""

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """One list a frame with one entry a person, the largest person first; an empty list where nobody is."""
        ...


@runtime_checkable
class Follower(Protocol):
    """A detector that can also look again, cheaply, where people were a moment ago."""

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """As `Detector.detect`."""
        ...

    def follow(self, frame: Frame, previous: Sequence[Keypoints2D]) -> list[Keypoints2D | None]:
        """Track people into the next frame, in the same order; None for a person who is not detected nearby.

        New people are not detected: call `detect` regularly. Two people who cross may become one; the caller checks.
        """
        ...
