"""Read a keypoint file before its format is detected: JSON values, an archive, or lines of text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodyfit.errors import KeypointFileError

__all__ = ["Archive", "Lines", "read_content", "read_head"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_TEXT = (".txt", ".csv")
_HEAD = 1 << 16


@dataclass(frozen=True)
class Archive:
    """Marks an npz, which its reader opens."""


@dataclass(frozen=True)
class Lines:
    """The content of a text file."""

    lines: tuple[str, ...]
    """The lines."""
    suffix: str
    """Suffix of the file's name, lower case: .txt or .csv."""


def read_content(path: Path, expected: str) -> Any:
    """Read a file: the values of a JSON file, or an `Archive` or `Lines`.

    `expected` ends the message of the `KeypointFileError` that is raised for other files.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KeypointFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if data[:2] == b"PK":
        return Archive()
    if data[:8] == _HDF5:
        raise KeypointFileError(
            f"{path}: HDF5 of pandas can hold pickles, which are never opened; give the csv of the same (DeepLabCut "
            "makes it with save_as_csv=True or analyze_videos_converth5_to_csv)"
        )
    suffix = path.suffix.lower()
    try:
        text = data.decode("utf-8-sig")
        return Lines(tuple(text.splitlines()), suffix) if suffix in _TEXT else json.loads(text)
    except RecursionError:
        raise KeypointFileError(f"{path}: refused, its JSON is nested too deeply") from None
    except ValueError as error:  # of JSON and of UTF-8
        what = "is empty" if not data.strip() else f"is no complete {'text' if suffix in _TEXT else 'JSON'} ({error})"
        raise KeypointFileError(f"{path}: {what}; expected {expected}") from None


def read_head(path: Path) -> Lines:
    """Read the first complete lines of a text file, to detect its format. Raises `KeypointFileError`."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD)
        if len(data) == _HEAD:
            data = data[: data.rfind(b"\n") + 1]
        return Lines(tuple(data.decode("utf-8-sig").splitlines()), path.suffix.lower())
    except (OSError, ValueError) as error:
        raise KeypointFileError(f"{path}: cannot be read: {error}") from None
