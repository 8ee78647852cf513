"""`--keypoints` of `bodyfit video`: which of the files are of which clip, and what the user is told of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bodyfit.cli.support import common
from bodyfit.cli.support.finding import note_unused
from bodyfit.errors import OptionError

if TYPE_CHECKING:
    from bodyfit.io import ClipKeypoints

__all__ = ["ClipFiles"]


class ClipFiles:
    """Finds each clip's keypoints: below PATH under its name, else in PATH itself."""

    def __init__(self, path: Path, layout: str | None, first_frame: int | None, clips: Sequence[Path]) -> None:
        """Raises `OptionError` for a path that is not there, and for one file of several clips."""
        if not path.exists():
            raise OptionError(f"--keypoints {path} does not exist")
        if len(clips) > 1 and not path.is_dir():
            raise OptionError(
                f"--keypoints {path} is one file for {len(clips)} clips; give a folder with a file or folder of each "
                "clip's name, or one clip"
            )
        self._path, self._layout, self._first_frame, self._several = path, layout, first_frame, len(clips) > 1

    def __call__(self, clip: Path) -> ClipKeypoints:
        """What the files say of a clip. Raises `KeypointFileError` and `OptionError`."""
        from bodyfit.io import ClipKeypoints, load_keypoints
        from bodyfit.io.keypoints.of_clip import files_of_clip

        files = load_keypoints(files_of_clip(self._path, clip), layout=self._layout)
        found = ClipKeypoints(files, clip, first_frame=self._first_frame)
        for note in files.notes:
            common.error(note, label="note")
        if found.unused and not self._several:
            note_unused(found.unused, f"no frame of {clip.name}")
        if found.counts_from == 1 and self._first_frame is None:
            common.error(
                f"the frames in {files.path} begin with number 1; if they count from 1, and not from 0 with nothing "
                "for the first, say --first-frame 1",
                label="note",
            )
        return found
