"""Who is who in the frames of a clip: people's keypoints in, one number a person out.

Everyone known is moved on at constant velocity and compared with everyone found, by a similarity like COCO's for
keypoints; the best pairs together are an assignment problem (Kuhn 1955). Who is unseen for a while is looked for about
where the motion would have led, ever farther out. No pictures are needed, and the times between frames may differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from bodyfit.errors import OptionError
from bodyfit.keypoints import KeypointRows, Keypoints2D, closeness

__all__ = [
    "Sighting",
    "Tracker",
    "TrackerConfig",
    "Trail",
    "distinct",
    "height_px",
    "shift_px",
    "shifted",
    "similarity",
    "trails",
]

_SURE = 0.3
"""Keypoints that are less confident are not compared."""
_SPREAD = 0.12
"""Deviation of a keypoint from where it was expected, in heights of the person: half a head at 30 frames a second."""
_COAST_S = 0.6
"""An unseen person's speed fades with this time constant: people turn and stop."""


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Settings of `Tracker`."""

    max_gap_s: float = 2.0
    """Who is unseen for longer is a new person when seen again; a shorter gap is the motion's to fill."""
    min_seen_s: float = 0.3
    """Who is seen for less in all is taken for a mistake of the detector (in clips that last longer)."""
    min_seen_part: float = 0.5
    """And who is seen in less than this part of the frames from the first to the last."""
    min_similarity: float = 0.15
    """Two less similar sets of keypoints are two people."""

    def __post_init__(self) -> None:
        if not (self.max_gap_s >= 0 and self.min_seen_s >= 0):
            raise OptionError(f"max_gap_s and min_seen_s must not be negative, got {self}")
        if not (0 <= self.min_seen_part <= 1 and 0 < self.min_similarity < 1):
            raise OptionError(f"min_seen_part and min_similarity must lie between 0 and 1, got {self}")


@dataclass(frozen=True)
class Sighting:
    """Everyone found in one frame."""

    frame: int
    """Its number in the clip."""
    time_s: float
    """Its time."""
    people: tuple[Keypoints2D, ...]
    """In any order, all in one layout."""
    known: bool = True
    """False where nothing is known of the frame: nobody is not the same."""


@dataclass
class Trail:
    """Where one person was seen."""

    id: int
    """The person's number."""
    frames: list[int] = field(default_factory=list)
    """Numbers of the frames with the person, ascending."""
    times_s: list[float] = field(default_factory=list)
    """Their times."""
    people: KeypointRows = field(default_factory=KeypointRows)
    """The keypoints in each."""
    height_px: float = 0.0
    """A slow mean of the longer side of the box."""
    velocity: Float[np.ndarray, "2"] = field(default_factory=lambda: np.zeros(2))
    """Pixels a second, a mean over some frames."""

    def add(self, frame: int, time_s: float, person: Keypoints2D) -> None:
        """The person in one more frame."""
        height = height_px(person)
        if self.people:
            dt = time_s - self.times_s[-1]
            new = shift_px(self.people[-1], person) / max(dt, 1e-6)
            keep = math.exp(-dt / 0.1)  # a step's up and down is not where the person goes
            self.velocity = keep * self.velocity + (1 - keep) * new
            height = 0.9 * self.height_px + 0.1 * height
        self.height_px = height
        self.frames.append(frame)
        self.times_s.append(time_s)
        self.people.append(person)

    def expected(self, time_s: float) -> Keypoints2D:
        """Where the person will be, moving on and slowing down."""
        gap = time_s - self.times_s[-1]
        return shifted(self.people[-1], self.velocity * _COAST_S * (1 - math.exp(-gap / _COAST_S)))


class Tracker:
    """Gives people their numbers frame by frame, in the order of time."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = TrackerConfig() if config is None else config
        self.trails: list[Trail] = []
        """Everyone so far, by number."""
        self._alive: list[Trail] = []
        self._named: dict[int, Trail] = {}
        self._last_s = -math.inf

    def update(self, sighting: Sighting) -> list[int]:
        """The number of each person of a frame. Who was there in the frame before is looked for first, then who was
        lost; the rest are new. People with a `track` are told apart by it alone. Raises `OptionError` for a frame that
        is not later than the last."""
        if sighting.time_s <= self._last_s:
            raise OptionError(f"frames must come in the order of time, {sighting.time_s} s after {self._last_s} s")
        people = sighting.people
        known = [t for t in self._alive if sighting.time_s - t.times_s[-1] <= self.config.max_gap_s + 1e-6]
        present = [t for t in known if t.times_s[-1] == self._last_s]
        numbers: list[int] = []
        for person in people:
            number = self._named_number(person, sighting.time_s)
            numbers.append(-1 if number in numbers else number)  # one number for two
        for group, lost in ((present, False), ([t for t in known if t not in present], True)):
            free = [i for i, n in enumerate(numbers) if n < 0]
            likeness = np.array([[self._likeness(t, people[i], sighting.time_s, lost) for i in free] for t in group])
            if likeness.size:
                for row, column in zip(*linear_sum_assignment(likeness, maximize=True), strict=True):
                    if likeness[row, column] >= self.config.min_similarity:
                        numbers[free[column]] = group[row].id
        for i, person in enumerate(people):
            if numbers[i] < 0:
                known.append(self._new())
                numbers[i] = known[-1].id
            self.trails[numbers[i]].add(sighting.frame, sighting.time_s, person)
        self._alive, self._last_s = known, sighting.time_s
        return numbers

    def _new(self) -> Trail:
        self.trails.append(Trail(len(self.trails)))
        return self.trails[-1]

    def _named_number(self, person: Keypoints2D, time_s: float) -> int:
        """Ours for theirs, a new one after too long a gap; -1 for who has none of theirs."""
        if person.track is None:
            return -1
        trail = self._named.get(person.track)
        if trail is None or (trail.times_s and time_s - trail.times_s[-1] > self.config.max_gap_s + 1e-6):
            trail = self._named[person.track] = self._new()
        return trail.id

    def _likeness(self, trail: Trail, person: Keypoints2D, time_s: float, lost: bool) -> float:
        """How well someone fits where a trail leads, in [0, 1]."""
        gap = time_s - trail.times_s[-1]
        expected = trail.expected(time_s)
        if not lost:
            return similarity(expected, person, trail.height_px, spread=_SPREAD + 0.5 * gap)
        # The pose is another by now; what is left is the place, with a walker's speed of a height a second, and size.
        away = np.linalg.norm(_centre(person) - _centre(expected)) / trail.height_px
        size = math.log(height_px(person) / trail.height_px)
        return float(math.exp(-0.5 * (away / (0.3 + 0.8 * gap)) ** 2 - 0.5 * (size / 0.5) ** 2))


def trails(sightings: Iterable[Sighting], config: TrackerConfig | None = None) -> list[Trail]:
    """Everyone of a clip who is seen long enough, numbered in the order of appearance, the largest first."""
    tracker = Tracker(config)
    times: list[float] = []
    for sighting in sightings:
        if sighting.known:
            times.append(sighting.time_s)
            tracker.update(sighting)
    if not times:
        return []
    interval = (times[-1] - times[0]) / max(len(times) - 1, 1)
    least = min(tracker.config.min_seen_s / interval, 0.5 * len(times)) if interval > 0 else 1
    long_enough, clock = [], np.array(times)
    for trail in tracker.trails:
        first, last = np.searchsorted(clock, (trail.times_s[0], trail.times_s[-1]))
        if len(trail.people) >= max(least, tracker.config.min_seen_part * (1 + last - first)):
            long_enough.append(trail)
    long_enough.sort(key=lambda t: (t.frames[0], -t.height_px))
    for number, trail in enumerate(long_enough):
        trail.id = number
    return long_enough


def similarity(a: Keypoints2D, b: Keypoints2D, size_px: float, spread: float = _SPREAD) -> float:
    """How close two sets of keypoints are, in [0, 1]: the mean over those that both see of exp(-d^2 / 2 s^2), with
    deviations s of `spread` parts of a size; of the centres of their boxes where both see fewer than three."""
    both = (a.xyc[:, 2] >= _SURE) & (b.xyc[:, 2] >= _SURE)
    deviation = spread * max(size_px, 1.0)
    if both.sum() < 3:
        return float(closeness(_centre(a)[None], _centre(b)[None], deviation)[0])
    return float(closeness(a.xyc[both, :2], b.xyc[both, :2], deviation).mean())


def shifted(person: Keypoints2D, by_px: Float[np.ndarray, "2"]) -> Keypoints2D:
    """Translate a person's keypoints in the picture, pixels."""
    xyc = person.xyc.copy()
    xyc[:, :2] += by_px
    centre = person.lift_centre_px
    moved = None if centre is None else (centre[0] + float(by_px[0]), centre[1] + float(by_px[1]))
    return Keypoints2D(person.layout, xyc, person.lift_m, moved, person.score)


def shift_px(a: Keypoints2D, b: Keypoints2D) -> Float[np.ndarray, "2"]:
    """From one to the other, pixels: the median over keypoints that both see, which one wild point does not move."""
    both = (a.xyc[:, 2] >= _SURE) & (b.xyc[:, 2] >= _SURE)
    if both.sum() < 3:
        return _centre(b) - _centre(a)
    return np.median(b.xyc[both, :2] - a.xyc[both, :2], axis=0).astype(np.float64)


def _centre(person: Keypoints2D) -> Float[np.ndarray, "2"]:
    x0, y0, x1, y1 = person.box_px()
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2])


def height_px(person: Keypoints2D) -> float:
    """The longer side of the box about a person's keypoints, pixels; at least 1."""
    x0, y0, x1, y1 = person.box_px()
    return max(1.0, x1 - x0, y1 - y0)


def distinct(people: Sequence[Keypoints2D], at_most: float = 0.5) -> list[int]:
    """Which of several findings are people of their own, the surest of those that lie on each other."""
    long_enough: list[int] = []
    for i in sorted(range(len(people)), key=lambda i: -float(people[i].xyc[:, 2].mean())):
        one, size = people[i], height_px(people[i])
        if all(similarity(one, people[k], max(size, height_px(people[k]))) <= at_most for k in long_enough):
            long_enough.append(i)
    return sorted(long_enough)
