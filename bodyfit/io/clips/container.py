"""Read clips in containers by PyAV (FFmpeg): choose the video stream, its orientation and its frame times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from bodyfit.errors import VideoError
from bodyfit.images.orientation import UPRIGHT, Orientation
from bodyfit.io.clips.source import Damage, RawFrame

if TYPE_CHECKING:
    import av
    import av.container
    import av.video

__all__ = ["ContainerSource", "open_container", "ranked_streams", "url_of"]

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,gif,flv,asf,ogg,mxf,rm,dv,nut,ivf,"
    "h264,hevc,av1,obu,m4v,mjpeg,mpegvideo,swf,apng"
)
"""FFmpeg's formats that are read as clips: not pictures, texts, or playlists that refer to other files."""
_ELEMENTARY = frozenset(("h264", "hevc", "av1", "obu", "m4v", "mjpeg", "mpegvideo"))
"""Formats without frame times: those that FFmpeg reports for them are invented."""
_SOUND = (b"ID3", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1", b"\xff\xf9", b"FORM", b"#!AMR", b"MThd")
"""First bytes of sound files, which are not opened as clips: mp3, flac, aac, aiff, amr, midi."""
_FULL_RANGE = 2  # of FFmpeg's AVCOL_RANGE_JPEG
_HD_ROWS = 720
"""Clips without a colour matrix have BT.709 from this height on, smaller ones BT.601."""
_DEFAULT_PIXELS = 5_000_000
"""Pixels that the disposition "default" counts for in the choice of a stream, as in FFmpeg."""
_SAME_RATE = 1e-3
"""Largest relative difference of a stream's mean and base frame rates where its frames are evenly spaced."""


class ContainerSource:
    """The video stream of a container that a player shows, upright, with square pixels."""

    def __init__(self, path: Path, fps: float | int | None = None) -> None:
        """Open the container; `fps` is the rate of an elementary stream, which has no times. Raises `VideoError`."""
        self.path = path
        with open_container(path) as container:
            count = len(ranked_streams(container))
        for rank in range(count):
            with open_container(path) as container:
                stream = ranked_streams(container)[rank]
                first = next(_decode_frames(container, stream, Damage()), None)
                if first is not None:
                    self._describe(container, stream, first, fps)
                    return
        raise VideoError(f"{path}: none of its frames can be decoded; the file is damaged")

    def _describe(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        first: av.VideoFrame,
        fps: float | int | None,
    ) -> None:
        """Read a stream's rate, size, orientation and colour matrix. Raises `VideoError`."""
        self._elementary = container.format.name in _ELEMENTARY
        if fps is not None and not self._elementary:
            raise VideoError(
                f"{self.path} says itself when its frames are shown; leave out fps={fps:g}, which is for folders of "
                "frames and for streams without times"
            )
        self._index = stream.index
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        rate = rate if fps is None else Fraction(fps).limit_denominator(1001)
        self.rate = rate if 0 < rate <= 1000 else Fraction(25)  # some files say 90000
        base = stream.base_rate
        self._even = base is not None and abs(float(base / self.rate) - 1) < _SAME_RATE
        self._orientation = _orientation(first)
        aspect = stream.codec_context.sample_aspect_ratio or Fraction(1)
        aspect = aspect if Fraction(1, 8) < aspect < 8 else Fraction(1)
        self.full_size = self._orientation.size(
            round(first.width * max(aspect, 1)), round(first.height / min(aspect, 1))
        )
        self._matrix = _color_matrix(first)
        seconds = float((stream.duration or 0) * (stream.time_base or 0)) or (container.duration or 0) / 1e6
        self.clip_s = 0.0 if self._elementary else seconds
        self.has_sound = len(container.streams.audio) > 0
        self.notes: tuple[str, ...] = ()
        if self._elementary and fps is None:
            self.notes = (f"{self.path} does not say when its frames are shown: taken as {float(rate):g} a second",)

    def frames(self, start_s: float, damage: Damage) -> Iterator[RawFrame]:
        """Yield frames with the file's own times, from the key frame before `start_s` on."""
        with open_container(self.path) as container:
            stream = container.streams[self._index]
            assert stream.type == "video"
            origin, base = stream.start_time, None if self._elementary else stream.time_base
            late = start_s > 0 and base is not None
            if late and base is not None:
                container.seek(int((origin or 0) + start_s / base), stream=stream, backward=True)
            number = -1
            for picture in _decode_frames(container, stream, damage):
                time_s = None
                if base is not None and picture.pts is not None:
                    origin = picture.pts if origin is None else origin
                    time_s = float((picture.pts - origin) * base)
                if number < 0 and late and time_s is not None and picture.pts is not None:
                    number = round(time_s * self.rate) if self._even else self._frames_before(picture.pts)
                else:
                    number += 1
                yield RawFrame(number, time_s, partial(self._rgb, picture), self.path)

    def _frames_before(self, pts: int) -> int:
        """Count the frames before a time of the stream by its packets, without decoding."""
        from av.error import FFmpegError

        count = 0
        with open_container(self.path) as container:
            try:
                for packet in container.demux(container.streams[self._index]):
                    if packet.dts is not None and packet.dts >= pts:
                        break
                    count += packet.pts is not None and packet.pts < pts and packet.size > 0 and not packet.is_discard
            except FFmpegError:
                pass  # a full pass would not count the frames after the damage either
        return count

    def _rgb(self, picture: av.VideoFrame, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """Convert a frame to an upright RGB picture of a size (width, height)."""
        width, height = self._orientation.size(*size)
        other_size, full = (width, height) != (picture.width, picture.height), picture.color_range == _FULL_RANGE
        if other_size and picture.format.name == "yuv420p" and not full:
            # In two steps, for each of which FFmpeg has a fast path; the full range would be lost in between.
            picture = picture.reformat(width=width, height=height, format="yuv420p")
        rgb = picture.reformat(width=width, height=height, format="rgb24", src_colorspace=self._matrix)
        return self._orientation.apply(rgb.to_ndarray())


def open_container(path: Path) -> av.container.InputContainer:
    """Open a file in one of the formats of clips. Raises `VideoError`, naming it and what to do."""
    import av
    from av.error import FFmpegError

    try:
        if not path.exists():
            link = f"is a link to {path.readlink()}, which does not exist" if path.is_symlink() else "does not exist"
            raise VideoError(f"{path} {link}")
        if not path.is_file():
            raise VideoError(f"{path} is no file; give a clip")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes)")
        options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
        return av.open(url_of(path), options=options, metadata_errors="replace")
    except PermissionError:
        raise VideoError(f"{path} may not be read: permission denied") from None
    except (OSError, ValueError) as error:
        if _is_sound(path):
            raise _only_sound(path, cover=False) from None
        fault = isinstance(error, FFmpegError) and "moov" not in str(error)
        reason = "no clip that can be read, or its end is missing" if fault else str(error)
        raise VideoError(f"{path}: {reason}; give mp4, mov, mkv, webm, avi or gif, or export it again") from None


def ranked_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Rank the video streams as FFmpeg does: by pixels of a frame, where "default" counts as five million.

    Cover pictures and thumbnails are excluded. Raises `VideoError` where no stream is left.
    """
    from av.stream import Disposition

    path = Path(container.name.removeprefix("file:"))
    excluded = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & excluded]
    if not streams:
        if container.streams.audio:
            raise _only_sound(path, cover=len(container.streams.video) > 0)
        what = "only a cover picture" if container.streams.video else "no pictures"
        raise VideoError(f"{path} holds {what}; give a clip with pictures")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise VideoError(f"{path} is damaged, or in a codec that is not decodable here; convert it to H.264")

    def rank(stream: av.VideoStream) -> int:
        return -stream.width * stream.height - _DEFAULT_PIXELS * bool(stream.disposition & Disposition.default)

    return sorted(decodable, key=rank)


def url_of(path: Path) -> str:
    """Return a path as a URL for FFmpeg, so that a colon in the name is not read as a protocol."""
    return f"file:{path}"


def _decode_frames(
    container: av.container.InputContainer, stream: av.VideoStream, damage: Damage
) -> Iterator[av.VideoFrame]:
    """Decode frames in display order; skip and count faults."""
    from av.error import FFmpegError

    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = min(os.cpu_count() or 1, 8)  # each thread holds a frame
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError:
            damage.skipped, damage.cut_short = damage.skipped + 1, True
            return
        if packet is None:
            return
        try:
            pictures = packet.decode()
        except FFmpegError:
            damage.skipped += 1
            continue
        for picture in pictures:
            if picture.is_corrupt:
                damage.skipped += 1
            else:
                yield picture


def _orientation(picture: av.VideoFrame) -> Orientation:
    """Read the display orientation of a stream."""
    matrix = picture.side_data.get("DISPLAYMATRIX")
    return UPRIGHT if matrix is None else Orientation.from_matrix(np.frombuffer(bytes(matrix), "=i4").tolist())


def _color_matrix(picture: av.VideoFrame) -> int:
    """Return swscale's number of the clip's colour matrix: the file's, else by the picture's height."""
    # Numbers of ITU-T H.273: 1 BT.709, 4 FCC, 5 and 6 BT.601, 7 SMPTE 240M, 9 and 10 BT.2020; swscale has one of each.
    matrix = {6: 5, 10: 9}.get(int(picture.colorspace), int(picture.colorspace))
    return matrix if matrix in (1, 4, 5, 7, 9) else 1 if picture.height >= _HD_ROWS else 5


def _is_sound(path: Path) -> bool:
    """Tell whether a file has the first bytes of a sound file."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except (OSError, ValueError):
        return False
    return head.startswith(_SOUND) or (head[:4] == b"RIFF" and head[8:] == b"WAVE")


def _only_sound(path: Path, *, cover: bool) -> VideoError:
    """Make the error for a file without video."""
    return VideoError(f"{path} holds only sound{' and its cover' if cover else ''}; give a clip with pictures")
