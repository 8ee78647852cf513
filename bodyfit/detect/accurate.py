"""Everyone in a picture, looked at longer: the heavy landmark network, with MoveNet Thunder as a second opinion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.detect.movenet import MovenetDetector, region
from bodyfit.detect.networks.landmarks import Landmarks
from bodyfit.detect.networks.multipose import Proposal
from bodyfit.detect.networks.single_pose import SinglePose
from bodyfit.detect.regions import Roi
from bodyfit.detect.search.consensus import AGREE
from bodyfit.detect.search.second_opinion import seconded
from bodyfit.detect.search.similarity import as_coco, oks
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names, mirrored_rows
from bodyfit.tracker import height_px

__all__ = ["AccurateDetector"]

_CLOSE = 0.85
"""The side of the region that Thunder sees, in that of the landmark network: of 0.85, 1 and 1.2 it errs least so."""
_SAME = 0.4
"""The similarity from which on Thunder shows the person that was proposed."""
_SWAP = mirrored_rows(layout_names("coco17"))


class AccurateDetector(MovenetDetector):
    """Finds everyone as `MovenetDetector` does, and looks at each with larger networks. One for each thread.

    The heavy landmark network looks four times or more. MoveNet Thunder looks twice at the 17 points that it knows, and
    MoveNet MultiPose, which proposed the person, votes where the two differ.
    """

    _SIZE = "heavy"
    _BESIDES = ((0.9, 0.0),)

    def __init__(
        self,
        *,
        tta: bool = False,
        hands: bool = False,
        face: bool = False,
        masks: bool = False,
        max_people: int | None = None,
    ) -> None:
        """`tta` averages twelve looks at each person in place of four to six; the others ask for more of each."""
        super().__init__(tta=tta, hands=hands, face=face, masks=masks, max_people=max_people)
        self._second = SinglePose()

    def _keypoints(
        self, image: UInt8[np.ndarray, "H W 3"], looks: Sequence[Landmarks], proposal: Proposal
    ) -> Keypoints2D:
        person = super()._keypoints(image, looks, proposal)
        roi = looks[0].next_roi
        found = [self._second_look(image, roi), self._second_look(image, roi, mirrored=True)]
        found = [one for one in found if one is not None and oks(one, proposal.xyc, proposal.height_px) >= _SAME]
        if not found:
            return person
        size = image.shape[1], image.shape[0]
        return seconded(person, np.mean(found, axis=0), proposal.xyc, AGREE * roi.size, size)

    def _again(self, image: UInt8[np.ndarray, "H W 3"], person: Keypoints2D) -> Keypoints2D | None:
        now = super()._again(image, person)
        if now is None:
            return None
        roi = region(as_coco(now.xyc))
        second = self._second_look(image, roi)
        if second is None or oks(second, as_coco(now.xyc), height_px(now)) < _SAME:
            return now
        return seconded(now, second, None, AGREE * roi.size, (image.shape[1], image.shape[0]))

    def _second_look(
        self, image: UInt8[np.ndarray, "H W 3"], roi: Roi, *, mirrored: bool = False
    ) -> Float[np.ndarray, "17 3"] | None:
        """The keypoints that Thunder sees in a region of the landmark network, or in that of the mirrored picture."""
        near = replace(roi, size=_CLOSE * roi.size)
        if not mirrored:
            return self._second.keypoints(image, near)
        width = image.shape[1]
        found = self._second.keypoints(image[:, ::-1], replace(near, x=width - roi.x, angle=-roi.angle))
        return None if found is None else found[_SWAP] * (-1, 1, 1) + (width, 0, 0)
