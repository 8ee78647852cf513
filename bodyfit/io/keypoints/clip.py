"""Keypoint files of a clip: who is in which of its frames, by the frames' numbers."""

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

_PAST_THE_END = 2
"""Frames after a clip's last one that do not make it another clip: programs count damaged and repeated ones apart."""
CLOCK_SIDE_PX = 32
"""Longer side of frames of which only number and time are wanted."""


class ClipKeypoints:
    """The people of a clip's frames, from files that were read beforehand."""

    def __init__(self, files: KeypointFiles, clip: Path, *, first_frame: int | None = None) -> None:
        """The entries of this clip; where some are named after it, others are of other clips and `unused`.

        Of a folder of frames they are found by the pictures' names, if they have those. `first_frame` is the number
        that the files give to the clip's first frame; None takes what the programs that write such files do: MMPose's
        demos and YOLO's txt count from 1, the rest from 0. What is wrong with a frame costs that frame. Raises
        `KeypointFileError` where no entry has a number, or most are of the same frames.
        """
        self.path, self.clip = files.path, clip
        self._places = _places(clip) if first_frame is None else {}
        by_name = files.match(list(self._places)).found
        numbered: dict[int, int | None] = {id(entry): self._places[file] for file, entry in by_name.items()}
        if not by_name:
            self._places = {}
            numbered = {id(entry): _number(entry, clip) for entry in files.entries}
        entries = [entry for entry in files.entries if numbered.get(id(entry)) is not None]
        if not entries and files.entries:
            raise KeypointFileError(_why_no_frames(files, clip))
        named = [entry for entry in entries if _clip_of(entry) == clip.stem.casefold()]
        ours = entries if by_name else named or entries
        used, paths = {id(entry) for entry in ours}, {entry.path for entry in ours}
        others = [entry for entry in files.entries if id(entry) not in used]
        # A frame that lost its number is told with the rest of its file; a file without any is another's.
        lost = [entry for entry in others if entry.path in paths and numbered.get(id(entry)) is None]
        self.unused: tuple[Entry, ...] = tuple(entry for entry in others if entry not in lost)
        self._faults = [fault for entry in (*ours, *lost) for fault in entry.faults]
        by_frame: dict[int, list[Entry]] = defaultdict(list)
        for entry in ours:
            by_frame[_counted(numbered[id(entry)], entry, 0 if by_name else first_frame)].append(entry)
        self.by_frame: dict[int, Entry] = self._one_each(by_frame)
        """By the frame's number, from 0."""
        if ours and not any(entry.people or not entry.faults for entry in ours):
            raise KeypointFileError(f"nothing in {files.path} could be read; the first: {self._faults[0]}")
        layouts = {person.layout for entry in ours for person in entry.people}
        self._layout = max(sorted(layouts), key=lambda name: len(layout_names(name)), default="coco17")

    @property
    def faults(self) -> tuple[str, ...]:
        """Why some people or frames could not be read; of frames that do not fit the clip once it was watched."""
        return tuple(self._faults)

    @property
    def counts_from(self) -> int | None:
        """The least number of a frame, from 0; None of no entries."""
        return min(self.by_frame, default=None)

    def watch(self, reader: VideoReader) -> Iterator[Sighting]:
        """Everyone in each frame, all in the layout of the most keypoints; in pixels of `reader.full_size`.

        Raises `KeypointFileError` for files of no frame that is read, of frames that the clip does not have, and of a
        clip of another size.
        """
        entries = self._sized(reader.full_size)
        first, last, found = None, -1, False
        for frame in reader:
            number = frame.index if frame.path is None else self._places.get(frame.path, frame.index)
            entry = entries.get(number)
            first, last = frame.index if first is None else first, frame.index
            found |= number in self.by_frame
            people = () if entry is None else self._people(entry)
            known = entry is not None and (len(entry.people) > 0 or not entry.faults)
            yield Sighting(frame.index, frame.time_s, people, known=known)
        if not self._places:
            self._check_numbers(reader, first, last, found)

    def _one_each(self, by_frame: dict[int, list[Entry]]) -> dict[int, Entry]:
        """The entry of each frame; a frame with two has none. Raises `KeypointFileError` where most have two."""
        twice = [number for number, entries in by_frame.items() if len(entries) > 1]
        for number in twice:
            named = join([f"{entry.path} ({printable(entry.name)})" for entry in by_frame[number]])
            self._faults.append(f"two entries are of frame {number} of {self.clip.name}: {named}; keep one")
        if 2 * len(twice) > len(by_frame):
            raise KeypointFileError(self._faults[-len(twice)])
        return {number: entries[0] for number, entries in by_frame.items() if len(entries) == 1}

    def _sized(self, size: tuple[int, int]) -> dict[int, Entry]:
        """The frames' entries in pixels of the clip; those of frames of another size are faulty.

        Raises `KeypointFileError` where most are.
        """
        sized, wrong = {}, []
        for number, entry in self.by_frame.items():
            there = attempt(_sized, entry, size)
            if isinstance(there, KeypointFileError):
                wrong.append(str(there))
                there = replace(entry, people=(), faults=(*entry.faults, str(there)))
            sized[number] = there
        if 2 * len(wrong) > len(sized):
            raise KeypointFileError(wrong[0])
        self._faults += wrong
        check_size(list(sized.values()), size, sides=False)
        return sized

    def _check_numbers(self, reader: VideoReader, first: int | None, last: int, found: bool) -> None:
        """Raises `KeypointFileError` where the numbers cannot be the clip's; a frame or two after its end are told."""
        if first is None:
            return
        low, high = min(self.by_frame, default=0), max(self.by_frame, default=-1)
        end = last + reader.stride - 1 + reader.skipped  # damaged frames may have been counted there
        whole = math.isinf(reader.end_s) and not reader.cut_short
        says = f"{self.path} has frames {low} to {high}" if self.by_frame else f"{self.path} has no frames"
        if whole and high > end:
            if low > 0 or not found or high > end + _PAST_THE_END:
                hint = "; if its numbers begin at 1, say so: first_frame=1" if low > 0 and high == end + 1 else ""
                raise KeypointFileError(f"{says}, but {self.clip} ends with frame {last}; give the clip of these{hint}")
            self._faults.append(f"{says}, but {self.clip} ends with frame {last}; those after it are left out")
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


def _why_no_frames(files: KeypointFiles, clip: Path) -> str:
    """What is wrong with entries of which none has a number."""
    if faults := [fault for entry in files.entries for fault in entry.faults]:
        return f"nothing in {files.path} could be read; the first: {faults[0]}"
    entry = files.entries[0]
    return (
        f"{entry.path}: {printable(entry.name)} has no number, so it cannot be told which frame of {clip.name} it is; "
        "name it as clip_000012"
    )


def _sized(entry: Entry, size: tuple[int, int]) -> Entry:
    """An entry in pixels. Raises `KeypointFileError` for a picture of other sides."""
    check_size([replace(entry, people=())], size)
    return entry.sized(size)


def _counted(written: int | None, entry: Entry, first_frame: int | None) -> int:
    """The frame's number, from 0, where there is one."""
    assert written is not None
    return written - (entry.first_frame if first_frame is None else first_frame)


def _places(clip: Path) -> dict[Path, int]:
    """The number of each picture in a folder of frames; empty of any other clip."""
    if not clip.is_dir():
        return {}
    return {file: place for place, file in enumerate(natural_order(list_folder(clip).pictures))}


def _number(entry: Entry, clip: Path) -> int | None:
    """The frame's number as the file has it: said, or the last digits of the name after the clip's own name."""
    if entry.frame is not None:
        return entry.frame
    stem = _stem(entry)
    if stem.casefold().startswith(clip.stem.casefold()):  # the name of h264.mp4 has digits of its own
        stem = stem[len(clip.stem) :]
    digits = re.findall(r"\d+", stem)
    return int(digits[-1]) if digits and len(digits[-1]) < 16 else None


def _clip_of(entry: Entry) -> str:
    """The clip that an entry's name is made of: before the number, else the folder."""
    before = re.sub(r"[ _.-]*\d+\D*$", "", _stem(entry)) if entry.frame is None else entry.name.rpartition(", frame")[0]
    return (before or PurePosixPath(entry.name.replace("\\", "/")).parent.name).casefold()


def _stem(entry: Entry) -> str:
    name = PurePosixPath(entry.name.replace("\\", "/"))
    return name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name
