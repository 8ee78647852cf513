"""MoveNet MultiPose Lightning: up to 24 people and their 17 keypoints in one pass, by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8

from bodyfit.detect.networks.peaks import PeakMaps, PeakPoints, hints_in, people_in
from bodyfit.detect.networks.session import shipped_network
from bodyfit.detect.regions import Box

__all__ = ["Look", "Multipose", "Proposal"]

_STRIDE = 32
"""Sides of the input are multiples of it."""
_MIN_SCORE = 0.05
"""Below it nearly everything is a ghost."""
_MIN_HINT = 0.1
"""Probability of a centre from which on a closer look may show somebody."""


@dataclass(frozen=True)
class Proposal:
    """A person that MoveNet sees."""

    xyc: Float[np.ndarray, "17 3"]
    """COCO's keypoints, pixels of the whole picture and confidence; hidden ones are guessed, with low confidence."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1, pixels."""
    score: float
    """In [0, 1]."""
    zoom: float
    """Pixels of the network's input for one of the picture: how closely was looked."""
    looks: int = 1
    """How many looks at the picture saw this person."""
    cut: bool = False
    """Whether the look ended at the person, who may go on beyond."""
    hinted: bool = False
    """Whether a closer look at a hint showed this person, whom no look before saw well."""

    @property
    def height_px(self) -> float:
        """The longer side of the box, pixels of the picture; at least 1."""
        return max(1.0, self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True)
class Look:
    """What a pass shows."""

    people: list[Proposal]
    """The surest first."""
    hints: Float[np.ndarray, "n 2"]
    """Where a person's centre may be, pixels of the picture: people's and others', the likeliest first."""


class Multipose:
    """The network, loaded. Safe to share between threads.

    `threads` are those of one pass; None asks OMP_NUM_THREADS, and without it takes a thread for each core.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._maps, self._points = shipped_network("movenet_maps", threads), shipped_network("movenet_points", 1)

    def people(self, image: UInt8[np.ndarray, "H W 3"], box: Box, side_px: int) -> list[Proposal]:
        """Who is in a box of the picture, shown to the network with its longer side `side_px` long; best first."""
        return self.look(image, box, side_px).people

    def look(self, image: UInt8[np.ndarray, "H W 3"], box: Box, side_px: int) -> Look:
        """Detect the people in a box, as `people`, and the places where others may be.

        Whom the network gives less than a twentieth is left out: nearly all of that are ghosts.
        """
        from PIL import Image

        x0, y0, x1, y1 = box
        zoom = side_px / max(x1 - x0, y1 - y0)
        w, h = (max(1, round(zoom * n)) for n in (x1 - x0, y1 - y0))
        part = Image.fromarray(np.ascontiguousarray(image[y0:y1, x0:x1])).resize((w, h), Image.Resampling.BILINEAR)
        padded = np.zeros((1, *(-(-n // _STRIDE) * _STRIDE for n in (h, w)), 3), np.uint8)
        padded[0, :h, :w] = np.asarray(part)
        centre, heat, features = self._maps.run(["centre", "heat", "features"], {"input": padded})
        maps = PeakMaps(centre.reshape(heat.shape[2:]), heat[0], features[0])
        # Places are parts of the padded sides.
        scale, corner = np.array([padded.shape[2] * (x1 - x0) / w, padded.shape[1] * (y1 - y0) / h]), np.array((x0, y0))
        found = []
        for one in people_in(maps, self._read, _MIN_SCORE):
            xyc = np.concatenate([one.xyc[:, :2] * scale + corner, one.xyc[:, 2:]], 1)
            left, top, right, bottom = (np.reshape(one.box, (2, 2)) * scale + corner).ravel().tolist()
            found.append(Proposal(xyc, (left, top, right, bottom), one.score, zoom))
        return Look(sorted(found, key=lambda person: -person.score), hints_in(maps, _MIN_HINT) * scale + corner)

    def _read(self, patches: Float32[np.ndarray, "n 24 3 3"]) -> PeakPoints:
        names = list(PeakPoints._fields)
        return PeakPoints(*(out[:, :, 0, 0] for out in self._points.run(names, {"features": patches})))
