"""Keypoint files in the place of a detector: each picture gets what the files say of its name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from bodyfit.errors import KeypointFileError
from bodyfit.images.frame import IMAGE_SUFFIXES, Frame
from bodyfit.io.keypoints.entry import Entry, join
from bodyfit.io.keypoints.recognise import read_entries
from bodyfit.io.keypoints.values import printable
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = ["KeypointFiles", "Match", "check_size", "load_keypoints"]

_OUTSIDE = 0.05
"""Part of the picture's side that keypoints may lie beyond its edge."""


@dataclass(frozen=True)
class Match:
    """Which pictures and which entries belong together."""

    found: dict[Path, Entry]
    """The entry of each picture that has one."""
    missing: tuple[Path, ...]
    """Pictures of which the files say nothing."""
    unused: tuple[Entry, ...]
    """Entries whose picture is not among those asked for."""


class KeypointFiles:
    """The people of pictures, read from files beforehand; `detect` makes it a detector."""

    def __init__(self, path: Path, entries: Sequence[Entry]) -> None:
        self.path = path
        self.entries = tuple(entries)
        self._by: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in entries:
            for key in _keys(entry.name, entry.name.isdigit()):
                self._by[key].append(entry)

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """The people of each picture by its path's name, in the file's order; those whose data are faulty are left out.

        Raises `KeypointFileError` for a picture of which the files say nothing, or nothing that can be read, and for
        keypoints that belong to a picture of another size.
        """
        return [self._people(frame) for frame in frames]

    def match(self, pictures: Sequence[Path]) -> Match:
        """Pairs pictures and entries by name. A picture with several entries counts as found, with the first."""
        found = {picture: entries[0] for picture in pictures if (entries := self._candidates(picture))}
        used = {id(entry) for picture in pictures for entry in self._candidates(picture)}
        unused = tuple(entry for entry in self.entries if id(entry) not in used)
        return Match(found, tuple(picture for picture in pictures if picture not in found), unused)

    def faults(self, picture: Path) -> tuple[str, ...]:
        """Why people of a picture could not be read."""
        return tuple(fault for entry in self._candidates(picture) for fault in entry.faults)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for granted or left aside in reading, each once."""
        return tuple(dict.fromkeys(note for entry in self.entries for note in entry.notes))

    def _people(self, frame: Frame) -> list[Keypoints2D]:
        if frame.path is None:
            raise KeypointFileError("keypoint files are found by the picture's name, and this picture has no path")
        entries = self._candidates(frame.path)
        if not entries:
            has = join([printable(entry.name) for entry in self.entries])
            raise KeypointFileError(f"no keypoints for {frame.path.name} in {self.path}, which has {has or 'none'}")
        if len(entries) > 1:
            where = join([f"{entry.path} ({printable(entry.name)})" for entry in entries])
            raise KeypointFileError(f"several keypoints for {frame.path.name}: {where}; keep one")
        entry = entries[0]
        if entry.faults and not entry.people:
            raise KeypointFileError("; ".join(entry.faults))
        entry = entry.sized(frame.size)
        check_size([entry], frame.size)
        return list(entry.people)

    def _candidates(self, picture: Path) -> list[Entry]:
        """The entries that name the picture: by its name, else without the suffix, else in any case, else by id.

        Where folders of the same picture names lie side by side, those that share the most parents.
        """
        for key in _keys(picture.as_posix(), True):
            if entries := self._by.get(key):
                shared = [_shared_parents(entry, picture) for entry in entries]
                return [entry for entry, n in zip(entries, shared, strict=True) if n == max(shared)]
        return []


def load_keypoints(path: str | Path, *, layout: str | None = None) -> KeypointFiles:
    """Keypoint files of other programs: OpenPose, Pose2Sim, ControlNet, COCO, MMPose, AlphaPose, ViTPose, Detectron2,
    Ultralytics (JSON and txt), DeepLabCut (csv), EasyMocap, or npz of ours.

    `path` is a file or a folder of them; content tells the format, and the number of keypoints the layout unless
    `layout` does. NaN, null, {}, confidences of 0 and below and points at (0, 0) are missing. What is returned stands
    for a detector: `fit_image(picture, detector=load_keypoints(path))`.
    Raises `KeypointFileError` and, for an unknown layout, `OptionError`.
    """
    if layout is not None:
        layout_names(layout)
    return KeypointFiles(Path(path), read_entries(Path(path), layout))


def _keys(name: str, number: bool) -> list[tuple[str, str]]:
    """Under what a picture's name is looked up, best first."""
    base = PurePosixPath(name.replace("\\", "/")).name
    stem, suffix = os.path.splitext(base)
    stem = stem if suffix.lower() in IMAGE_SUFFIXES else base
    keys = [("name", base), ("stem", stem), ("fold", stem.casefold())]
    digits = re.fullmatch(r"(?:COCO_\w+_)?0*(\d+)", stem)  # 000000397133, COCO_val2014_000000397133
    return [*keys, ("id", digits[1])] if digits and number else keys


def _shared_parents(entry: Entry, picture: Path) -> int:
    """How many folders above the picture the entry's name repeats."""
    theirs = PurePosixPath(entry.name.replace("\\", "/")).parts[-2::-1]
    ours = picture.absolute().parts[-2::-1]
    same = [a == b for a, b in zip(theirs, ours, strict=False)]
    return same.index(False) if False in same else len(same)


def check_size(entries: Sequence[Entry], size: tuple[int, int], *, sides: bool = True) -> None:
    """Raise `KeypointFileError` where keypoints were made from a picture, or a clip's frames, of another size: by the
    `sides` that the files say, and by most keypoints lying beyond the picture."""
    w, h = size
    for entry in entries if sides else ():
        if entry.image_size not in (None, size):
            theirs = "{}x{}".format(*entry.image_size)
            turned = " (its file turns it upright)" if entry.image_size == (h, w) else ""
            raise KeypointFileError(
                f"{entry.path}: {printable(entry.name)} is {theirs} there, but the picture is {w}x{h}{turned}; "
                "give the picture that the keypoints were made from"
            )
    judged = [entry for entry in entries if entry.pixels is not None]
    points = [person.xyc[person.xyc[:, 2] > 0, :2] for entry in judged for person in entry.people]
    if not points:
        return
    xy = np.concatenate(points)
    beyond = (np.maximum(-xy, xy - (w, h)) > (_OUTSIDE * w, _OUTSIDE * h)).any(1)
    if len(xy) and beyond.mean() > 0.5:
        name = printable(judged[0].name) if len(judged) == 1 else f"{len(judged)} frames"
        raise KeypointFileError(
            f"{judged[0].path}: {beyond.sum()} of {len(xy)} keypoints of {name} lie outside of the picture, "
            f"which is {w}x{h}; {judged[0].pixels}"
        )
