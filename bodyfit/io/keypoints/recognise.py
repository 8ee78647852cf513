"""Detect the format of keypoint files by their content, and read them."""

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
class _Origin:
    """The origin of a file's content."""

    path: Path
    """The file."""
    layout: str | None
    """The layout that the user names."""
    images: Mapping[str, tuple[str, tuple[int, int] | None]]
    """Names and sizes of COCO's images by id, from all files of the folder."""


@dataclass(frozen=True)
class _Format:
    """A format of keypoint files."""

    matches: Callable[[Any], bool]
    """Tell whether content has the format; formats are tried in order."""
    read: Callable[[Any, _Origin], list[Entry]]
    """Read the entries. Raises `KeypointFileError`."""


def _plain(read: Callable[[Any, Path, str | None], list[Entry]]) -> Callable[[Any, _Origin], list[Entry]]:
    """Adapt a reader of (content, path, layout)."""
    return lambda content, source: read(content, source.path, source.layout)


def _says_nobody(content: Any) -> bool:
    """Tell whether content is null, {}, [] or a list of these."""
    return content in ({}, None) or (isinstance(content, list) and all(map(_says_nobody, content)))


_FORMATS = (
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
    # Nobody, as MMPose, Ultralytics and Pose2Sim write it.
    _Format(_says_nobody, lambda _, source: [_empty(source.path)]),
)

FORMATS = (
    "OpenPose JSON (one file a picture, also of Pose2Sim, Sports2D and ControlNet), COCO keypoint JSON (annotations or "
    "results, also of ViTPose and Detectron2), JSON of MMPose, AlphaPose, Ultralytics or EasyMocap, YOLO's pose txt, "
    "DeepLabCut's csv, or npz of bodyfit"
)
"""Names of the formats, for messages."""
_SUFFIXES = (".json", ".npz", ".txt", ".csv")
_TABLES = (".txt", ".csv")
"""Suffixes of files that may have other content: those that have are skipped."""


def read_entries(path: Path, layout: str | None) -> list[Entry]:
    """Read all entries of a file, or of the files in a folder, where an unknown JSON becomes a faulty entry.

    A folder without files stands for its only subfolder that has some. In a folder COCO's image ids are resolved by the
    `images` of all files. Raises `KeypointFileError` for a path that cannot be read, a file of no
    known format and a folder without such files.
    """
    if not path.is_dir():
        if not path.exists():
            raise KeypointFileError(f"{path} does not exist")
        return _read(read_content(path, FORMATS), _Origin(path, layout, {}))
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
        result = attempt(_read, content, _Origin(file, layout, images))
        entries += [_faulty(file, result)] if isinstance(result, KeypointFileError) else result
    if not any(entry.people or not entry.faults for entry in entries) and len(entries) > 1:
        raise KeypointFileError(f"nothing in {path} could be read; the first: {entries[0].faults[0]}")
    return _merge_fits(entries)


def _empty(path: Path) -> Entry:
    """Make the entry of a picture without people."""
    return Entry(path.stem.removesuffix("_keypoints"), path)


def _faulty(file: Path, fault: KeypointFileError) -> Entry:
    """Make the faulty entry of a file that cannot be read."""
    return replace(_empty(file), faults=(str(fault),))


def _files(folder: Path) -> list[Path]:
    """List the keypoint files of a folder; for results of `bodyfit fit` the people in its subfolders."""
    files = _own_files(folder)
    people = sorted(folder.glob("*/person*.npz"))
    ours = [p for p in files if p.name != "summary.json"]
    if people and not ours:
        return people
    if ours or files:
        return ours or files
    inner = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    inside = {p: listed for p in inner if isinstance(listed := attempt(_own_files, p), list) and listed}
    if len(inside) == 1:
        return next(iter(inside.values()))
    hint = f"; of its folders give one: {join([p.name for p in inside])}" if inside else ""
    raise KeypointFileError(
        f"the folder {folder} has no keypoint files (json, npz, txt, csv){hint}; expected {FORMATS}"
    )


def _own_files(folder: Path) -> list[Path]:
    """List files that may have keypoints, by suffix, tables also by content. Raises `KeypointFileError`."""
    try:
        candidates = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
    except OSError as error:
        raise KeypointFileError(f"the folder {folder} cannot be listed: {error.strerror or error}") from None
    tables = [p for p in candidates if p.suffix.lower() in _TABLES and _is_table(p)]
    # Among a data set's labels an empty file is a picture without people.
    labels = any(p.suffix.lower() == ".txt" for p in tables)
    return [
        p for p in candidates if p.suffix.lower() not in _TABLES or p in tables or (labels and not p.stat().st_size)
    ]


def _is_table(path: Path) -> bool:
    """Tell whether a text file is a table of keypoints."""
    content = attempt(read_head, path)
    return isinstance(content, Lines) and (yolo_labels.is_yolo_labels(content) or deeplabcut.is_deeplabcut(content))


def _read(content: Any, source: _Origin) -> list[Entry]:
    """Detect the format of a content and read it. Raises `KeypointFileError`."""
    for form in _FORMATS:
        if form.matches(content):
            return form.read(content, source)
    if isinstance(content, Lines) and not any(line.strip() for line in content.lines) and content.suffix == ".txt":
        return [_empty(source.path)]
    raise KeypointFileError(f"{source.path}: no keypoint file that is known; expected {FORMATS}")


def _merge_fits(entries: Iterable[Entry]) -> list[Entry]:
    """Merge saved fits and tracks, a file a person, into one entry a folder and frame."""
    merged: dict[Path | tuple[Path, int | None], Entry] = {}
    for entry in entries:
        is_saved = entry.path.suffix.lower() == ".npz" and entry.image_size is not None
        key = (entry.path.parent, entry.frame) if is_saved else entry.path / entry.name
        if key in merged and is_saved:
            entry = replace(merged[key], people=(*merged[key].people, *entry.people))
        merged[key] = entry
    return list(merged.values())
