"""Everyone in a picture: MoveNet says where people are, MediaPipe's landmark network looks at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.blazepose import Blazepose, Landmarks
from bodyfit.detect.looks import consensus, mirrored
from bodyfit.detect.mediapipe import keypoints_from
from bodyfit.detect.multipose import Multipose, Proposal
from bodyfit.detect.regions import Roi
from bodyfit.detect.search import propose
from bodyfit.detect.similarity import COCO_ROWS, as_coco, oks
from bodyfit.errors import OptionError
from bodyfit.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = ["MovenetDetector"]

_COCO, _LANDMARKS = layout_names("coco17"), layout_names("mediapipe33")
_SURE = 0.3
"""A proposal with this score is a person even where the landmark network sees none."""
_AGREE = 0.4
"""The similarity of landmarks and proposal from which on they show the same person."""


class MovenetDetector:
    """Finds everyone, with MediaPipe's 33 landmarks and their lift. One for each thread that uses it."""

    def __init__(
        self,
        *,
        quick: bool = False,
        tta: bool = False,
        hands: bool = False,
        face: bool = False,
        masks: bool = False,
        max_people: int | None = None,
    ) -> None:
        """`quick` looks once at the whole picture, small, and once at each person: a tenth of the work, for people of
        at least a third of the picture's height who are not crowded."""
        if max_people is not None and max_people < 1:
            raise OptionError(f"max_people must be at least 1, or None for everyone, got {max_people}")
        self._proposer, self._networks = Multipose(), Blazepose(masks=masks)
        self._quick, self._tta, self._max_people = quick, tta, max_people

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """One list a frame with one entry a person, the largest person first."""
        return [self._people(frame.image) for frame in frames]

    def follow(self, frame: Frame, previous: Sequence[Keypoints2D]) -> list[Keypoints2D | None]:
        """The same people in the next frame, in the same order; None for who is no longer seen where he was.

        One look of the landmark network each, about 20 ms, in a region about the last keypoints: for motion up to
        about a tenth of a person's height between frames.
        """
        return [self._again(frame.image, person) for person in previous]

    def _people(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Keypoints2D]:
        found = []
        for proposal in propose(self._proposer, image, quick=self._quick):
            person = self._confirm(image, proposal)
            if person is not None and not any(_same(person, other) for other in found):
                found.append(person)
        found.sort(key=lambda person: -_height_px(person))
        return found[: self._max_people]

    def _confirm(self, image: UInt8[np.ndarray, "H W 3"], proposal: Proposal) -> Keypoints2D | None:
        """The landmarks of a proposed person; the proposal's own points where the networks disagree."""
        size = image.shape[1], image.shape[0]
        first = self._networks.landmarks(image, region(proposal.xyc))
        looks = [] if first is None else [first, *([] if self._quick else self._looks(image, first.next_roi))]
        looks = [look for look in looks if oks(_seen(look), proposal.xyc, proposal.height_px) > _AGREE]
        if looks:
            mean, agreement = consensus(looks)
            return replace(keypoints_from(mean, size, proposal.score, agreement), box=proposal.box)
        return _as_proposed(proposal) if proposal.score >= _SURE else None

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

    def _again(self, image: UInt8[np.ndarray, "H W 3"], person: Keypoints2D) -> Keypoints2D | None:
        look = self._networks.landmarks(image, region(as_coco(person.xyc)))
        if look is None:
            return None
        size = image.shape[1], image.shape[0]
        now = keypoints_from(look, size, person.score, np.ones(len(_LANDMARKS)))
        # Between two frames a person moves by less than his own width: what is farther is somebody else.
        near = oks(as_coco(now.xyc), as_coco(person.xyc), 3 * _height_px(person)) > 0.5
        return now if near else None


def region(xyc: Float[np.ndarray, "17 3"]) -> Roi:
    """The square in which the landmark network expects a person with these keypoints of COCO's.

    Centred between the hips, turned with the trunk. Its side is 1.25 times the circle that holds the person: at least
    4.1 trunks, so that unseen legs have their place, and what the farthest keypoint needs.
    """
    point = dict(zip(_COCO, xyc, strict=True))
    hips, shoulders = (0.5 * (point[f"left_{part}"] + point[f"right_{part}"])[:2] for part in ("hip", "shoulder"))
    seen = xyc[xyc[:, 2] > 0.2, :2]
    reach = np.linalg.norm(seen - hips, axis=1).max(initial=0.0)
    trunk = float(np.hypot(*(shoulders - hips)))
    up = shoulders - hips
    angle = float(np.arctan2(up[0], -up[1])) if trunk > 0 else 0.0
    return Roi(float(hips[0]), float(hips[1]), max(16.0, 4.1 * trunk, 2.75 * float(reach)), angle)


def _seen(look: Landmarks) -> Float[np.ndarray, "17 3"]:
    """What COCO calls a look's landmarks; their confidence that of being within the region."""
    return as_coco(np.concatenate([look.xy_px, look.presence[:, None]], 1))


def _as_proposed(proposal: Proposal) -> Keypoints2D:
    """The proposal alone, in MediaPipe's layout: without lift, and without hands, feet and mouth."""
    xyc = np.zeros((len(_LANDMARKS), 3), np.float32)
    xyc[COCO_ROWS] = proposal.xyc
    return Keypoints2D("mediapipe33", xyc, score=min(1.0, max(0.0, proposal.score)), box=proposal.box)


def _same(a: Keypoints2D, b: Keypoints2D) -> bool:
    return oks(as_coco(a.xyc), as_coco(b.xyc), max(_height_px(a), _height_px(b))) > 0.5


def _height_px(person: Keypoints2D) -> float:
    x0, y0, x1, y1 = person.box_px()
    return max(1.0, x1 - x0, y1 - y0)
