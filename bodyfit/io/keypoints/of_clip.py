"""Which of the files below a folder are a clip's keypoints, by their names."""

from __future__ import annotations

from pathlib import Path

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import join
from bodyfit.io.keypoints.values import printable

__all__ = ["files_of_clip"]

_KINDS = ("{}", "{}.json", "{}.npz", "{}.csv", "results_{}.json", "{}_keypoints", "{}_json")
"""What programs call a clip's files or folder; {}_json is Pose2Sim's."""
_DEEPLABCUT = "dlc_"
"""What DeepLabCut puts after the clip's name, before that of its network."""


def files_of_clip(path: Path, clip: Path) -> Path:
    """The file or folder below `path` that is named after the clip, in any case of letters; `path` itself if none is.

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
        for kind in _KINDS:
            # The clip itself may lie beside its keypoints.
            if (found := inside.get(kind.format(name))) is not None and (kind != "{}" or found.is_dir()):
                return found
    tables = [p for name, p in inside.items() if name.startswith(stem + _DEEPLABCUT) and name.endswith(".csv")]
    filtered = [p for p in tables if p.stem.endswith("_filtered")]
    tables = filtered if len(filtered) == 1 else tables
    if len(tables) > 1:
        raise KeypointFileError(
            f"{path} has several tables of {clip.name}: {join([printable(p.name) for p in tables])}"
        )
    return tables[0] if tables else path
