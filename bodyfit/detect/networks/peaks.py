"""From MoveNet MultiPose's maps to people: what its own graph does after the last convolution, where somebody is.

The published graph weighs every pixel for every keypoint of every person and makes every map in full, which takes half
of its time; here only the pixels of a person's box are weighed, and what is needed of few places is made for these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["PeakMaps", "PeakPerson", "PeakPoints", "hints_in", "people_in"]

_MOST = 24
"""People in a pass, at most; the network as published keeps six."""
_SPREAD = 0.30004883
"""Twice the variance of the bell about a keypoint's expected place, in parts of the maps' shorter side, pixels."""
_COUNTS = 0.12695312
"""Keypoints of a lower score do not count in the person's."""


class PeakMaps(NamedTuple):
    """What the network sees; a pixel of a map stands for four by four of its input's."""

    centre: Float[np.ndarray, "h w"]
    """Probability that a person's centre is here."""
    heat: Float[np.ndarray, "17 h w"]
    """Probability that a keypoint, of anybody, is here."""
    features: Float[np.ndarray, "24 h w"]
    """What the points are read from."""


class PeakPoints(NamedTuple):
    """What is read from the features of 3x3 pixels about each of n places; all y before x, pixels of the maps."""

    expected: Float[np.ndarray, "n 34"]
    """If a centre is here: from it to each keypoint."""
    offset: Float[np.ndarray, "n 34"]
    """If a keypoint is here: from the pixel to it, for each."""
    middle: Float[np.ndarray, "n 2"]
    """If a centre is here: from it to the middle of the box."""
    extent: Float[np.ndarray, "n 2"]
    """If a centre is here: height and width of the box."""


@dataclass(frozen=True)
class PeakPerson:
    """A person, in parts of the input's sides."""

    xyc: Float[np.ndarray, "17 3"]
    """COCO's keypoints with scores."""
    box: tuple[float, float, float, float]
    """x0, y0, x1, y1."""
    score: float
    """The centre's probability times the mean of the keypoints' scores."""


def people_in(
    maps: PeakMaps, read: Callable[[Float[np.ndarray, "n 24 3 3"]], PeakPoints], least: float
) -> list[PeakPerson]:
    """Who scores at least so much, the surest centre first, at most 24."""
    at = _highest(maps.centre)
    sure = maps.centre[tuple(at.T)]
    n = int((sure >= least).sum())  # nobody scores more than his centre
    if n == 0:
        return []
    size = np.array(maps.centre.shape)
    padded = np.pad(maps.features, ((0, 0), (1, 1), (1, 1)))
    centres = read(_about(padded, at))
    expected = centres.expected.reshape(-1, 17, 2) + at[:, None]
    half = 0.5 * np.maximum(centres.extent, 0)
    low, high = (np.clip(at + centres.middle + side, 0, size) for side in (-half, half))
    spread = _SPREAD * size.min()
    place = np.stack([_likeliest(maps.heat, expected[i], low[i], high[i], spread) for i in range(n)])
    kind = np.arange(17)
    # A keypoint's score is the best that anybody makes of the pixel: (whose expectation, whose place, keypoint).
    away = ((place[None] - expected[:, None]) ** 2).sum(-1)
    inside = ((place[None] >= low[:, None, None]) & (place[None] < high[:, None, None])).all(-1)
    scores = (np.exp(-away / spread) * inside).max(0) * maps.heat[kind, place[..., 0], place[..., 1]]
    offset = read(_about(padded, place.reshape(-1, 2))).offset.reshape(n, 17, 17, 2)[:, kind, kind]
    xy = ((place + offset) / size)[..., ::-1]
    counts = scores > _COUNTS
    score = sure[:n] * (scores * counts).sum(1) / np.maximum(counts.sum(1), 1)
    boxes = np.concatenate([low / size, high / size], 1)[:, [1, 0, 3, 2]]
    found = [
        PeakPerson(np.concatenate([xy[i], scores[i, :, None]], 1), tuple(boxes[i].tolist()), float(score[i]))
        for i in range(n)
    ]
    return [one for one in found if one.score >= least]


def hints_in(maps: PeakMaps, least: float) -> Float[np.ndarray, "n 2"]:
    """Where somebody's centre is at least so likely, whatever he scores: x, y in parts of the sides, surest first."""
    at = _highest(maps.centre)
    return (at[maps.centre[tuple(at.T)] >= least] / maps.centre.shape)[:, ::-1]


def _highest(centre: Float[np.ndarray, "h w"]) -> Int[np.ndarray, "24 2"]:
    """The peaks of the map of centres, which no pixel within two is above: y, x, the highest first."""
    import cv2

    top = cv2.dilate(centre, np.ones((5, 5), np.uint8))
    peaks = np.where(top - centre < 1e-6, centre, 0).ravel()
    first = np.argsort(-peaks, kind="stable")[:_MOST]
    return np.stack(np.unravel_index(first, centre.shape), 1)


def _about(padded: Float[np.ndarray, "C rows columns"], at: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, "n C 3 3"]:
    """The 3x3 pixels about places of what was padded by one."""
    ys, xs = (at[:, axis, None] + np.arange(3) for axis in (0, 1))
    return np.ascontiguousarray(padded[:, ys[:, :, None], xs[:, None]].swapaxes(0, 1))


def _likeliest(
    heat: Float[np.ndarray, "17 h w"],
    expected: Float[np.ndarray, "17 2"],
    low: Float[np.ndarray, "2"],
    high: Float[np.ndarray, "2"],
    spread: float,
) -> Int[np.ndarray, "17 2"]:
    """The pixel of a box where each keypoint is likeliest, by its map and how far it is from where it is expected."""
    (y0, x0), (y1, x1) = (np.ceil(corner).astype(int) for corner in (low, high))
    if y1 <= y0 or x1 <= x0:
        return np.zeros((17, 2), int)
    down, across = (
        np.exp(-((np.arange(start, stop) - expected[:, axis, None]) ** 2) / spread).astype(np.float32)
        for axis, start, stop in ((0, y0, y1), (1, x0, x1))
    )
    likely = heat[:, y0:y1, x0:x1] * down[:, :, None] * across[:, None]
    at = np.stack(np.unravel_index(likely.reshape(17, -1).argmax(1), (y1 - y0, x1 - x0)), 1)
    return at + np.array((y0, x0))
