"""Masks of people in pictures and clips as evidence for a fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from bodyfit.fit.silhouette.masks import PersonMask, outline_of
from bodyfit.keypoints import Keypoints2D, SoftMask
from bodyfit.raster.outline import Outline

__all__ = ["masks_of", "with_outlines"]

_POINTS = 300
"""Most points of an outline in a clip: two centimetres apart."""


def masks_of(people: Sequence[Keypoints2D], picture_px: tuple[int, int]) -> list[PersonMask | Outline | None]:
    """Make the masks of the people of one picture (`Evidence.masks`).

    Where two people's masks meet, either may be before the other: that edge tells nothing.
    """
    return [
        PersonMask(person.mask, picture_px, _others(people, i, person.mask))
        if isinstance(person.mask, SoftMask)
        else person.mask
        for i, person in enumerate(people)
    ]


def _others(people: Sequence[Keypoints2D], own: int, mask: SoftMask) -> SoftMask | None:
    """Put the masks of all other people together, in the box of a mask and a margin about it."""
    h, w = mask.alpha.shape
    margin = max(h, w) // 20 + 2
    x0, y0 = mask.corner_px[0] - margin, mask.corner_px[1] - margin
    whole = np.zeros((h + 2 * margin, w + 2 * margin), np.uint8)
    for i, person in enumerate(people):
        if i == own or not isinstance(person.mask, SoftMask):
            continue
        (x, y), (rows, columns) = person.mask.corner_px, person.mask.alpha.shape
        top, left = max(y - y0, 0), max(x - x0, 0)
        bottom, right = min(y - y0 + rows, whole.shape[0]), min(x - x0 + columns, whole.shape[1])
        if bottom > top and right > left:
            part = person.mask.alpha[top + y0 - y : bottom + y0 - y, left + x0 - x : right + x0 - x]
            np.maximum(whole[top:bottom, left:right], part, out=whole[top:bottom, left:right])
    # What is both is this person's where their mask is the surer one.
    inner = whole[margin : margin + h, margin : margin + w]
    inner[inner <= mask.alpha] = 0
    return SoftMask(whole, (x0, y0)) if whole.any() else None


def with_outlines(
    people: Sequence[Keypoints2D], picture_px: tuple[int, int], notes: Counter[str] | None = None
) -> Iterator[Keypoints2D]:
    """Replace masks by their outlines, which take less memory, for people of a clip; None for those of no use.

    notes: counts why masks are of no use.
    """
    for person, mask in zip(people, masks_of(people, picture_px), strict=True):
        if isinstance(mask, PersonMask):
            outline, why = outline_of(mask.mask, picture_px, person.xyc.astype(np.float64), mask.unknown)
            if why is not None and notes is not None:
                notes[why] += 1
            yield replace(person, mask=None if outline is None else outline.thinned(_POINTS))
        else:
            yield person
