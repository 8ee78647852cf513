"""Read clips frame by frame, upright and in RGB."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from bodyfit.errors import ImageError, OptionError, VideoError
from bodyfit.images.files import image_by_name
from bodyfit.images.frame import Frame
from bodyfit.io.clips.container import ContainerSource
from bodyfit.io.clips.pictures import AnimationSource, FolderSource, animation_in
from bodyfit.io.clips.source import Damage, FrameSource

__all__ = ["VideoReader"]


class VideoReader:
    """Iterates over the frames of a clip, upright and as 8-bit RGB, repeatedly, with only a few frames in memory.

    A clip is a video file (of several streams the one that a player shows), an animated picture (GIF, WebP, PNG, AVIF),
    or a folder of pictures in the order of the numbers in their names, where missing numbers are gaps in time.
    Rotation, mirroring and non-square pixels are undone, times are the file's own (`Frame.time_s`), and frames that
    cannot be decoded are omitted and counted (`skipped`).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float | int | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        max_side_px: int | None = None,
    ) -> None:
        """Open a clip: every `stride`-th frame from `start_s` to before `end_s` (seconds from the clip's start).

        Frames are downscaled where a side is longer than `max_side_px`. `fps` is the frame rate of a folder, of the
        pages of a TIFF, and of streams without times (.h264). Raises `VideoError` where no frame can be read, where fps
        is missing, or given for a file with times of its own; `OptionError` for invalid times, rate or stride.
        """
        self.path = Path(path)
        self.start_s = 0.0 if start_s is None else float(start_s)
        self.end_s = math.inf if end_s is None else float(end_s)
        self.stride = stride
        if not 0 <= self.start_s < self.end_s:
            raise OptionError(f"start_s and end_s must be 0 <= start < end, got {start_s} and {end_s}")
        if stride < 1 or (max_side_px is not None and max_side_px < 16):
            raise OptionError(f"stride must be at least 1 and max_side_px 16, got {stride} and {max_side_px}")
        if fps is not None and not 0.01 <= fps <= 1000:
            raise OptionError(f"fps must be frames a second between 0.01 and 1000, got {fps}")
        self._damage = Damage()
        self._source = source = _source(self.path, fps)
        self.rate: Fraction = source.rate
        """Mean frame rate of all frames by the file, 1/s."""
        self.full_size: tuple[int, int] = source.full_size
        """Displayed width and height of the clip, pixels."""
        width, height = source.full_size
        smaller = min(1.0, (max_side_px or math.inf) / max(width, height))
        self.size: tuple[int, int] = max(1, round(width * smaller)), max(1, round(height * smaller))
        """Width and height of the frames that are yielded, pixels."""
        self.clip_s: float = source.clip_s
        """Duration of the whole clip by the file, seconds; 0 where unknown."""
        self.has_sound: bool = source.has_sound
        """Whether there is a sound track."""

    @property
    def skipped(self) -> int:
        """Number of packets and frames that could not be decoded in the last pass."""
        return self._damage.skipped

    @property
    def cut_short(self) -> bool:
        """Whether the last pass found the file truncated."""
        return self._damage.cut_short

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user on how the clip was read: gaps in a folder, omitted files."""
        return (*self._source.notes, *(f"left out: {fault}" for fault in self._damage.files))

    @property
    def fps(self) -> float:
        """Mean rate of the yielded frames, 1/s."""
        return float(self.rate / self.stride)

    @property
    def duration_s(self) -> float:
        """Duration of the part that is read, seconds; 0 where unknown."""
        return max(0.0, min(self.clip_s, self.end_s) - self.start_s)

    @property
    def expected(self) -> int | None:
        """Estimated number of frames, None where unknown; a guess where the rate varies."""
        return math.ceil(self.duration_s * self.fps - 1e-6) or None

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames with their indices in the clip and their times."""
        damage = self._damage = Damage()
        count, last = 0, -math.inf
        for raw in self._source.frames(self.start_s, damage):
            time_s = raw.number / float(self.rate) if raw.time_s is None else raw.time_s
            if time_s <= last:  # times that do not ascend
                time_s = last + 1e-3
            last = time_s
            if time_s < self.start_s - 1e-6:
                continue
            if time_s >= self.end_s - 1e-6:
                return
            if count % self.stride == 0:
                try:
                    image = raw.rgb(self.size)
                except ImageError as fault:
                    damage.skipped += 1
                    damage.files.append(str(fault))
                    continue
                yield Frame(image, raw.path, index=raw.number, time_s=time_s)
            count += 1


def _source(path: Path, fps: float | int | None) -> FrameSource:
    """Open the source of a clip. Raises `VideoError`."""
    if path.is_dir():
        return FolderSource(path, fps)
    if animation_in(path):
        return AnimationSource(path, fps)
    try:
        return ContainerSource(path, fps)
    except VideoError:
        if image_by_name(path) and path.is_file() and path.stat().st_size > 0:
            raise VideoError(f"{path} is a picture, not a clip; fit it with: bodyfit fit") from None
        raise
