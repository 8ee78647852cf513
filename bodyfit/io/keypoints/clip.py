"""Keypoint files of a clip: who is in which of its frames, by the frames' numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bodyfit.errors import KeypointFileError
from bodyfit.frame import IMAGE_SUFFIXES
from bodyfit.io.keypoints.entry import Entry, join, printable
from bodyfit.io.keypoints.source import KeypointFiles, check_size
from bodyfit.io.video import VideoReader
from bodyfit.keypoints import Keypoints2D, convert_keypoints
from bodyfit.skeleton import layout_names
from bodyfit.tracker import Sighting

__all__ = ["CLOCK_SIDE_PX", "ClipKeypoints"]

CLOCK_SIDE_PX = 32
"""Longer side of frames of which only number and time are wanted."""


class ClipKeypoints:
    """The people of a clip's frames, from files that were read beforehand."""

    def __init__(self, files: KeypointFiles, clip: Path, *, first_frame: int | None = None) -> None:
        """The entries of this clip; where some are named after it, others are of other clips and `unused`.

        `first_frame` is the number that the files give to the clip's first frame; None takes what the programs that
        write such files do: MMPose's demos count from 1, the rest from 0. Raises `KeypointFileError` for entries
        without a number and for two of one frame.
        """
        self.path, self.clip = files.path, clip
        entries = [entry for entry in files.entries if _number(entry) is not None or entry.people]
        ours = [entry for entry in entries if _clip_of(entry) == clip.stem.casefold()] or entries
        used = {id(entry) for entry in ours}
        self.unused: tuple[Entry, ...] = tuple(entry for entry in files.entries if id(entry) not in used)
        self.faults: tuple[str, ...] = tuple(fault for entry in ours for fault in entry.faults)
        """Why some people could not be read."""
        self.by_frame: dict[int, Entry] = {}
        """By the frame's number, from 0."""
        for entry in ours:
            written = _number(entry)
            if written is None:
                raise KeypointFileError(
                    f"{entry.path}: {printable(entry.name)} has no number, so it cannot be told which frame of "
                    f"{clip.name} it is; name it as clip_000012"
                )
            number = written - (entry.first_frame if first_frame is None else first_frame)
            if number in self.by_frame:
                twice = join([f"{e.path} ({printable(e.name)})" for e in (self.by_frame[number], entry)])
                raise KeypointFileError(f"two entries are of frame {number} of {clip.name}: {twice}; keep one")
            self.by_frame[number] = entry
        if ours and not any(entry.people or not entry.faults for entry in ours):
            raise KeypointFileError(f"nothing in {files.path} could be read; the first: {self.faults[0]}")
        layouts = {person.layout for entry in ours for person in entry.people}
        self._layout = max(sorted(layouts), key=lambda name: len(layout_names(name)), default="coco17")

    @property
    def counts_from(self) -> int | None:
        """The least number of a frame, from 0; None of no entries."""
        return min(self.by_frame, default=None)

    def watch(self, reader: VideoReader) -> Iterator[Sighting]:
        """Everyone in each frame, all in the layout of the most keypoints; in pixels of `reader.full_size`.

        Raises `KeypointFileError` for files of no frame that is read, of frames that the clip does not have, and of a
        clip of another size.
        """
        check_size(list(self.by_frame.values()), reader.full_size)
        first, last, found = None, -1, False
        for frame in reader:
            entry = self.by_frame.get(frame.index)
            first, last, found = frame.index if first is None else first, frame.index, found or entry is not None
            people = () if entry is None else self._people(entry)
            known = entry is not None and (len(entry.people) > 0 or not entry.faults)
            yield Sighting(frame.index, frame.time_s, people, known=known)
        self._check_numbers(reader, first, last, found)

    def _check_numbers(self, reader: VideoReader, first: int | None, last: int, found: bool) -> None:
        """Raises `KeypointFileError` where the numbers cannot be the clip's."""
        if first is None:
            return
        low, high = min(self.by_frame, default=0), max(self.by_frame, default=-1)
        end = last + reader.stride - 1 + reader.skipped  # damaged frames may have been counted there
        whole = math.isinf(reader.end_s) and not reader.cut_short
        says = f"{self.path} has frames {low} to {high}" if self.by_frame else f"{self.path} has no frames"
        if whole and high > end:
            hint = "; if its numbers begin at 1, say so: first_frame=1" if low > 0 and high == end + 1 else ""
            raise KeypointFileError(f"{says}, but {self.clip} ends with frame {last}; give the clip of these{hint}")
        if not found:
            raise KeypointFileError(f"{says}, none of the frames {first} to {last} of {self.clip} that are read")

    def _people(self, entry: Entry) -> tuple[Keypoints2D, ...]:
        """Who has a keypoint, in one layout."""
        people = []
        for person in entry.people:
            if person.layout != self._layout:
                xyc = convert_keypoints(person.xyc, person.layout, self._layout)[0]
                person = Keypoints2D(self._layout, xyc, score=person.score, track=person.track)
            people.append(person)
        return tuple(person for person in people if (person.xyc[:, 2] > 0).any())


def _number(entry: Entry) -> int | None:
    """The frame's number as the file has it: said, or the last digits of the name."""
    if entry.frame is not None:
        return entry.frame
    digits = re.findall(r"\d+", _stem(entry))
    return int(digits[-1]) if digits and len(digits[-1]) < 16 else None


def _clip_of(entry: Entry) -> str:
    """The clip that an entry's name is made of: before the number, else the folder."""
    before = re.sub(r"[ _.-]*\d+\D*$", "", _stem(entry)) if entry.frame is None else entry.name.rpartition(", frame")[0]
    return (before or PurePosixPath(entry.name.replace("\\", "/")).parent.name).casefold()


def _stem(entry: Entry) -> str:
    name = PurePosixPath(entry.name.replace("\\", "/"))
    return name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name
