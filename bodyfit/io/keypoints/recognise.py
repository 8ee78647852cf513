"""Which of the formats a keypoint file is, by what is in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints import coco, mmpose, openpose, own
from bodyfit.io.keypoints.entry import Entry

__all__ = ["FORMATS", "read_entries"]

FORMATS = (
    "OpenPose JSON (one file a picture), COCO keypoint JSON (annotations or results, also of ViTPose and Detectron2), "
    "MMPose and AlphaPose JSON, or npz of bodyfit"
)
"""What can be read, for messages."""


def read_entries(path: Path, layout: str | None) -> list[Entry]:
    """All entries of a file, or of the files in a folder, where a file that is none of ours becomes a faulty entry.

    In a folder COCO's image ids mean what the `images` of any file there say. Raises `KeypointFileError` for a path
    that cannot be read, a file of no known format and a folder without such files.
    """
    if not path.is_dir():
        if not path.exists():
            raise KeypointFileError(f"{path} does not exist")
        return _read(path, _content(path), layout, {})
    files = _files(path)
    contents: dict[Path, Any] = {}
    entries: list[Entry] = []
    for file in files:
        content = _attempt(_content, file)
        if isinstance(content, KeypointFileError):
            entries.append(_faulty(file, content))
        else:
            contents[file] = content
    names: dict[str, tuple[str, tuple[int, int] | None]] = {}
    for content in contents.values():
        names |= coco.image_names(content) if coco.is_annotations(content) else {}
    only_names = any(coco.is_results(content) for content in contents.values())
    for file, content in contents.items():
        if only_names and coco.is_annotations(content) and not content.get("annotations"):
            continue
        read = _attempt(_read, file, content, layout, names)
        entries += [_faulty(file, read)] if isinstance(read, KeypointFileError) else read
    if not any(entry.people or not entry.faults for entry in entries) and len(entries) > 1:
        raise KeypointFileError(f"nothing in {path} could be read; the first: {entries[0].faults[0]}")
    return _fits_together(entries)


def _attempt(read: Callable[..., Any], *args: Any) -> Any:
    try:
        return read(*args)
    except KeypointFileError as fault:
        return fault


def _faulty(file: Path, fault: KeypointFileError) -> Entry:
    """The entry of the picture that a file would be about."""
    return Entry(file.stem.removesuffix("_keypoints"), file, faults=(str(fault),))


def _files(folder: Path) -> list[Path]:
    """JSON and npz files of a folder; of the results of `bodyfit fit` the people in the folders inside it."""
    try:
        named = (p for p in folder.iterdir() if p.suffix.lower() in (".json", ".npz"))
        files = sorted(p for p in named if not p.name.startswith("."))
        people = sorted(folder.glob("*/person*.npz"))
    except OSError as error:
        raise KeypointFileError(f"the folder {folder} cannot be listed: {error.strerror or error}") from None
    ours = [p for p in files if p.name != "summary.json"]
    if people and not ours:
        return people
    if not files:
        raise KeypointFileError(f"the folder {folder} has no keypoint files (json, npz); expected {FORMATS}")
    return ours or files


def _content(path: Path) -> Any:
    """What a JSON file holds; None for an npz, which its reader opens."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KeypointFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if data[:2] == b"PK":
        return None
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise KeypointFileError(f"{path}: refused, its JSON is nested too deeply") from None
    except ValueError as error:  # of JSON and of UTF-8
        what = "is empty" if not data.strip() else f"is no complete JSON ({error})"
        raise KeypointFileError(f"{path}: {what}; expected {FORMATS}") from None


def _read(path: Path, content: Any, layout: str | None, names: Any) -> list[Entry]:
    if content is None:
        return own.read_own(path, layout)
    if openpose.is_openpose(content):
        return openpose.read_openpose(content, path, layout)
    if coco.is_annotations(content):
        return coco.read_annotations(content, path, layout)
    if coco.is_results(content):
        return coco.read_results(content, path, layout, names)
    if mmpose.is_mmpose(content):
        return mmpose.read_mmpose(content, path, layout)
    if openpose.is_openpose_table(content):
        return openpose.read_openpose_table(content, path, layout)
    if content == []:  # MMPose's way to say that it found nobody
        return [Entry(path.stem, path)]
    raise KeypointFileError(f"{path}: no keypoint file that is known; expected {FORMATS}")


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
