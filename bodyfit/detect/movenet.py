"""Everyone in a picture: MoveNet says where people are, MediaPipe's landmark network looks at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.networks.landmarks import Landmarker, Landmarks, keypoints_from
from bodyfit.detect.networks.multipose import Multipose, Proposal
from bodyfit.detect.networks.threads import look_threads, started
from bodyfit.detect.parts import FaceFinder, HandFinder, each_once
from bodyfit.detect.regions import Roi
from bodyfit.detect.search.closeup import extent_px, head_region
from bodyfit.detect.search.consensus import consensus, mirrored
from bodyfit.detect.search.people import propose
from bodyfit.detect.search.repair import as_proposed, believable, reconciled
from bodyfit.detect.search.similarity import HEAD_AND_SHOULDERS, as_coco, oks
from bodyfit.errors import OptionError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = ["MovenetDetector", "region"]

_COCO, _LANDMARKS = layout_names("coco17"), layout_names("mediapipe33")
_FACE = [i for i, name in enumerate(_LANDMARKS) if any(part in name for part in ("nose", "eye", "ear", "mouth"))]
_AGREE = 0.4
"""The similarity of landmarks and proposal from which on they show the same person."""
_WIDER = 1.15
"""How much farther away the third look is taken from."""
_MORE = ((0.9, 0.0), (1.0, 0.15), (1.0, -0.15), (1.25, 0.0))
"""Sizes and turns (radians) of the regions that `tta` looks at besides, each of them also mirrored."""


class MovenetDetector:
    """Finds everyone, with MediaPipe's 33 landmarks and a lift by the picture. One for each thread that uses it."""

    _SIZE: ClassVar[Literal["full", "heavy"]] = "full"
    """Of the landmark network."""
    _BESIDES: ClassVar[tuple[tuple[float, float], ...]] = ()
    """Sizes and turns of the regions that are looked at in any case besides the first, each of them also mirrored."""

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
        """`tta` averages twelve looks at each person in place of two to four; the others ask for more of each. `quick`
        looks once at the whole picture, small, and once at each person: for few people who are large in it."""
        if max_people is not None and max_people < 1:
            raise OptionError(f"max_people must be at least 1, or None for everyone, got {max_people}")
        self._proposer, self._networks = Multipose(), Landmarker(self._SIZE, masks=masks, lift=True)
        self._hands, self._face = HandFinder() if hands else None, FaceFinder() if face else None
        self._quick, self._max_people = quick, max_people
        self._besides = _MORE if tta else self._BESIDES
        self._threads = look_threads()

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """One list a frame with one entry a person, the largest person first."""
        return [self._people(frame.image) for frame in frames]

    def follow(self, frame: Frame, previous: Sequence[Keypoints2D]) -> list[Keypoints2D | None]:
        """Track people into the next frame, in the same order; None for a person who is not detected nearby.

        One look of the landmark network each, about 12 ms, in a region about the last keypoints: for motion up to
        about a tenth of a person's height between frames. `previous` may have any layout with COCO's names.
        """
        with started([partial(self._again, frame.image, person) for person in previous], self._threads) as looks:
            people = [look() for look in looks]
        return [person and self._in_full(frame.image, [person])[0] for person in people]

    def _people(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Keypoints2D]:
        found: list[Keypoints2D] = []
        proposals = propose(self._proposer, image, quick=self._quick, threads=self._threads)
        calls = [partial(self._confirm, image, one, [p for p in proposals if p is not one]) for one in proposals]
        with started(calls, self._threads) as looks:
            for proposal, look in zip(proposals, looks, strict=True):
                if any(_is_covered(proposal, person) for person in found):
                    continue
                person = look()
                if person is not None and not any(_same(person, other) for other in found):
                    found.append(person)
        found.sort(key=lambda person: -_height_px(person))
        return self._in_full(image, found[: self._max_people])

    def _in_full(self, image: UInt8[np.ndarray, "H W 3"], people: Sequence[Keypoints2D]) -> list[Keypoints2D]:
        """The people with hands and face, where they were asked for."""
        found = list(people)
        if self._hands is not None:
            with started([partial(self._hands.hands, image, person.xyc) for person in found], self._threads) as looks:
                hands = each_once([look() for look in looks])
            found = [replace(person, hands=of) for person, of in zip(found, hands, strict=True)]
        if self._face is not None:
            with started([partial(self._face.face, image, person.xyc) for person in found], self._threads) as looks:
                faces = [look() for look in looks]
            found = [
                replace(person, face=face and face.mesh, irises=face and face.irises)
                for person, face in zip(found, faces, strict=True)
            ]
        return found

    def _confirm(
        self, image: UInt8[np.ndarray, "H W 3"], proposal: Proposal, others: Sequence[Proposal]
    ) -> Keypoints2D | None:
        """A proposed person's landmarks, checked against the proposal; its own points where they show another."""
        large = head_region(proposal.xyc)
        if not believable(proposal, 1.0, 1.0, float(large is not None)):
            return None
        looks = self._looks(image, large or trunk_region(proposal.xyc), proposal)
        agreeing = [look for look in looks if _similarity(look, proposal) >= _AGREE]
        if large is not None and not agreeing:  # the head may look smaller or larger than it is
            looks = self._looks(image, trunk_region(proposal.xyc), proposal)
            agreeing = [look for look in looks if _similarity(look, proposal) >= _AGREE]
        best = max((_similarity(look, proposal) for look in looks), default=0.0)
        visible = max((float(look.visibility.mean()) for look in looks), default=0.0)
        face = max((float(look.visibility[_FACE].mean()) for look in agreeing), default=0.0)
        if not believable(proposal, best, visible, face if large is not None else 0.0):
            return None
        if not agreeing:
            return as_proposed(proposal)
        person = self._keypoints(image, agreeing, proposal)
        return reconciled(replace(person, box=proposal.box), proposal, others)

    def _keypoints(
        self, image: UInt8[np.ndarray, "H W 3"], looks: Sequence[Landmarks], proposal: Proposal
    ) -> Keypoints2D:
        """What the looks at a person say together."""
        mean, agreement = consensus(looks)
        person = keypoints_from(mean, (image.shape[1], image.shape[0]), proposal.score, agreement)
        return replace(person, mask=mean.mask)

    def _looks(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi, proposal: Proposal) -> list[Landmarks]:
        """A look, another at the mirrored picture, and more where the two disagree or `tta` asks for it."""
        first = self._networks.landmarks(image, roi)
        if self._quick:
            return [] if first is None else [first]
        if first is not None and _similarity(first, proposal) >= _AGREE:
            roi = first.next_roi
        looks = [first, self._mirrored(image, roi)]
        found = [look for look in looks if look is not None]
        for size, turn in self._besides:
            other = replace(roi, size=size * roi.size, angle=roi.angle + turn)
            found += [k for k in (self._networks.landmarks(image, other), self._mirrored(image, other)) if k]
        if len(found) < 2 or consensus(found)[1].mean() < 0.95:
            wider = replace(roi, size=_WIDER * roi.size)
            found += [k for k in (self._networks.landmarks(image, roi), self._networks.landmarks(image, wider)) if k]
        return found

    def _mirrored(self, image: UInt8[np.ndarray, "H W 3"], roi: Roi) -> Landmarks | None:
        width = image.shape[1]
        look = self._networks.landmarks(image[:, ::-1], Roi(width - roi.x, roi.y, roi.size, -roi.angle))
        return look and mirrored(look, float(width))

    def _again(self, image: UInt8[np.ndarray, "H W 3"], person: Keypoints2D) -> Keypoints2D | None:
        names = layout_names(person.layout)
        before = person.xyc[[names.index(name) for name in _COCO]]
        look = self._networks.landmarks(image, region(before))
        if look is None:
            return None
        now = keypoints_from(look, (image.shape[1], image.shape[0]), person.score, np.ones(len(_LANDMARKS)))
        # Between two frames a person moves by less than his own width: what is farther is somebody else.
        near = oks(as_coco(now.xyc), before, 3 * _height_px(person)) > 0.5
        return replace(now, mask=look.mask) if near else None


def region(xyc: Float[np.ndarray, "17 3"]) -> Roi:
    """The square in which the landmark network expects a person with these keypoints of COCO's.

    Where no hip is seen, the head says where they are: a close-up lies in the upper part of a square that is larger
    than the picture.
    """
    return head_region(xyc) or trunk_region(xyc)


def trunk_region(xyc: Float[np.ndarray, "17 3"]) -> Roi:
    """The square about a person whose hips have a place, be it a guess.

    Centred between the hips, turned with the trunk. Its side is 1.25 times the circle that holds the person: at least
    4.1 trunks, so that unseen legs have their place, and what the farthest keypoint needs.
    """
    point = dict(zip(_COCO, xyc, strict=True))
    hips, shoulders = (0.5 * (point[f"left_{part}"] + point[f"right_{part}"])[:2] for part in ("hip", "shoulder"))
    seen = xyc[xyc[:, 2] > 0.2, :2]
    reach = np.linalg.norm(seen - hips, axis=1).max(initial=0.0)
    up = shoulders - hips
    trunk = float(np.hypot(*up))
    angle = float(np.arctan2(up[0], -up[1])) if trunk > 0 else 0.0
    return Roi(float(hips[0]), float(hips[1]), max(16.0, 4.1 * trunk, 2.75 * float(reach)), angle)


def _similarity(look: Landmarks, proposal: Proposal) -> float:
    """Compute the similarity of landmarks and the proposal that led to them."""
    seen = as_coco(np.concatenate([look.xy_px, look.presence[:, None]], 1))
    return oks(seen, proposal.xyc, extent_px(proposal.xyc) or proposal.height_px)


def _is_covered(proposal: Proposal, person: Keypoints2D) -> bool:
    """Whether a proposal shows someone who was found before."""
    height = max(_height_px(person), proposal.height_px)
    return oks(as_coco(person.xyc), proposal.xyc, height) > 0.5


def _same(a: Keypoints2D, b: Keypoints2D) -> bool:
    one, other, height = as_coco(a.xyc), as_coco(b.xyc), max(_height_px(a), _height_px(b))
    return oks(one, other, height) > 0.5 or oks(one, other, height, of=HEAD_AND_SHOULDERS) > 0.6


def _height_px(person: Keypoints2D) -> float:
    x0, y0, x1, y1 = person.box_px()
    return max(1.0, x1 - x0, y1 - y0)
