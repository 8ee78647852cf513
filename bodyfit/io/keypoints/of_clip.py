"""Find a clip's keypoints among the files of a folder by name."""

from __future__ import annotations

from pathlib import Path

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import join
from bodyfit.io.keypoints.values import printable

__all__ = ["files_of_clip"]

_PATTERNS = ("{}", "{}.json", "{}.npz", "{}.csv", "results_{}.json", "{}_keypoints", "{}_json")
"""Patterns of names of a clip's files or folder; {}_json is Pose2Sim's."""
_DEEPLABCUT = "dlc_"
"""DeepLabCut's infix between the names of the clip and of the network."""


def files_of_clip(path: Path, clip: Path) -> Path:
    """Return the file or folder in `path` that is named after the clip, ignoring case, or `path` itself.

    Raises `KeypointFileError` for several tables of DeepLabCut.
    """
    if not path.is_dir():
        return path
    try:
        inside = {inner.name.casefold(): inner for inner in sorted(path.iterdir())}
    except OSError as error:
        raise KeypointFileError(f"the folder {path} cannot be listed: {error.strerror or error}") from None
    stem = clip.stem.casefold()
    for name in (stem, clip.name.casefold()):
        for pattern in _PATTERNS:
            # The clip itself may lie beside its keypoints.
            file = inside.get(pattern.format(name))
            if file is not None and (pattern != "{}" or file.is_dir()):
                return file
    tables = [p for name, p in inside.items() if name.startswith(stem + _DEEPLABCUT) and name.endswith(".csv")]
    filtered = [p for p in tables if p.stem.endswith("_filtered")]
    tables = filtered if len(filtered) == 1 else tables
    if len(tables) > 1:
        raise KeypointFileError(
            f"{path} has several tables of {clip.name}: {join([printable(p.name) for p in tables])}"
        )
    return tables[0] if tables else path
