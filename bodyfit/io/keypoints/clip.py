"""Match keypoint files to the frames of a clip by the frames' numbers."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from bodyfit.errors import KeypointFileError
from bodyfit.images.files import IMAGE_SUFFIXES, list_folder
from bodyfit.io.clips.frame_folder import natural_order
from bodyfit.io.clips.reader import VideoReader
from bodyfit.io.keypoints.entry import Entry, attempt, join
from bodyfit.io.keypoints.source import KeypointFiles, check_size
from bodyfit.io.keypoints.values import printable
from bodyfit.keypoints import Keypoints2D, convert_keypoints
from bodyfit.skeleton import layout_names
from bodyfit.tracker import Sighting

__all__ = ["CLOCK_SIDE_PX", "ClipKeypoints"]

_MAX_EXTRA_FRAMES = 2
"""Most frames after a clip's last one that are ignored: programs count damaged and repeated frames differently."""
CLOCK_SIDE_PX = 32
"""Longer side of frames that are read only for their numbers and times."""


class ClipKeypoints:
    """The people of a clip's frames, from keypoint files."""

    def __init__(self, files: KeypointFiles, clip: Path, *, first_frame: int | None = None) -> None:
        """Select the entries of this clip; where some are named after it, the others are `unused`.

        For a folder of frames entries are matched by the pictures' names, if they have those. `first_frame` is the
        number of the clip's first frame in the files; None for the usual one of the program: 1 for MMPose's demos and
        YOLO's txt, else 0. A fault affects only its frame. Raises `KeypointFileError` where no entry has a number, or
        most are of the same frames.
        """
        self.path, self.clip = files.path, clip
        self._places = _places(clip) if first_frame is None else {}
        by_name = files.match(list(self._places)).found
        numbers: dict[int, int | None] = {id(entry): self._places[file] for file, entry in by_name.items()}
        if not by_name:
            self._places = {}
            numbers = {id(entry): _number(entry, clip) for entry in files.entries}
        entries = [entry for entry in files.entries if numbers.get(id(entry)) is not None]
        if not entries and files.entries:
            raise KeypointFileError(_why_no_frames(files, clip))
        by_clip = [entry for entry in entries if _clip_of(entry) == clip.stem.casefold()]
        ours = entries if by_name else by_clip or entries
        used, paths = {id(entry) for entry in ours}, {entry.path for entry in ours}
        others = [entry for entry in files.entries if id(entry) not in used]
        # A frame without a number belongs to this clip if others of its file do.
        without_number = [entry for entry in others if entry.path in paths and numbers.get(id(entry)) is None]
        self.unused: tuple[Entry, ...] = tuple(entry for entry in others if entry not in without_number)
        self._faults = [fault for entry in (*ours, *without_number) for fault in entry.faults]
        by_frame: dict[int, list[Entry]] = defaultdict(list)
        for entry in ours:
            by_frame[_frame_from_0(numbers[id(entry)], entry, 0 if by_name else first_frame)].append(entry)
        self.by_frame: dict[int, Entry] = self._one_each(by_frame)
        """Entries by frame, from 0."""
        if ours and not any(entry.people or not entry.faults for entry in ours):
            raise KeypointFileError(f"nothing in {files.path} could be read; the first: {self._faults[0]}")
        layouts = {person.layout for entry in ours for person in entry.people}
        self._layout = max(sorted(layouts), key=lambda name: len(layout_names(name)), default="coco17")

    @property
    def faults(self) -> tuple[str, ...]:
        """Errors of people or frames that could not be read; after `watch` also of frames that mismatch the clip."""
        return tuple(self._faults)

    @property
    def counts_from(self) -> int | None:
        """The first frame with an entry, None without entries."""
        return min(self.by_frame, default=None)

    def watch(self, reader: VideoReader) -> Iterator[Sighting]:
        """Yield the people of each frame, in the layout with most keypoints, in pixels of `reader.full_size`.

        Raises `KeypointFileError` where the files have no frame that is read, frames that the clip lacks, or another
        picture size.
        """
        entries = self._sized(reader.full_size)
        first, last, any_match = None, -1, False
        for frame in reader:
            number = frame.index if frame.path is None else self._places.get(frame.path, frame.index)
            entry = entries.get(number)
            first, last = frame.index if first is None else first, frame.index
            any_match |= number in self.by_frame
            people = () if entry is None else self._people(entry)
            readable = entry is not None and (len(entry.people) > 0 or not entry.faults)
            yield Sighting(frame.index, frame.time_s, people, known=readable)
        if not self._places:
            self._check_numbers(reader, first, last, any_match)

    def _one_each(self, by_frame: dict[int, list[Entry]]) -> dict[int, Entry]:
        """Return the entry of each frame, without frames of several. Raises `KeypointFileError` where most are."""
        twice = [number for number, entries in by_frame.items() if len(entries) > 1]
        for number in twice:
            names = join([f"{entry.path} ({printable(entry.name)})" for entry in by_frame[number]])
            self._faults.append(f"two entries are of frame {number} of {self.clip.name}: {names}; keep one")
        if 2 * len(twice) > len(by_frame):
            raise KeypointFileError(self._faults[-len(twice)])
        return {number: entries[0] for number, entries in by_frame.items() if len(entries) == 1}

    def _sized(self, size: tuple[int, int]) -> dict[int, Entry]:
        """Convert the entries to pixels of the clip; those of another picture size become faulty.

        Raises `KeypointFileError` where most do.
        """
        sized, wrong = {}, []
        for number, entry in self.by_frame.items():
            converted = attempt(_sized, entry, size)
            if isinstance(converted, KeypointFileError):
                wrong.append(str(converted))
                converted = replace(entry, people=(), faults=(*entry.faults, str(converted)))
            sized[number] = converted
        if 2 * len(wrong) > len(sized):
            raise KeypointFileError(wrong[0])
        self._faults += wrong
        check_size(list(sized.values()), size, sides=False)
        return sized

    def _check_numbers(self, reader: VideoReader, first: int | None, last: int, any_match: bool) -> None:
        """Raise `KeypointFileError` where the numbers do not match the clip; note a frame or two after its end."""
        if first is None:
            return
        low, high = min(self.by_frame, default=0), max(self.by_frame, default=-1)
        end = last + reader.stride - 1 + reader.skipped  # damaged frames may have been counted there
        whole = math.isinf(reader.end_s) and not reader.cut_short
        says = f"{self.path} has frames {low} to {high}" if self.by_frame else f"{self.path} has no frames"
        if whole and high > end:
            if low > 0 or not any_match or high > end + _MAX_EXTRA_FRAMES:
                hint = "; if its numbers begin at 1, say so: first_frame=1" if low > 0 and high == end + 1 else ""
                raise KeypointFileError(f"{says}, but {self.clip} ends with frame {last}; give the clip of these{hint}")
            self._faults.append(f"{says}, but {self.clip} ends with frame {last}; those after it are left out")
        if not any_match:
            raise KeypointFileError(f"{says}, none of the frames {first} to {last} of {self.clip} that are read")

    def _people(self, entry: Entry) -> tuple[Keypoints2D, ...]:
        """Return the people that have a keypoint, in one layout."""
        people = []
        for person in entry.people:
            if person.layout != self._layout:
                xyc = convert_keypoints(person.xyc, person.layout, self._layout)[0]
                person = Keypoints2D(self._layout, xyc, score=person.score, track=person.track)
            people.append(person)
        return tuple(person for person in people if (person.xyc[:, 2] > 0).any())


def _why_no_frames(files: KeypointFiles, clip: Path) -> str:
    """Explain why no entry has a number."""
    if faults := [fault for entry in files.entries for fault in entry.faults]:
        return f"nothing in {files.path} could be read; the first: {faults[0]}"
    entry = files.entries[0]
    return (
        f"{entry.path}: {printable(entry.name)} has no number, so it cannot be told which frame of {clip.name} it is; "
        "name it as clip_000012"
    )


def _sized(entry: Entry, size: tuple[int, int]) -> Entry:
    """Convert an entry to pixels. Raises `KeypointFileError` for another picture size."""
    check_size([replace(entry, people=())], size)
    return entry.sized(size)


def _frame_from_0(number: int | None, entry: Entry, first_frame: int | None) -> int:
    """Return the frame's number counted from 0."""
    assert number is not None
    return number - (entry.first_frame if first_frame is None else first_frame)


def _places(clip: Path) -> dict[Path, int]:
    """Return the index of each picture in a folder of frames; empty for other clips."""
    if not clip.is_dir():
        return {}
    return {file: place for place, file in enumerate(natural_order(list_folder(clip).pictures))}


def _number(entry: Entry, clip: Path) -> int | None:
    """Return the frame's number in the file: its own, or the last digits of the name after the clip's name."""
    if entry.frame is not None:
        return entry.frame
    stem = _stem(entry)
    if stem.casefold().startswith(clip.stem.casefold()):  # the name of h264.mp4 has digits of its own
        stem = stem[len(clip.stem) :]
    digits = re.findall(r"\d+", stem)
    return int(digits[-1]) if digits and len(digits[-1]) < 16 else None


def _clip_of(entry: Entry) -> str:
    """Return the clip's name in an entry's name: the part before the number, else the folder."""
    before = re.sub(r"[ _.-]*\d+\D*$", "", _stem(entry)) if entry.frame is None else entry.name.rpartition(", frame")[0]
    return (before or PurePosixPath(entry.name.replace("\\", "/")).parent.name).casefold()


def _stem(entry: Entry) -> str:
    """Return an entry's name without folders and picture suffix."""
    name = PurePosixPath(entry.name.replace("\\", "/"))
    return name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name
