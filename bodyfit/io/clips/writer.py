"""Write pictures to clips: H.264 in mp4, with the sound of another clip, or gif."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from bodyfit.errors import OptionError, OutputError, check_shape
from bodyfit.io.clips.container import open_container, ranked_streams, url_of
from bodyfit.runtime.atomic import write_atomically

if TYPE_CHECKING:
    import av
    import av.audio
    import av.container
    import av.video

__all__ = ["VIDEO_SUFFIXES", "VideoWriter"]

VIDEO_SUFFIXES = (".mp4", ".gif")
"""Suffixes of clips that can be written."""
_COPIED_CODECS = ("aac", "mp3", "ac3", "eac3", "alac")
"""Sound codecs that are copied into mp4; other sound is re-encoded."""
_BT709 = 1  # its number in ITU-T H.273 for matrix, primaries and transfer function


class VideoWriter:
    """Writes pictures as a clip, atomically: `with VideoWriter(path, size, fps) as clip: clip.write(picture)`.

    mp4 is H.264 (yuv420p, BT.709, streamable), an odd size padded to the next even one; gif has 256 colours a frame. An
    exception in the block leaves no file. Raises `OptionError` and `OutputError`.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        fps: float | Fraction,
        *,
        sound_from: str | Path | None = None,
        sound_start_s: float = 0.0,
        crf: int = 22,
    ) -> None:
        """Set up a clip of `size` (width, height) at the mean rate `fps`, the exact rate of pictures without a time.

        `sound_from` names a clip whose sound is copied, from `sound_start_s` of that clip's pictures on; a gif has no
        sound. `crf` is x264's quality: 18 looks like the original, 28 is small.
        """
        self.path = Path(path)
        if self.path.suffix.lower() not in VIDEO_SUFFIXES:
            raise OptionError(f"{path}: clips are written as {' or '.join(VIDEO_SUFFIXES)}")
        if not 0 < fps <= 1000:
            raise OptionError(f"fps must be in (0, 1000], got {fps}")
        if min(size) < 2 or max(size) > 16384:
            raise OptionError(f"size must be (width, height), each from 2 to 16384 px, got {size}")
        self.size = size
        self.rate = Fraction(fps).limit_denominator(1001)
        self.written = 0
        """Number of pictures written so far."""
        self._gif = self.path.suffix.lower() == ".gif"
        # A fine time base with a whole number of ticks a frame. gif counts hundredths of a second.
        ticks = 1 if self._gif else -(-16000 // self.rate.numerator)
        self._base = Fraction(1, 100) if self._gif else 1 / (self.rate.numerator * ticks * Fraction(1))
        self._crf, self._last = crf, -1
        self._sound_from = None if self._gif or sound_from is None else Path(sound_from)
        self._sound_start_s = sound_start_s
        self._stack = ExitStack()

    def __enter__(self) -> VideoWriter:
        import av

        try:
            temporary = self._stack.enter_context(write_atomically(self.path))
            options = {} if self._gif else {"movflags": "+faststart"}
            self._container = av.open(url_of(temporary), "w", options=options)
            self._stack.callback(self._container.close)
            self._video = self._gif_stream() if self._gif else self._h264_stream()
            self._sound = None
            if self._sound_from is not None:
                source = self._stack.enter_context(open_container(self._sound_from))
                if source.streams.audio:
                    self._sound = _SoundCopier(source, self._container, self._sound_start_s)
        except BaseException as fault:
            self._stack.__exit__(type(fault), fault, fault.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if fault is not None:
            self._stack.__exit__(kind, fault, trace)
            return
        with self._stack:
            if self.written == 0:
                raise OutputError(f"{self.path}: no picture was written")
            self._container.mux(self._video.encode(None))
            if self._sound is not None:
                self._sound.copy_until((self._last + 1) * float(self._base) + 1 / float(self.rate))
            self._container.close()  # writes the trailer; its errors must come before the file is renamed

    def write(self, picture: UInt8[np.ndarray, "H W 3"], time_s: float | None = None) -> None:
        """Add an RGB picture at `time_s` seconds from the start (default: at the writer's frame rate)."""
        check_shape("picture", picture, (self.size[1], self.size[0], 3), hint="the size that the writer was given")
        when = self.written / self.rate if time_s is None else Fraction(time_s)
        frame = self._gif_frame(picture) if self._gif else self._yuv_frame(picture)
        frame.pts = self._last = max(round(when / self._base), self._last + 1)  # equal times would drop a picture
        frame.time_base = self._base
        self._container.mux(self._video.encode(frame))
        self.written += 1
        if self._sound is not None:
            self._sound.copy_until(self._last * float(self._base))

    def _h264_stream(self) -> av.VideoStream:
        """Add an H.264 stream. Raises `OutputError`."""
        import av

        if "libx264" not in av.codecs_available:
            raise OutputError(
                f"{self.path}: this build of PyAV has no H.264 encoder; install the wheel: pip install av"
            )
        stream = self._container.add_stream("libx264", rate=self.rate)
        stream.width, stream.height = (n + n % 2 for n in self.size)
        stream.pix_fmt = "yuv420p"
        # B-frames would make the file seem too short where the frame rate varies.
        stream.options = {"crf": str(self._crf), "preset": "superfast", "bf": "0"}
        context = stream.codec_context
        context.time_base = self._base
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1  # 16 to 235
        return stream

    def _gif_stream(self) -> av.VideoStream:
        """Add a GIF stream."""
        stream = self._container.add_stream("gif", rate=self.rate)
        stream.width, stream.height = self.size
        stream.pix_fmt = "pal8"
        stream.codec_context.time_base = self._base
        return stream

    def _yuv_frame(self, picture: np.ndarray) -> av.VideoFrame:
        """Convert a picture to yuv420p, padded to an even size."""
        import av

        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709)
        frame.color_range = 1
        return frame

    def _gif_frame(self, picture: np.ndarray) -> av.VideoFrame:
        """Quantise a picture to 256 colours."""
        import av
        from PIL import Image

        reduced = Image.fromarray(picture).quantize(256, method=Image.Quantize.MEDIANCUT)
        colors = np.asarray(reduced.getpalette(), np.uint8).reshape(-1, 3)
        palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
        palette[: len(colors), 1:] = colors
        pair = (np.asarray(reduced), palette)
        return av.VideoFrame.from_ndarray(pair, format="pal8")  # pyright: ignore[reportArgumentType]


class _SoundCopier:
    """Copies a clip's sound track to another clip as its pictures are written, so that neither is buffered."""

    def __init__(
        self, source: av.container.InputContainer, target: av.container.OutputContainer, start_s: float
    ) -> None:
        self._source, self._target = source, target
        best = source.streams.best("audio")
        self._stream = next(stream for stream in source.streams.audio if best is None or stream.index == best.index)
        pictures = ranked_streams(source)[0]
        origin_s = float((pictures.start_time or 0) * (pictures.time_base or 0))
        self._shift_s = origin_s + start_s  # the target's 0 in the source's time
        self._base = self._stream.time_base or Fraction(1, 48000)
        self._copied = self._stream.codec_context.name in _COPIED_CODECS
        if self._copied:
            self._out = target.add_stream_from_template(self._stream)
        else:
            self._out = target.add_stream("aac", rate=self._stream.codec_context.sample_rate)
        if start_s > 0:
            source.seek(int(self._shift_s / self._base), stream=self._stream, backward=True)
        self._packets = self._shifted_packets()
        self._next = next(self._packets, None)

    def copy_until(self, time_s: float) -> None:
        """Copy the packets that begin before a time of the target."""
        while self._next is not None and float((self._next.pts or 0) * (self._next.time_base or 0)) < time_s:
            self._target.mux(self._next)
            self._next = next(self._packets, None)

    def _shifted_packets(self) -> Iterator[av.Packet]:
        """Yield packets in the target's time; a damaged track ends where the damage begins."""
        from av.error import FFmpegError

        shift = round(self._shift_s / self._base)
        try:
            for packet in self._source.demux(self._stream):
                if packet.pts is None or packet.dts is None:
                    continue
                if packet.pts < shift:
                    continue
                if self._copied:
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    packet.stream = self._out
                    yield packet
                    continue
                for frame in packet.decode():
                    if frame.pts is not None:
                        frame.pts -= shift
                    yield from self._out.encode(frame)
            if not self._copied:
                yield from self._out.encode(None)
        except FFmpegError:
            return
