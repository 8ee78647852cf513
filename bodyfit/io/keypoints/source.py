"""Use keypoint files in place of a detector, matched to pictures by name."""

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
"""Margin beyond the picture's edge for keypoints, as a fraction of the side."""


@dataclass(frozen=True)
class Match:
    """The assignment of entries to pictures."""

    found: dict[Path, Entry]
    """The entry of each picture that has one."""
    missing: tuple[Path, ...]
    """Pictures without an entry."""
    unused: tuple[Entry, ...]
    """Entries without a picture."""


class KeypointFiles:
    """The people of pictures, from keypoint files; a detector, by `detect`."""

    def __init__(self, path: Path, entries: Sequence[Entry]) -> None:
        self.path = path
        self.entries = tuple(entries)
        self._by: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in entries:
            for key in _keys(entry.name, entry.name.isdigit()):
                self._by[key].append(entry)

    def detect(self, frames: Sequence[Frame]) -> list[list[Keypoints2D]]:
        """Return the people of each picture by its name, in the file's order, without faulty ones.

        Raises `KeypointFileError` for a picture without a readable entry, and for keypoints of another picture size.
        """
        return [self._people(frame) for frame in frames]

    def match(self, pictures: Sequence[Path]) -> Match:
        """Pairs pictures and entries by name. A picture with several entries counts as found, with the first."""
        found = {picture: entries[0] for picture in pictures if (entries := self._candidates(picture))}
        used = {id(entry) for picture in pictures for entry in self._candidates(picture)}
        unused = tuple(entry for entry in self.entries if id(entry) not in used)
        return Match(found, tuple(picture for picture in pictures if picture not in found), unused)

    def faults(self, picture: Path) -> tuple[str, ...]:
        """Return the errors of a picture's people that could not be read."""
        return tuple(fault for entry in self._candidates(picture) for fault in entry.faults)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was assumed or ignored in reading, without duplicates."""
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
        """Find the entries of a picture: by name, else without the suffix, else ignoring case, else by id.

        Of several, those that share the most parent folders.
        """
        for key in _keys(picture.as_posix(), True):
            if entries := self._by.get(key):
                shared = [_shared_parents(entry, picture) for entry in entries]
                return [entry for entry, n in zip(entries, shared, strict=True) if n == max(shared)]
        return []


def load_keypoints(path: str | Path, *, layout: str | None = None) -> KeypointFiles:
    """Load keypoint files of other programs, or bodyfit's npz, for use in place of a detector.

    OpenPose, Pose2Sim, ControlNet, COCO, MMPose, AlphaPose, ViTPose, Detectron2, Ultralytics (JSON and txt), DeepLabCut
    (csv), EasyMocap. `path` is a file or a folder of files; the format is detected by content, and the layout by the
    number of keypoints unless `layout` names it. NaN, null, {}, confidences of 0 and below and points at (0, 0) are
    missing. Use it as `fit_image(picture, detector=load_keypoints(path))`.
    Raises `KeypointFileError` and, for an unknown layout, `OptionError`.
    """
    if layout is not None:
        layout_names(layout)
    return KeypointFiles(Path(path), read_entries(Path(path), layout))


def _keys(name: str, number: bool) -> list[tuple[str, str]]:
    """Return the keys by which a picture's name is looked up, best first."""
    base = PurePosixPath(name.replace("\\", "/")).name
    stem, suffix = os.path.splitext(base)
    stem = stem if suffix.lower() in IMAGE_SUFFIXES else base
    keys = [("name", base), ("stem", stem), ("fold", stem.casefold())]
    digits = re.fullmatch(r"(?:COCO_\w+_)?0*(\d+)", stem)  # 000000397133, COCO_val2014_000000397133
    return [*keys, ("id", digits[1])] if digits and number else keys


def _shared_parents(entry: Entry, picture: Path) -> int:
    """Count the parent folders that an entry's name shares with a picture."""
    theirs = PurePosixPath(entry.name.replace("\\", "/")).parts[-2::-1]
    ours = picture.absolute().parts[-2::-1]
    same = [a == b for a, b in zip(theirs, ours, strict=False)]
    return same.index(False) if False in same else len(same)


def check_size(entries: Sequence[Entry], size: tuple[int, int], *, sides: bool = True) -> None:
    """Raise `KeypointFileError` where keypoints are of a picture of another size.

    By the sizes in the files (unless not `sides`), and by most keypoints lying outside of the picture.
    """
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
