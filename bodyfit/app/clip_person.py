"""Follow one person through a clip and take frames of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int

from bodyfit.app.video import DETECT_SIDE_PX, Progress, watch_clip
from bodyfit.detect import Detector
from bodyfit.images.frame import Frame
from bodyfit.io import VideoReader
from bodyfit.io.clip_masks import ClipMasks
from bodyfit.io.masks import MaskFiles, with_masks
from bodyfit.keypoints import Keypoints2D
from bodyfit.tracker import Trail, height_px, similarity

__all__ = ["CLIP_FRAMES", "DetectedFrame", "open_clip", "person_of_clip", "with_mask_files"]

CLIP_FRAMES = 16
"""Frames of a clip that are fitted, spread evenly over those that show the person: more are hardly more precise, as a
detector's errors are much the same from frame to frame."""
_RATE = 15.0
"""Frames a second in which people are tracked: walkers move by a small part of their height from one to the next."""
_SAME = 0.4
"""Similarity from which on a detection is the tracked person, as in `detect/tracking`."""


@dataclass(frozen=True)
class DetectedFrame:
    """A picture, or a frame of a clip, and the people in it."""

    frame: Frame
    """The picture."""
    people: list[Keypoints2D]
    """Everyone in it."""
    person: int | None = None
    """Index of the person who is followed through the clip; None where nobody is, as in a picture."""
    clip: Path | None = None
    """The clip that the frame is of; None for a picture."""


def open_clip(path: Path) -> VideoReader:
    """Open a clip for `person_of_clip`, at the size and the rate of tracking. Raises `VideoError`."""
    rate = VideoReader(path).fps
    return VideoReader(path, stride=max(1, round(rate / _RATE)), max_side_px=DETECT_SIDE_PX)


def person_of_clip(reader: VideoReader, detector: Detector, *, progress: Progress | None = None) -> list[DetectedFrame]:
    """Follow the person who is seen largest and longest; return up to `CLIP_FRAMES` frames of them, at full size.

    The person is the one of the largest sum of heights in pixels over the frames. People are detected anew in the
    frames that are taken; where that misses the person, the keypoints of the track stand in. Frames of a clip in which
    nobody is tracked have no `person`. Raises `VideoError`.
    """
    watched = watch_clip(reader, detector, progress=progress)
    trail = max(watched.trails, key=_extent, default=None)
    rows = _spread(len(watched.frames if trail is None else trail.frames))
    numbers = watched.frames[rows].tolist() if trail is None else [trail.frames[row] for row in rows]
    row_of = dict(zip(numbers, rows.tolist(), strict=True))
    found = []
    for frame in VideoReader(reader.path):
        if frame.index in row_of:
            frame = Frame(frame.image, reader.path, index=frame.index, time_s=frame.time_s)
            people = list(detector.detect([frame])[0])
            expected = None if trail is None else trail.people[row_of[frame.index]]
            others = [other for one in watched.trails if one is not trail for other in _at(one, frame.index)]
            found.append(DetectedFrame(frame, *_with_person(people, expected, others), clip=reader.path))
        if frame.index >= numbers[-1]:
            break
    return found


def with_mask_files(seen: Sequence[DetectedFrame], files: MaskFiles | None) -> list[DetectedFrame]:
    """Give the people of pictures and of frames of clips the masks of files, in the place of a detector's.

    A frame's masks are named as those of `ClipMasks`. Raises `ImageError`, also for a clip without any mask.
    """
    if files is None:
        return list(seen)
    paths = {one.clip for one in seen if one.clip is not None}
    only = len(paths) == 1 and all(one.clip is not None for one in seen)
    clips = {path: ClipMasks(files, path, only=only) for path in paths}
    found = []
    for one in seen:
        frame = one.frame
        if one.clip is None:
            people = with_masks(one.people, frame, files)
        else:
            masks = clips[one.clip].of(frame.index, frame.size, one.people)
            people = [replace(person, mask=mask) for person, mask in zip(one.people, masks, strict=True)]
        found.append(replace(one, people=people))
    return found


def _extent(trail: Trail) -> float:
    """Compute the sum of a person's heights over the frames, pixels."""
    return sum(height_px(trail.people[row]) for row in range(len(trail.people)))


def _spread(count: int) -> Int[np.ndarray, "N"]:
    """Choose rows spread evenly over `count`, all where they are few.

    They are the middles of equal parts: the ends of clips show people on their way to or from the camera.
    """
    return np.unique(((np.arange(CLIP_FRAMES) + 0.5) * count / CLIP_FRAMES).astype(int))


def _at(trail: Trail, frame: int) -> list[Keypoints2D]:
    """Return the person of a trail in a frame, if they were tracked there."""
    row = bisect_left(trail.frames, frame)
    return [trail.people[row]] if row < len(trail.frames) and trail.frames[row] == frame else []


def _with_person(
    people: list[Keypoints2D], expected: Keypoints2D | None, others: Sequence[Keypoints2D]
) -> tuple[list[Keypoints2D], int | None]:
    """Find the tracked person among the people of a frame, or add the keypoints of the track; return also the index.

    expected: the person as the track has it. others: everyone else who is tracked in the frame. Who is more like one of
    these is not the person.
    """
    if expected is None:
        return people, None
    size = height_px(expected)
    alike = [similarity(expected, person, size) for person in people]
    for i, person in enumerate(people):
        if any(similarity(other, person, size) > alike[i] for other in others):
            alike[i] = 0.0
    best = max(range(len(people)), key=alike.__getitem__, default=None)
    if best is not None and alike[best] >= _SAME:
        return people, best
    return [*people, expected], len(people)
