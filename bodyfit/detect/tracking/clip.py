"""People through a clip: everyone is looked for now and then, and followed in between, forwards and backwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bodyfit.detect.base import Detector, Follower
from bodyfit.detect.tracking.steady import exchanged, steadied, unsteady
from bodyfit.errors import OptionError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.tracker import Sighting, distinct, height_px, shift_px, shifted, similarity

__all__ = ["watch"]

_SAME = 0.4
"""Similarity from which on what was followed and what was found are one person."""
_LEAST_SURE = 5
"""Someone with fewer keypoints of confidence one half is lost: an arm at the picture's edge has about as many."""
_UNCONFIRMED = 2
"""So many full looks may miss someone who is followed all the same; then it is a ghost."""


def watch(detector: Detector, frames: Iterable[Frame], *, every: int = 15) -> Iterator[Sighting]:
    """Everyone in each frame, in order; at most `every` frames are in memory, and the sightings lag as many behind.

    A detector that can follow looks for everyone in every `every`-th frame, or sooner when someone is lost; whom it
    finds anew it follows back to where they came from. Other detectors look for everyone in each frame.
    """
    if every < 1:
        raise OptionError(f"every must be at least 1 frame, got {every}")
    if every == 1 or not isinstance(detector, Follower):
        for frame in frames:
            yield Sighting(frame.index, frame.time_s, tuple(detector.detect([frame])[0]))
        return
    known: list[_Followed] = []
    waiting: list[tuple[Frame, list[Keypoints2D]]] = []
    countdown = 0
    for frame in frames:
        before, known = len(known), _followed(detector, frame, known)
        waiting.append((frame, [one.now for one in known]))
        if len(known) < before:
            countdown = min(countdown, every // 3)
        if countdown <= 0:
            known = _look(detector, waiting, known)
            yield from _as_sightings(waiting)
            countdown = every
        countdown -= 1
    if waiting:
        _look(detector, waiting, known)
        yield from _as_sightings(waiting)


@dataclass(frozen=True)
class _Followed:
    """Someone who is being followed."""

    now: Keypoints2D
    before: Keypoints2D | None = None
    """A frame earlier."""
    trusted: Keypoints2D | None = None
    """The last pose that continued the motion; none before `now`."""
    age: int = 0
    """Frames since then."""
    missed: int = 0
    """Full looks in a row that did not find them."""

    def expected(self) -> Keypoints2D:
        """Where they will be in the next frame, or were in the one before when followed backwards."""
        return self.now if self.before is None else shifted(self.now, shift_px(self.before, self.now))

    def moved(self, now: Keypoints2D, steady: bool) -> _Followed:
        """Return the track advanced by one frame."""
        last = self.trusted or self.now
        return _Followed(now, self.now, now if steady else last, 0 if steady else self.age + 1, self.missed)


def _followed(detector: Follower, frame: Frame, known: Sequence[_Followed]) -> list[_Followed]:
    """Those who are still seen; of two who became one, one."""
    if not known:
        return []
    expected = [one.expected() for one in known]
    moved = []
    for one, there, now in zip(known, expected, detector.follow(frame, expected), strict=True):
        if now is None or (now.xyc[:, 2] > 0.5).sum() < _LEAST_SURE:
            continue
        moved.append(one.moved(*steadied(detector, frame, now, there, one.trusted or one.now, one.age + 1)))
    return [moved[i] for i in distinct([one.now for one in moved])]


def _look(
    detector: Detector, waiting: list[tuple[Frame, list[Keypoints2D]]], known: Sequence[_Followed]
) -> list[_Followed]:
    """Look for everyone in the last frame that waits; who is new is followed back through the others, in place."""
    frame, _ = waiting[-1]
    found = detector.detect([frame])[0]
    confirmed, matched = [], set()
    for one in known:
        match = _match(one.now, found)
        matched.add(match)
        if match is None:
            confirmed.append(replace(one, missed=one.missed + 1))
        else:
            confirmed.append(_confirmed(one, found[match]))
    confirmed = [one for one in confirmed if one.missed <= _UNCONFIRMED]
    new = [_Followed(person) for j, person in enumerate(found) if j not in matched]
    everyone = [*confirmed, *new]
    everyone = [everyone[i] for i in distinct([one.now for one in everyone])]
    waiting[-1] = frame, [one.now for one in everyone]
    if isinstance(detector, Follower):
        for one in everyone:
            if any(one is other for other in new):
                _backwards(detector, waiting[:-1], one)
    return everyone


def _confirmed(one: _Followed, found: Keypoints2D) -> _Followed:
    """Someone who was followed, as a full look sees him: it looks better than one that follows, but may take his back
    for his front as well."""
    last, age = one.trusted or one.now, max(one.age, 1)
    if unsteady(found, last, age) > 1 >= unsteady(exchanged(found), last, age):
        found = exchanged(found)
    elif unsteady(found, last, age) > 1 and one.age == 0:
        found = one.now
    return _Followed(found, one.before, found)


def _backwards(detector: Follower, waiting: Sequence[tuple[Frame, list[Keypoints2D]]], one: _Followed) -> None:
    """Add someone to the frames before, as far back as they are seen and nobody else is where they are."""
    for frame, people in reversed(waiting):
        back = _followed(detector, frame, [one])
        if not back or _match(back[0].now, people) is not None:
            return
        one = back[0]
        people.append(one.now)


def _match(person: Keypoints2D, others: Sequence[Keypoints2D]) -> int | None:
    """Which of several findings is a person, if any."""
    alike = [similarity(person, other, max(height_px(person), height_px(other))) for other in others]
    best = max(range(len(alike)), key=alike.__getitem__, default=None)
    return best if best is not None and alike[best] > _SAME else None


def _as_sightings(waiting: list[tuple[Frame, list[Keypoints2D]]]) -> Iterator[Sighting]:
    """What waits, which is then gone."""
    for frame, people in waiting:
        yield Sighting(frame.index, frame.time_s, tuple(people))
    waiting.clear()
