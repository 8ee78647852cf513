"""A second opinion where someone seems to turn or blur from one frame to the next: the mirrored picture's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from bodyfit.detect.base import Follower
from bodyfit.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names, mirrored_rows
from bodyfit.tracker import height_px

__all__ = ["mirror", "second_opinion", "unsteady"]

_TORSO, _LEGS = ("left_shoulder", "right_shoulder", "left_hip", "right_hip"), ("knee", "ankle")
_TORSO_MOVES, _LEGS_MOVE = 0.07, 0.15
"""How far shoulders and hips, knees and ankles move against the body from frame to frame, in heights; a kick moves an
ankle by 0.15 at 30 frames a second."""
_AGREE = 0.05
"""Two looks agree about a keypoint within this part of a height."""


def unsteady(now: Keypoints2D, expected: Keypoints2D) -> float:
    """How far now is from what was expected, in what is usual between frames: more than 1 is doubtful.

    A landmark network that takes a back for a front, or cannot decide and puts both sides in the middle, is as sure of
    itself as ever; only that bodies do not jump gives it away.
    """
    names = layout_names(now.layout)
    off = now.xyc[:, :2] - expected.xyc[:, :2]
    sure = np.minimum(now.xyc[:, 2], expected.xyc[:, 2]) >= 0.3
    size = max(height_px(now), height_px(expected))
    if sure.sum() < 3:
        return 0.0
    away = np.linalg.norm(off - np.median(off[sure], axis=0), axis=1) / size
    usual = np.array([_TORSO_MOVES if n in _TORSO else _LEGS_MOVE if n.endswith(_LEGS) else np.inf for n in names])
    return float((away / usual)[sure].max())


def second_opinion(detector: Follower, frame: Frame, now: Keypoints2D, expected: Keypoints2D) -> Keypoints2D:
    """What the direct look and one at the mirrored picture say together: the steadier, less sure where they differ."""
    width = frame.size[0]
    turned = Frame(np.ascontiguousarray(frame.image[:, ::-1]), index=frame.index, time_s=frame.time_s)
    (seen,) = detector.follow(turned, [mirror(expected, width)])
    if seen is None:
        return now
    other = mirror(seen, width)
    apart = np.linalg.norm(now.xyc[:, :2] - other.xyc[:, :2], axis=1)
    agree = apart <= _AGREE * max(height_px(now), height_px(other))
    best = now if unsteady(now, expected) <= unsteady(other, expected) else other
    xyc = best.xyc.copy()
    xyc[agree, :2] = (now.xyc[agree, :2] + other.xyc[agree, :2]) / 2
    xyc[~agree, 2] *= 0.3
    return replace(best, xyc=xyc)


def mirror(person: Keypoints2D, width_px: int) -> Keypoints2D:
    """The person in the mirrored picture; twice is as before."""
    swap = mirrored_rows(layout_names(person.layout))
    centre = person.lift_centre_px
    return Keypoints2D(
        person.layout,
        _flipped(person.xyc[swap], width_px),
        None if person.lift_m is None else _flipped(person.lift_m[swap], 0),
        None if centre is None else (width_px - centre[0], centre[1]),
        person.score,
    )


def _flipped(points: Float[np.ndarray, "K 3"], width: float) -> Float[np.ndarray, "K 3"]:
    flipped = points.copy()
    flipped[:, 0] = width - flipped[:, 0]
    return flipped
