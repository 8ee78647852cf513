"""Masks of the frames of a clip, by the frames' numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bodyfit.errors import ImageError
from bodyfit.io.clips.frame_folder import FrameFolder
from bodyfit.io.masks import MaskFiles
from bodyfit.keypoints import Keypoints2D, SoftMask

__all__ = ["ClipMasks"]

_LISTED = 3
"""Number of files' names in an error."""


class ClipMasks:
    """Masks of one clip's frames: CLIP_000123.png or 000123.png for frame 123, counted from 0.

    For a folder of frames masks have the names of the pictures. A frame's mask is a map or a file for each person, as
    for pictures (`MaskFiles`).
    """

    def __init__(self, files: MaskFiles, clip: Path, *, only: bool = True) -> None:
        """Find the clip's masks; those named after it come before those that have numbers alone.

        only: whether there are no other clips, of which masks with numbers alone may be. Raises `ImageError` where no
        mask is of this clip, and `VideoError` for a folder that is no clip.
        """
        self.files, self.clip = files, clip
        self._names = _by_picture(files, clip) if clip.is_dir() else _by_number(files, clip, only=only)
        if not self._names:
            wanted = "the frames' names" if clip.is_dir() else f"{clip.stem}_000123.png for frame 123, from 0"
            numbers = "" if clip.is_dir() or not only else ", or 000123.png"
            have = ", ".join(files.names[:_LISTED]) + (" ..." if len(files.names) > _LISTED else "")
            raise ImageError(f"{files.folder} has no masks of {clip.name}; name them {wanted}{numbers}; it has {have}")
        self.frames = frozenset(self._names)
        """Numbers of the frames with masks."""

    def of(self, frame: int, size: tuple[int, int], people: Sequence[Keypoints2D]) -> list[SoftMask | None]:
        """Read the masks of a frame of `size` (width and height, pixels) and give each person theirs; None without.

        Raises `ImageError` for a file that cannot be read or is of another size.
        """
        name = self._names.get(frame)
        return [None] * len(people) if name is None else self.files.named(name, size, people)


def _by_number(files: MaskFiles, clip: Path, *, only: bool) -> dict[int, str]:
    """Find the masks of a clip's frames by numbers in names."""
    patterns = [re.escape(clip.stem) + r"[_.-]?0*(\d{1,15})"] + [r"0*(\d{1,15})"] * only
    for pattern in patterns:
        found = [(re.fullmatch(pattern, name, re.IGNORECASE), name) for name in files.names]
        if by_number := {int(match.group(1)): name for match, name in found if match}:
            return by_number
    return {}


def _by_picture(files: MaskFiles, clip: Path) -> dict[int, str]:
    """Find the masks of a folder of frames by the pictures' names."""
    names = set(files.names)
    pictures = FrameFolder.read(clip).files
    return {place: picture.stem for place, picture in enumerate(pictures) if picture.stem in names}
