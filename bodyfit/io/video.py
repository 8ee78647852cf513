"""Clips as frames, upright, one at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from bodyfit.errors import OptionError, VideoError
from bodyfit.frame import Frame

if TYPE_CHECKING:
    import av
    import av.container
    import av.video

__all__ = ["VideoReader", "open_clip", "url_of"]

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,gif,flv,asf,ogg,mxf,rm,dv,nut,ivf,"
    "h264,hevc,av1,obu,m4v,mjpeg,mpegvideo,swf,apng"
)
"""What is read as a clip: of FFmpeg's formats not the pictures, texts, playlists and lists that lead to other files."""
_PICTURES = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"]
_FULL_RANGE = 2  # of FFmpeg's AVCOL_RANGE_JPEG
_HD_ROWS = 720
"""Clips of as many rows that do not name their matrix of colours have BT.709's, smaller ones BT.601's."""


class VideoReader:
    """The frames of a clip, upright and as 8-bit RGB; iterate as often as needed, only a few frames are in memory.

    Rotation and pixels that are not square are undone, the times are the file's own (`Frame.time_s`), and what cannot
    be decoded is left out and counted (`skipped`).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        stride: int = 1,
        max_side_px: int | None = None,
    ) -> None:
        """Frames from `start_s` up to before `end_s` (seconds from the clip's start), every `stride`-th of them, made
        smaller where a side is longer than `max_side_px`.

        Raises `VideoError` where no frame can be read and `OptionError` for times or a stride that cannot be meant.
        """
        self.path = Path(path)
        self.start_s = 0.0 if start_s is None else float(start_s)
        self.end_s = math.inf if end_s is None else float(end_s)
        self.stride = stride
        if not 0 <= self.start_s < self.end_s:
            raise OptionError(f"start_s and end_s must be 0 <= start < end, got {start_s} and {end_s}")
        if stride < 1 or (max_side_px is not None and max_side_px < 16):
            raise OptionError(f"stride must be at least 1 and max_side_px 16, got {stride} and {max_side_px}")
        self.skipped = 0
        """Packets and frames that could not be decoded, in the last pass."""
        self.cut_short = False
        """Whether the file ended in the middle of its data, in the last pass."""
        with open_clip(self.path) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            self.rate: Fraction = rate if 0 < rate <= 1000 else Fraction(25)  # some files say 90000
            """Frames a second on average, by the file, of all of them."""
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise VideoError(f"{self.path}: none of its frames can be decoded; the file is damaged")
            self.rotation_deg: int = round(first.rotation / 90) * 90 % 360
            """By how much the stored pictures are turned counter-clockwise to stand upright: 0, 90, 180 or 270."""
            aspect = stream.codec_context.sample_aspect_ratio or Fraction(1)
            aspect = aspect if Fraction(1, 8) < aspect < 8 else Fraction(1)
            width, height = round(first.width * max(aspect, 1)), round(first.height / min(aspect, 1))
            self.full_size: tuple[int, int] = (height, width) if self.rotation_deg % 180 else (width, height)
            """Width and height of the clip as it is shown, pixels."""
            smaller = min(1.0, (max_side_px or math.inf) / max(width, height))
            self._stored = width, height = max(1, round(width * smaller)), max(1, round(height * smaller))
            self.size: tuple[int, int] = (height, width) if self.rotation_deg % 180 else (width, height)
            """Width and height of the frames that are given out."""
            self._matrix = _matrix(first)
            seconds = float((stream.duration or 0) * (stream.time_base or 0)) or (container.duration or 0) / 1e6
            self.clip_s: float = seconds
            """Length of the whole clip, seconds, by the file; 0 where it does not say."""
            self.has_sound = len(container.streams.audio) > 0
            """Whether there is a sound track."""

    @property
    def fps(self) -> float:
        """Frames a second that are given out, on average."""
        return float(self.rate / self.stride)

    @property
    def duration_s(self) -> float:
        """Length of what is read, seconds, by the file; 0 where it does not say."""
        return max(0.0, min(self.clip_s, self.end_s) - self.start_s)

    @property
    def expected(self) -> int | None:
        """How many frames will come, by the file, or None where it does not say; a guess where the rate varies."""
        return math.ceil(self.duration_s * self.fps - 1e-6) or None

    def __iter__(self) -> Iterator[Frame]:
        """Frames with their number in the clip and their time; their number is by time where `start_s` is not 0."""
        self.skipped, self.cut_short = 0, False
        with open_clip(self.path) as container:
            stream = container.streams.video[0]
            origin, base = stream.start_time, stream.time_base
            if self.start_s > 0 and base is not None:
                container.seek(int((origin or 0) + self.start_s / base), stream=stream, backward=True)
            number, given, last = -1, 0, -math.inf
            for picture in self._decoded(container, stream):
                if picture.pts is None or base is None:  # raw streams hold no times
                    time_s = max(0.0, last + 1 / float(self.rate)) if math.isfinite(last) else 0.0
                else:
                    origin = picture.pts if origin is None else origin
                    time_s = float((picture.pts - origin) * base)
                if time_s <= last:  # a clock that stands still or runs backwards
                    time_s = last + 1e-3
                last = time_s
                if time_s < self.start_s - 1e-6:
                    continue
                if time_s >= self.end_s - 1e-6:
                    return
                number = round(time_s * self.rate) if number < 0 and self.start_s > 0 else number + 1
                if given % self.stride == 0:
                    yield Frame(self._upright(picture), self.path, index=number, time_s=time_s)
                given += 1

    def _decoded(self, container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        """Whole frames in the order of showing; faults are counted and passed over."""
        from av.error import FFmpegError

        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = min(os.cpu_count() or 1, 8)  # each thread holds a frame
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError:
                self.skipped, self.cut_short = self.skipped + 1, True
                return
            if packet is None:
                return
            try:
                pictures = packet.decode()
            except FFmpegError:
                self.skipped += 1
                continue
            for picture in pictures:
                if picture.is_corrupt:
                    self.skipped += 1
                else:
                    yield picture

    def _upright(self, picture: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
        width, height = self._stored
        other_size, full = (width, height) != (picture.width, picture.height), picture.color_range == _FULL_RANGE
        if other_size and picture.format.name == "yuv420p" and not full:
            # In two steps, each of which FFmpeg has a fast way for; full range would get lost between them.
            picture = picture.reformat(width=width, height=height, format="yuv420p")
        rgb = picture.reformat(width=width, height=height, format="rgb24", src_colorspace=self._matrix)
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), self.rotation_deg // 90))


def open_clip(path: Path) -> av.container.InputContainer:
    """An open file with at least one video stream. Raises `VideoError`, naming it, and what to do."""
    import av
    from av.error import FFmpegError

    try:
        if path.is_dir():
            raise VideoError(f"{path} is a folder, not a clip; give a file")
        if not path.exists():
            raise VideoError(f"{path} does not exist")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes)")
        options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
        container = av.open(url_of(path), options=options, metadata_errors="replace")
    except PermissionError:
        raise VideoError(f"{path} may not be read: permission denied") from None
    except (OSError, ValueError) as error:
        if path.suffix.lower() in _PICTURES:
            raise VideoError(f"{path} is a picture, not a clip; fit it with: bodyfit fit") from None
        fault = isinstance(error, FFmpegError) and "moov" not in str(error)
        reason = "no clip that can be read, or its end is missing" if fault else str(error)
        raise VideoError(f"{path}: {reason}; give mp4, mov, mkv, webm, avi or gif, or export it again") from None
    try:
        if not container.streams.video:
            what = "only sound" if container.streams.audio else "no pictures"
            raise VideoError(f"{path} holds {what}; give a clip with pictures")
        if container.streams.video[0].codec_context is None:
            raise VideoError(f"{path} is damaged, or in a codec that is not known here; convert it to H.264")
    except VideoError:
        container.close()
        raise
    return container


def url_of(path: Path) -> str:
    """A path as FFmpeg takes it: with the protocol, else a colon in the name would be read as one."""
    return f"file:{path}"


def _matrix(picture: av.VideoFrame) -> int:
    """The matrix that turns the clip's colours into RGB, as swscale numbers it: what the file says, else by size."""
    # Numbers of ITU-T H.273: 1 BT.709, 4 FCC, 5 and 6 BT.601, 7 SMPTE 240M, 9 and 10 BT.2020; swscale has one of each.
    said = {6: 5, 10: 9}.get(int(picture.colorspace), int(picture.colorspace))
    return said if said in (1, 4, 5, 7, 9) else 1 if picture.height >= _HD_ROWS else 5
