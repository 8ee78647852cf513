"""Choose the same person in several pictures: the largest, unless another one clearly has the colours of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = ["person_of", "same_person"]

_LEAST = 0.4
"""Size of the smallest person who may be meant, in parts of the largest."""
_CLEARLY = 0.5
"""How much nearer in colour somebody has to be than the largest person."""
_PARTS = (("shoulder", "hip"), ("hip", "knee"))
"""Trunk and thighs: what lies between these keypoints of both sides."""
_SURE = 0.3
_SAMPLES = 9
_LIGHT = 0.5
"""How much lightness counts beside hue: a person turns in the light."""


def person_of(people: Sequence[Keypoints2D]) -> Keypoints2D | None:
    """Choose the largest person of a picture, by the box about the confident keypoints; None where nobody is."""
    return max(people, key=_size_px, default=None)


def same_person(
    frames: Sequence[Frame],
    people: Sequence[Sequence[Keypoints2D]],
    choices: Sequence[int | None] | None = None,
) -> list[Keypoints2D | None]:
    """Choose one of the people of each picture, so that all are the same one; None where nobody is.

    It is the largest of a picture, unless another one of at least 0.4 times the size has clothes whose colours are less
    than half as far from those of the person in the pictures that show only one (or, where none does, of the largest
    people). choices: index of the person of each frame of a clip, who is taken whatever the colours; None for a
    picture.
    """
    rows = [None] * len(people) if choices is None else choices
    candidates = [found if i is None else [found[i]] for found, i in zip(people, rows, strict=True)]
    chosen = [person_of(found) for found in candidates]
    rivals = [_rivals(found) for found in candidates]
    alone = [i for i, some in enumerate(rivals) if len(some) == 1]
    if all(len(some) < 2 for some in rivals) or len(people) < 2:
        return chosen
    colors = [[_colors(frame, person) for person in some] for frame, some in zip(frames, rivals, strict=True)]
    usual = _median([colors[i][0] for i in alone or [i for i, some in enumerate(rivals) if some]])
    for i, some in enumerate(rivals):
        if len(some) < 2:
            continue
        off = [_distance(own, usual) for own in colors[i]]
        nearest = int(np.argmin(off))
        if off[nearest] < _CLEARLY * off[0]:
            chosen[i] = some[nearest]
    return chosen


def _rivals(people: Sequence[Keypoints2D]) -> list[Keypoints2D]:
    """List the people of a picture who may be meant, the largest first."""
    by_size = sorted(people, key=_size_px, reverse=True)
    return [person for person in by_size if _size_px(person) >= _LEAST * _size_px(by_size[0])]


def _size_px(person: Keypoints2D) -> float:
    x0, y0, x1, y1 = person.box_px()
    return math.hypot(x1 - x0, y1 - y0)


def _colors(frame: Frame, person: Keypoints2D) -> Float[np.ndarray, "P 3"]:
    """Compute the median colours of trunk and thighs, CIELAB; NaN for a part that is not visible."""
    import cv2

    names = layout_names(person.layout)
    found = np.full((len(_PARTS), 3), np.nan)
    for row, ends in enumerate(_PARTS):
        corners = [
            names.index(f"{side}_{end}") for end in ends for side in ("left", "right") if f"{side}_{end}" in names
        ]
        if len(corners) < 4 or person.xyc[corners, 2].min() < _SURE:
            continue
        a, b, c, d = person.xyc[corners, :2]
        down, across = np.meshgrid(np.linspace(0.15, 0.85, _SAMPLES), np.linspace(0.2, 0.8, _SAMPLES))
        down, across = down.reshape(-1, 1), across.reshape(-1, 1)
        at = (1 - down) * ((1 - across) * a + across * b) + down * ((1 - across) * c + across * d)
        column, line = np.floor(at).astype(int).T
        inside = (column >= 0) & (line >= 0) & (column < frame.size[0]) & (line < frame.size[1])
        if inside.any():
            pixels = frame.image[line[inside], column[inside]].astype(np.float32)[None] / 255
            found[row] = np.median(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB))[0], 0)
    return found


def _median(colors: Sequence[Float[np.ndarray, "P 3"]]) -> Float[np.ndarray, "P 3"]:
    """Compute the median colour of each part over pictures that show it; NaN for a part that none shows."""
    stacked = np.stack(colors)
    usual = np.full(stacked.shape[1:], np.nan)
    for row in range(stacked.shape[1]):
        good = stacked[np.isfinite(stacked[:, row]).all(1), row]
        if len(good):
            usual[row] = np.median(good, 0)
    return usual


def _distance(colors: Float[np.ndarray, "P 3"], usual: Float[np.ndarray, "P 3"]) -> float:
    """Compute the mean distance of the parts' colours; infinite where no part is in both."""
    apart = np.linalg.norm((colors - usual) * (_LIGHT, 1.0, 1.0), axis=1)
    apart = apart[np.isfinite(apart)]
    return float(apart.mean()) if len(apart) else math.inf
