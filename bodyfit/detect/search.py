"""Where to look for people with a network that finds six in a pass, and whom to take as found twice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from bodyfit.detect.multipose import Multipose, Proposal
from bodyfit.detect.regions import Box
from bodyfit.detect.similarity import oks

__all__ = ["distinct", "propose", "squares"]

_SMALL_PX = 256
"""Longer side of the first look, which finds the very large."""
_LARGE_PX = 512
"""Longer side of the second look, which finds people from about a tenth of the picture's longer side."""
_TILE_PX = 320
"""Side of a tile as the network sees it."""
_MIN_SCORE = 0.1
"""Below it nearly everything is a ghost."""


def propose(network: Multipose, image: UInt8[np.ndarray, "H W 3"], *, quick: bool = False) -> list[Proposal]:
    """Everyone in a picture, each once, the surest first: whole at two scales, then in tiles where people are small.

    `quick` stays with the first scale, and with the large.
    """
    size = image.shape[1], image.shape[0]
    whole: Box = (0, 0, *size)
    found = [
        p for side in ((_SMALL_PX,) if quick else (_SMALL_PX, _LARGE_PX)) for p in network.people(image, whole, side)
    ]
    found = distinct([p for p in found if p.score >= _MIN_SCORE])
    if quick:
        return found
    for box in squares(size, 384):
        found += [_cut_short(p, box, size) for p in network.people(image, box, 384)]
    return distinct([p for p in found if p.score >= _MIN_SCORE])


def distinct(found: Sequence[Proposal]) -> list[Proposal]:
    """The proposals without those that show someone who another shows better, the surest first."""
    kept: list[Proposal] = []
    for one in sorted(found, key=lambda p: -p.score):
        if not any(_same(one, other) or _inside(one, other) for other in kept):
            kept.append(one)
    return kept


def squares(size: tuple[int, int], side: int, overlap: float = 0.25) -> list[Box]:
    """Squares that cover a picture and overlap by at least a part of their side; smaller where the picture is."""
    w, h = size

    def starts(n: int) -> list[int]:
        if n <= side:
            return [0]
        count = math.ceil((n - side) / (side * (1 - overlap)) - 1e-6) + 1
        return [round(x) for x in np.linspace(0, n - side, count)]

    return [(x, y, min(w, x + side), min(h, y + side)) for y in starts(h) for x in starts(w)]


def _same(a: Proposal, b: Proposal) -> bool:
    return oks(a.xyc, b.xyc, max(a.height_px, b.height_px)) > 0.45


def _inside(small: Proposal, large: Proposal) -> bool:
    """Whether one is a lesser finding on the body of the other."""
    x0, y0, x1, y1 = small.box
    a0, b0, a1, b1 = large.box
    common = max(0.0, min(x1, a1) - max(x0, a0)) * max(0.0, min(y1, b1) - max(y0, b0))
    area = max(1.0, (x1 - x0) * (y1 - y0))
    return common > 0.8 * area and small.height_px < 0.65 * large.height_px and small.score < 0.6 * large.score


def _cut_short(person: Proposal, tile: Box, size: tuple[int, int]) -> Proposal:
    """A proposal at a tile's edge within the picture counts less: another tile may show all of the person."""
    from dataclasses import replace

    margin = 0.03 * person.height_px
    low = [person.box[i] < tile[i] + margin and tile[i] > 0 for i in (0, 1)]
    high = [person.box[i + 2] > tile[i + 2] - margin and tile[i + 2] < size[i] for i in (0, 1)]
    return replace(person, score=0.6 * person.score) if any((*low, *high)) else person
