"""Two networks on the keypoints of one person: what to make of them together, with a third where they differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from bodyfit.detect.search.similarity import COCO_ROWS, as_coco
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = ["seconded"]

_COCO, _LANDMARKS = layout_names("coco17"), layout_names("mediapipe33")
_BEYOND = {
    "wrist": ("pinky_knuckle", "index_knuckle", "thumb_knuckle"),
    "ankle": ("heel", "big_toe"),
}
"""Landmarks that COCO has not, by the joint that they go with."""
_ALONE = 0.5
"""What is left of the confidence of a point that neither of the other two confirms: two thirds of these are off by more
than a tenth of the person's box (`scripts/bench/tta.py`)."""


def seconded(
    person: Keypoints2D,
    second: Float[np.ndarray, "17 3"],
    third: Float[np.ndarray, "17 3"] | None,
    reach_px: float,
    size: tuple[int, int],
) -> Keypoints2D:
    """Combine landmarks (mediapipe33) with COCO's keypoints of a second network, and of a third that votes.

    Points within `reach_px` of each other agree: the mean is taken, and it is wrong only if both are, so that its doubt
    (1 - confidence) is the product of the two. Where they differ, the one that the third agrees with is taken; the
    second network's has no lift, and what goes with the joint is dropped. What nobody confirms keeps half of its
    confidence.
    Confidence of points beyond the picture's edge (size: width and height, pixels) is not raised.
    """
    xyc = person.xyc.copy()
    lift = None if person.lift_m is None else person.lift_m.copy()
    first = as_coco(person.xyc)
    agree = np.linalg.norm(first[:, :2] - second[:, :2], axis=1) <= reach_px
    moved, confirmed = np.zeros(17, bool), agree
    if third is not None:
        to_first, to_second = (np.linalg.norm(one[:, :2] - third[:, :2], axis=1) for one in (first, second))
        moved = ~agree & (to_second < to_first) & (to_second <= reach_px)
        confirmed = agree | (~moved & (to_first <= reach_px))
    mean = 0.5 * (first[:, :2] + second[:, :2])
    inside = np.all((mean >= 0) & (mean <= size), axis=1)
    both = np.where(inside, 1 - (1 - first[:, 2]) * (1 - np.clip(second[:, 2], 0, 1)), first[:, 2])
    together = np.concatenate([mean, both[:, None]], 1)
    xyc[COCO_ROWS[agree]] = together[agree]
    xyc[COCO_ROWS[moved]] = second[moved]
    xyc[COCO_ROWS[~confirmed & ~moved], 2] *= _ALONE
    for at, rows in _hanging():
        xyc[rows, 2] *= 0.0 if moved[at] else 1.0 if confirmed[at] else _ALONE
    if lift is not None:
        lift[COCO_ROWS[moved]] = np.nan
        lift[[row for at, rows in _hanging() if moved[at] for row in rows]] = np.nan
    return replace(person, xyc=xyc, lift_m=lift)


def _hanging() -> list[tuple[int, list[int]]]:
    """Rows of COCO's joints, and of the landmarks that go with each."""
    return [
        (_COCO.index(f"{side}_{joint}"), [_LANDMARKS.index(f"{side}_{part}") for part in parts])
        for joint, parts in _BEYOND.items()
        for side in ("left", "right")
    ]
