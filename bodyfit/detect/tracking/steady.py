"""People do not jump: what to believe where someone seems to turn or blur from one frame to the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from bodyfit.detect.base import Follower
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D, Part
from bodyfit.skeleton import layout_names, mirrored_rows
from bodyfit.tracker import height_px

__all__ = ["exchanged", "mirror", "steadied", "unsteady"]

_TORSO, _LEGS = ("left_shoulder", "right_shoulder", "left_hip", "right_hip"), ("knee", "ankle")
_TORSO_NOISE, _TORSO_MOVES = 0.04, 0.025
"""How far shoulders and hips are off against the body, in heights, and how far they move from frame to frame: half a
turn in a quarter of a second at 30 frames a second."""
_LEGS_NOISE, _LEGS_MOVE = 0.05, 0.10
"""The same of knees and ankles: a kick."""
_PATIENCE = 8
"""After so many doubtful frames in a row what is seen is believed."""
_DOUBT = 0.3
"""What is left of the confidence of a doubtful look."""
_OTHER = {"left": "right", "right": "left"}


def unsteady(now: Keypoints2D, trusted: Keypoints2D, age: int) -> float:
    """How far someone is from a pose that was right `age` frames ago, in what is usual: more than 1 is doubtful.

    A landmark network that takes a back for a front, or cannot decide and puts both sides in the middle, is as sure of
    itself as ever; only that bodies do not jump gives it away.
    """
    names = layout_names(now.layout)
    off = now.xyc[:, :2] - trusted.xyc[:, :2]
    sure = np.minimum(now.xyc[:, 2], trusted.xyc[:, 2]) >= 0.3
    if sure.sum() < 3:
        return 0.0
    size = max(height_px(now), height_px(trusted))
    away = np.linalg.norm(off - np.median(off[sure], axis=0), axis=1) / size
    torso, legs = _TORSO_NOISE + age * _TORSO_MOVES, _LEGS_NOISE + age * _LEGS_MOVE
    usual = np.array([torso if n in _TORSO else legs if n.endswith(_LEGS) else np.inf for n in names])
    return float((away / usual)[sure].max())


def steadied(
    detector: Follower, frame: Frame, now: Keypoints2D, expected: Keypoints2D, trusted: Keypoints2D, age: int
) -> tuple[Keypoints2D, bool]:
    """The look itself, one at the mirrored picture, or either with its sides exchanged, whichever continues the motion
    first, and whether one does; else the least unlikely, of little confidence."""
    if age > _PATIENCE or unsteady(now, trusted, age) <= 1:
        return now, True
    width = frame.size[0]
    turned = Frame(np.ascontiguousarray(frame.image[:, ::-1]), index=frame.index, time_s=frame.time_s)
    (seen,) = detector.follow(turned, [mirror(expected, width)])
    # The head is where it was: only limbs are taken for others.
    looks = [now] if seen is None else [now, replace(mirror(seen, width), face=now.face, irises=now.irises)]
    for one in (*looks, *map(exchanged, looks)):
        if unsteady(one, trusted, age) <= 1:
            return one, True
    best = min(looks, key=lambda look: unsteady(look, trusted, age))
    return replace(best, xyc=best.xyc * np.array((1, 1, _DOUBT), best.xyc.dtype)), False


def exchanged(person: Keypoints2D) -> Keypoints2D:
    """Left and right exchanged. The lift is left out: it is of someone who faces the other way. Hands stay what they
    are; as sure as one was of its side, as unsure it is of the other."""
    swap = mirrored_rows(layout_names(person.layout))
    hands = person.hands and {_OTHER[side]: replace(hand, score=1 - hand.score) for side, hand in person.hands.items()}
    lifted = {"lift_m": None, "lift_scale_m": None, "lift_centre_px": None}
    return replace(person, xyc=person.xyc[swap], hands=hands, **lifted)


def mirror(person: Keypoints2D, width_px: int) -> Keypoints2D:
    """The person in the mirrored picture, without face and mask; twice is as before."""
    swap = mirrored_rows(layout_names(person.layout))
    centre = person.lift_centre_px
    return Keypoints2D(
        person.layout,
        _flipped(person.xyc[swap], width_px),
        None if person.lift_m is None else _flipped(person.lift_m[swap], 0),
        None if centre is None else (width_px - centre[0], centre[1]),
        person.score,
        hands=person.hands and {_OTHER[side]: _mirrored(hand, width_px) for side, hand in person.hands.items()},
        lift_scale_m=None if person.lift_scale_m is None else person.lift_scale_m[swap],
    )


def _mirrored(hand: Part, width_px: int) -> Part:
    lift = None if hand.lift_m is None else _flipped(hand.lift_m, 0)
    return replace(hand, xyc=_flipped(hand.xyc, width_px), lift_m=lift)


def _flipped(points: Float[np.ndarray, "K 3"], width: int) -> Float[np.ndarray, "K 3"]:
    flipped = points.copy()
    flipped[:, 0] = width - flipped[:, 0]
    return flipped
