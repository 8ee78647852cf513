"""People and their 33 keypoints by MediaPipe's pose networks and graphs, of its own wheel: an extra, no download."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.blazepose import Blazepose
from bodyfit.detect.networks.landmarks import keypoints_from
from bodyfit.detect.regions import Roi, covers, nested, same_person, tiles
from bodyfit.detect.search.consensus import consensus, mirrored
from bodyfit.errors import OptionError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D

__all__ = ["MediapipeDetector"]

_MIN_SURE = 8
"""Fewer keypoints with confidence above one half are no person: a face alone has eleven, of which some hide."""
_MAX_LOOKS = 24
"""Proposals that are followed up in one picture, at about 20 ms each."""


class MediapipeDetector:
    """Finds people in single pictures: in the whole picture first, then in overlapping tiles for the smaller ones."""

    def __init__(self, *, tiled: bool = True, max_people: int | None = None) -> None:
        """`tiled=False` looks at the whole picture only: faster, and finds the most prominent person."""
        if max_people is not None and max_people < 1:
            raise OptionError(f"max_people must be at least 1, or None for everyone, got {max_people}")
        self._networks = Blazepose()
        self._tiled = tiled
        self._max_people = max_people

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """One list a frame with one entry a person, the largest person first."""
        return [self._people(frame.image) for frame in frames]

    def _people(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Keypoints2D]:
        size = image.shape[1], image.shape[0]
        found: list[Keypoints2D] = []
        looked_at: list[Roi] = []
        boxes = tiles(size) if self._tiled else tiles(size)[:1]
        for box in boxes:
            if any(covers(person.xyc, box) for person in found):
                continue
            for roi, score in self._networks.propose(image, box):
                if len(looked_at) >= _MAX_LOOKS or any(roi.close_to(seen) for seen in looked_at):
                    continue
                looked_at.append(roi)
                whole = box == boxes[0]
                person = self._confirm(image, roi, score, strict=not whole)
                if person is None or any(_duplicate(person.xyc, other.xyc) for other in found):
                    continue
                found = [other for other in found if not nested(other.xyc, person.xyc)]  # a ghost may come first
                found.append(person)
                if person.lift_centre_px is not None:
                    looked_at.append(_roi_about(person, roi))
        found.sort(key=lambda person: -_height_px(person))
        return found[: self._max_people]

    def _confirm(
        self, image: UInt8[np.ndarray, "H W 3"], roi: Roi, score: float, *, strict: bool
    ) -> Keypoints2D | None:
        """Look again, centred by the first look's landmarks: as it is, mirrored, and from a little farther.

        A tile shows parts of things at an unusual size, so that what it proposes has to convince more (`strict`).
        """
        if strict and score < 0.6:
            return None
        first = self._networks.landmarks(image, roi)
        if first is None:
            return None
        size = image.shape[1], image.shape[0]
        looks = [first, *self._looks(image, first.next_roi)]
        mean, agreement = consensus(looks)
        person = keypoints_from(mean, size, score, agreement)
        if (person.xyc[:, 2] > 0.5).sum() < _MIN_SURE:
            return None
        if strict and (len(looks) < 4 or person.xyc[:, 2].mean() < 0.45):
            return None
        return person

    def _looks(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> list[Landmarks]:
        width = image.shape[1]
        other = Roi(width - roi.x, roi.y, roi.size, -roi.angle)
        turned = self._networks.landmarks(image[:, ::-1], other)
        looks = [
            self._networks.landmarks(image, roi),
            turned and mirrored(turned, float(width)),
            self._networks.landmarks(image, Roi(roi.x, roi.y, 1.15 * roi.size, roi.angle)),
        ]
        return [look for look in looks if look is not None]


def _duplicate(xyc: Float[np.ndarray, "33 3"], known: Float[np.ndarray, "33 3"]) -> bool:
    return same_person(xyc, known) or nested(xyc, known)


def _height_px(person: Keypoints2D) -> float:
    x0, y0, x1, y1 = person.box_px()
    return max(x1 - x0, y1 - y0)


def _roi_about(person: Keypoints2D, roi: Roi) -> Roi:
    """The region of a person who was found, so that nearby proposals are not followed up again."""
    x, y = person.lift_centre_px or (roi.x, roi.y)
    return Roi(x, y, roi.size, roi.angle)
