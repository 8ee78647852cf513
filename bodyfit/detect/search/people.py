"""Where to look for people with a network that finds a group in a pass, and whom to take as found twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import UInt8

from bodyfit.detect.networks.multipose import Look, Multipose, Proposal
from bodyfit.detect.networks.threads import started
from bodyfit.detect.regions import Box
from bodyfit.detect.search.similarity import HEAD_AND_SHOULDERS, oks

__all__ = ["distinct", "propose", "same_person", "squares"]

_FAR_PX, _NEAR_PX = 256, 512
"""Longer side of the whole picture as the network sees it: at 256 the very large are found and those who stand close
together, at 512 people from about a tenth of the picture's longer side."""
_FARTHEST_PX, _SURELY = 128, 0.3
"""Where no look shows somebody with this score, one from farther away may show a face that fills the picture."""
_ALONE_PX = 320
"""Where the near look shows one person alone, surely and no taller than this, the far one is left out."""
_LARGEST_PX2 = 600_000
"""Area of the third and closest look at a whole picture that is larger than 640 px: people from a twenty-fifth."""
_HINT_PX, _HINT_ZOOM = 160, 1.6
"""Side of a look at a hint of somebody, pixels of the closest look at the whole picture; how much closer it is."""
_MAX_HINTS = 8
"""Such looks in all, at about 10 ms each."""
_MIN_SCORE = 0.2
"""A hint on somebody who scores so much is no news."""
_TILE_PX = 384
"""Side of a tile as the network sees it."""
_SMALL_PX = 80
"""Who is smaller than this in the network's input is looked at twice as closely, for others beside him."""
_MAX_TILES = 16
"""Tiles in all, at about 20 ms each: a crowd in a large picture takes a third of a second more."""
_NEAREST_PX = 160
"""No tile is smaller: what fills a tenth of it has too few pixels."""


def propose(
    network: Multipose, image: UInt8[np.ndarray, "H W 3"], *, quick: bool = False, threads: int = 1
) -> list[Proposal]:
    """Everyone in a picture, each once, the surest first: whole at up to four scales, then where somebody may be whom
    these did not show, then tiles about small people.

    `quick` looks at the whole picture at the smallest scale alone. So many `threads` prepare and run passes side by
    side; what is found does not depend on them.
    """

    def seen(passes: Sequence[tuple[Box, int]]) -> list[Look]:
        with started([partial(network.look, image, box, side) for box, side in passes], threads) as looks:
            return [look() for look in looks]

    size = image.shape[1], image.shape[0]
    if quick:
        return distinct(network.people(image, (0, 0, *size), _FAR_PX))
    closest = min(max(size), round((_LARGEST_PX2 * max(size) / min(size)) ** 0.5))
    sides = [_NEAR_PX, *([min(closest, 1280)] if closest > 640 else [])]
    looks = seen([((0, 0, *size), side) for side in sides])
    found = [p for look in looks for p in look.people]
    if not _alone(looks[0].people):
        found += network.people(image, (0, 0, *size), _FAR_PX)
        if all(p.score < _SURELY for p in found):
            found += network.people(image, (0, 0, *size), _FARTHEST_PX)
    zoom, left = sides[-1] / max(size), _MAX_TILES
    for box, look in _closer(looks[-1], found, zoom, size, seen):
        found += [replace(_cut_short(p, box, size), hinted=True) for p in look.people]
    small = [p for p in found if p.zoom == zoom and _small(p)]
    while small and left > 0 and (side := round(_TILE_PX / (2 * zoom))) >= _NEAREST_PX:
        zoom = _TILE_PX / side
        boxes = [box for box in squares(size, side) if any(_middle_in(p, box) for p in small)][:left]
        left -= len(boxes)
        tiles = zip(boxes, seen([(box, _TILE_PX) for box in boxes]), strict=True)
        here = [_cut_short(p, box, size) for box, look in tiles for p in look.people]
        small = [p for p in here if _small(p)]
        found += here
    return distinct(found)


def _alone(people: Sequence[Proposal]) -> bool:
    """Whether a look shows one person, surely, and not so large that a look from afar may show more."""
    return (
        bool(people)
        and people[0].score >= 0.5
        and people[0].height_px * people[0].zoom <= _ALONE_PX
        and all(p.score < 0.1 for p in people[1:])
    )


def _closer(
    whole: Look,
    found: Sequence[Proposal],
    zoom: float,
    size: tuple[int, int],
    seen: Callable[[Sequence[tuple[Box, int]]], list[Look]],
) -> list[tuple[Box, Look]]:
    """Looks at where the closest look at the whole picture hints at somebody whom no look has found."""
    side = round(_HINT_PX / zoom)
    boxes: list[Box] = []
    for x, y in whole.hints:
        known = any(p.score >= _MIN_SCORE and p.box[0] < x < p.box[2] and p.box[1] < y < p.box[3] for p in found)
        inner = 0.25 * side
        if known or any(b[0] + inner <= x <= b[2] - inner and b[1] + inner <= y <= b[3] - inner for b in boxes):
            continue
        left, top = (round(min(max(0.0, at - side / 2), max(0, n - side))) for at, n in ((x, size[0]), (y, size[1])))
        boxes.append((left, top, min(size[0], left + side), min(size[1], top + side)))
    boxes = boxes[:_MAX_HINTS]
    closer = _HINT_ZOOM * zoom
    sides = [round(closer * max(box[2] - box[0], box[3] - box[1])) for box in boxes]
    return list(zip(boxes, seen(list(zip(boxes, sides, strict=True))), strict=True))


def distinct(found: Sequence[Proposal]) -> list[Proposal]:
    """One proposal for each person, the surest, with the number of looks that saw him; the surest person first."""
    merged: list[Proposal] = []
    for one in sorted(found, key=lambda p: (p.cut, -p.score)):
        for i, other in enumerate(merged):
            if same_person(one, other):
                merged[i] = replace(other, looks=other.looks + one.looks)
                break
            if _piece(one, other):
                break
        else:
            merged.append(one)
    return sorted(merged, key=lambda p: -p.score)


def squares(size: tuple[int, int], side: int, overlap: float = 0.25) -> list[Box]:
    """Squares that cover a picture and overlap by at least a part of their side; smaller where the picture is."""
    w, h = size

    def starts(n: int) -> list[int]:
        if n <= side:
            return [0]
        count = math.ceil((n - side) / (side * (1 - overlap)) - 1e-6) + 1
        return [round(x) for x in np.linspace(0, n - side, count)]

    return [(x, y, min(w, x + side), min(h, y + side)) for y in starts(h) for x in starts(w)]


def _small(person: Proposal) -> bool:
    return person.score > 0.15 and not person.cut and person.height_px * person.zoom < _SMALL_PX


def _middle_in(person: Proposal, box: Box) -> bool:
    x, y = 0.5 * (person.box[0] + person.box[2]), 0.5 * (person.box[1] + person.box[3])
    return box[0] <= x < box[2] and box[1] <= y < box[3]


def same_person(a: Proposal, b: Proposal) -> bool:
    """By all keypoints, by head and shoulders, which two people never have in one place, or by the boxes.

    Two looks may see the limbs of one person differently; hardly ever do two people fill one box.
    """
    height, common = max(a.height_px, b.height_px), _common(a.box, b.box)
    shared = common / (_area(a.box) + _area(b.box) - common)
    alike = oks(a.xyc, b.xyc, height) > (0.25 if shared > 0.5 else 0.45)
    return alike or shared > 0.7 or oks(a.xyc, b.xyc, height, of=HEAD_AND_SHOULDERS) > 0.6


def _piece(small: Proposal, large: Proposal) -> bool:
    """Whether one is a lesser finding on the body of the other, or what a tile's edge left of it."""
    within = _common(small.box, large.box) / _area(small.box)
    if small.cut:
        return within > 0.6
    return within > 0.8 and small.height_px < 0.65 * large.height_px and small.score < 0.6 * large.score


def _cut_short(person: Proposal, tile: Box, size: tuple[int, int]) -> Proposal:
    """A proposal at a tile's edge within the picture counts less: another tile may show all of the person."""
    margin = 0.03 * person.height_px
    low = [person.box[i] < tile[i] + margin and tile[i] > 0 for i in (0, 1)]
    high = [person.box[i + 2] > tile[i + 2] - margin and tile[i + 2] < size[i] for i in (0, 1)]
    return replace(person, score=0.6 * person.score, cut=True) if any((*low, *high)) else person


def _common(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _area(box: Sequence[float]) -> float:
    return max(1e-6, (box[2] - box[0]) * (box[3] - box[1]))
