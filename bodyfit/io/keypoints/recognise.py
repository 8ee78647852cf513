"""Which of the formats a keypoint file is, by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints import canvas, coco, deeplabcut, easymocap, mmpose, openpose, own, ultralytics, yolo_labels
from bodyfit.io.keypoints.content import Archive, Lines, read_content, read_head
from bodyfit.io.keypoints.entry import Entry, attempt, join

__all__ = ["FORMATS", "read_entries"]


@dataclass(frozen=True)
class _Source:
    """Where a file's content comes from, and what is known besides."""

    path: Path
    layout: str | None
    """What the user says."""
    images: Mapping[str, tuple[str, tuple[int, int] | None]]
    """What COCO's image ids mean, of any file of the folder."""


@dataclass(frozen=True)
class _Format:
    """A format: how to tell it, and how to read it."""

    matches: Callable[[Any], bool]
    """Whether a content is of it. Formats are asked in their order."""
    read: Callable[[Any, _Source], list[Entry]]
    """Its entries."""


def _plain(read: Callable[[Any, Path, str | None], list[Entry]]) -> Callable[[Any, _Source], list[Entry]]:
    return lambda content, source: read(content, source.path, source.layout)


def _says_nobody(content: Any) -> bool:
    """null, {}, [] and lists of these."""
    return content in ({}, None) or (isinstance(content, list) and all(map(_says_nobody, content)))


_KNOWN = (
    _Format(lambda content: isinstance(content, Archive), lambda _, source: own.read_own(source.path, source.layout)),
    _Format(canvas.is_canvas, _plain(canvas.read_canvas)),
    _Format(openpose.is_openpose, _plain(openpose.read_openpose)),
    _Format(coco.is_annotations, _plain(coco.read_annotations)),
    _Format(coco.is_results, lambda content, s: coco.read_results(content, s.path, s.layout, s.images)),
    _Format(mmpose.is_mmpose, _plain(mmpose.read_mmpose)),
    _Format(ultralytics.is_ultralytics, _plain(ultralytics.read_ultralytics)),
    _Format(easymocap.is_easymocap, _plain(easymocap.read_easymocap)),
    _Format(openpose.is_openpose_table, _plain(openpose.read_openpose_table)),
    _Format(yolo_labels.is_yolo_labels, _plain(yolo_labels.read_yolo_labels)),
    _Format(deeplabcut.is_deeplabcut, _plain(deeplabcut.read_deeplabcut)),
    # Nobody, as MMPose, Ultralytics and Pose2Sim say it.
    _Format(_says_nobody, lambda _, source: [_empty(source.path)]),
)

FORMATS = (
    "OpenPose JSON (one file a picture, also of Pose2Sim, Sports2D and ControlNet), COCO keypoint JSON (annotations or "
    "results, also of ViTPose and Detectron2), JSON of MMPose, AlphaPose, Ultralytics or EasyMocap, YOLO's pose txt, "
    "DeepLabCut's csv, or npz of bodyfit"
)
"""What can be read, for messages."""
_SUFFIXES = (".json", ".npz", ".txt", ".csv")
_TABLES = (".txt", ".csv")
"""Of files that lie beside others and are no keypoints, too: those that are none are passed over."""


def read_entries(path: Path, layout: str | None) -> list[Entry]:
    """All entries of a file, or of the files in a folder, where a JSON that is none of ours becomes a faulty entry.

    A folder without files of its own stands for the only one inside it that has some. In a folder COCO's image ids mean
    what the `images` of any file there say. Raises `KeypointFileError` for a path that cannot be read, a file of no
    known format and a folder without such files.
    """
    if not path.is_dir():
        if not path.exists():
            raise KeypointFileError(f"{path} does not exist")
        return _read(read_content(path, FORMATS), _Source(path, layout, {}))
    contents: dict[Path, Any] = {}
    entries: list[Entry] = []
    for file in _files(path):
        content = attempt(read_content, file, FORMATS)
        if isinstance(content, KeypointFileError):
            if file.suffix.lower() not in _TABLES or not file.stat().st_size:
                entries.append(_faulty(file, content))
        else:
            contents[file] = content
    images: dict[str, tuple[str, tuple[int, int] | None]] = {}
    for content in contents.values():
        images |= coco.image_names(content) if coco.is_annotations(content) else {}
    only_names = any(coco.is_results(content) for content in contents.values())
    for file, content in contents.items():
        if only_names and coco.is_annotations(content) and not content.get("annotations"):
            continue
        read = attempt(_read, content, _Source(file, layout, images))
        entries += [_faulty(file, read)] if isinstance(read, KeypointFileError) else read
    if not any(entry.people or not entry.faults for entry in entries) and len(entries) > 1:
        raise KeypointFileError(f"nothing in {path} could be read; the first: {entries[0].faults[0]}")
    return _fits_together(entries)


def _empty(path: Path) -> Entry:
    """The entry of a picture without people."""
    return Entry(path.stem.removesuffix("_keypoints"), path)


def _faulty(file: Path, fault: KeypointFileError) -> Entry:
    """The entry of the picture that a file would be about."""
    return replace(_empty(file), faults=(str(fault),))


def _files(folder: Path) -> list[Path]:
    """The keypoint files of a folder; of the results of `bodyfit fit` the people in the folders inside it."""
    files = _own_files(folder)
    people = sorted(folder.glob("*/person*.npz"))
    ours = [p for p in files if p.name != "summary.json"]
    if people and not ours:
        return people
    if ours or files:
        return ours or files
    inner = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    inside = {p: found for p in inner if isinstance(found := attempt(_own_files, p), list) and found}
    if len(inside) == 1:
        return next(iter(inside.values()))
    there = f"; of its folders give one: {join([p.name for p in inside])}" if inside else ""
    raise KeypointFileError(
        f"the folder {folder} has no keypoint files (json, npz, txt, csv){there}; expected {FORMATS}"
    )


def _own_files(folder: Path) -> list[Path]:
    """Files that may be of keypoints, by their endings, tables by their content too."""
    try:
        named = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
    except OSError as error:
        raise KeypointFileError(f"the folder {folder} cannot be listed: {error.strerror or error}") from None
    tables = [p for p in named if p.suffix.lower() in _TABLES and _is_table(p)]
    # Of a data set's labels an empty file is a picture without people.
    labels = any(p.suffix.lower() == ".txt" for p in tables)
    return [p for p in named if p.suffix.lower() not in _TABLES or p in tables or (labels and not p.stat().st_size)]


def _is_table(path: Path) -> bool:
    content = attempt(read_head, path)
    return isinstance(content, Lines) and (yolo_labels.is_yolo_labels(content) or deeplabcut.is_deeplabcut(content))


def _read(content: Any, source: _Source) -> list[Entry]:
    for form in _KNOWN:
        if form.matches(content):
            return form.read(content, source)
    if isinstance(content, Lines) and not any(line.strip() for line in content.lines) and content.suffix == ".txt":
        return [_empty(source.path)]
    raise KeypointFileError(f"{source.path}: no keypoint file that is known; expected {FORMATS}")


def _fits_together(entries: Iterable[Entry]) -> list[Entry]:
    """Saved fits and tracks have a file a person: those of one folder, and frame, become one entry."""
    joined: dict[Path | tuple[Path, int | None], Entry] = {}
    for entry in entries:
        is_fit = entry.path.suffix.lower() == ".npz" and entry.image_size is not None
        key = (entry.path.parent, entry.frame) if is_fit else entry.path / entry.name
        if key in joined and is_fit:
            entry = replace(joined[key], people=(*joined[key].people, *entry.people))
        joined[key] = entry
    return list(joined.values())
