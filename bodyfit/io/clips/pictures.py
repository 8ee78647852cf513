"""Read clips without a container by Pillow: folders of frames, animated pictures, pages of TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from bodyfit.errors import ImageError, VideoError
from bodyfit.images.files import begins_like_image
from bodyfit.images.frame import ANIMATIONS, open_picture, read_image, rgb8, upright
from bodyfit.io.clips.frame_folder import FrameFolder
from bodyfit.io.clips.source import Damage, RawFrame

__all__ = ["AnimationSource", "FolderSource", "animation_in"]

_MIN_DURATION_S, _DEFAULT_DURATION_S = 0.011, 0.1
"""Shortest frame duration of animated pictures, and the one that replaces shorter ones, as in browsers."""


class FolderSource:
    """The pictures of a folder as frames, with times by their numbers."""

    has_sound = False

    def __init__(self, path: Path, fps: float | int | None) -> None:
        """Read the folder. Raises `VideoError`, also where `fps` is None."""
        self._frames = FrameFolder.read(path)
        if fps is None:
            raise VideoError(f"{path} is a folder of pictures; say how many are shown a second: fps=30")
        self.full_size = self._frames.size
        self.rate = Fraction(fps).limit_denominator(1001)
        self.clip_s = float((self._frames.ticks[-1] + 1) / self.rate)
        self.notes = self._frames.notes

    def frames(self, start_s: float, damage: Damage) -> Iterator[RawFrame]:
        """Yield every frame, read lazily; damaged ones get no index."""
        for place, (file, tick) in enumerate(zip(self._frames.files, self._frames.ticks, strict=True)):
            yield RawFrame(place - damage.skipped, float(tick / self.rate), partial(self._rgb, file), file)

    def _rgb(self, file: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """Read a picture at a size (width, height). Raises `ImageError`."""
        frame = read_image(file)
        if frame.size != self.full_size:
            raise ImageError(f"{file} is not {self.full_size[0]}x{self.full_size[1]} as the other frames")
        return _resize(frame.image, size)


class AnimationSource:
    """The frames of an animated picture with the file's durations, or pages of a TIFF at a given rate."""

    has_sound = False
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, fps: float | int | None) -> None:
        """Read the whole file once, for some formats store a frame's time with its pixels. Raises `VideoError`."""
        self.path = path
        with _video_errors(), open_picture(path) as opened:
            self._kind = opened.format
        if self._kind == "MPO":
            raise VideoError(f"{path} holds pictures of one moment (MPO), not a clip; bodyfit fit takes the first")
        if self._kind == "TIFF" and fps is None:
            raise VideoError(f"{path} holds pages that no times go with; say how many are shown a second: fps=30")
        if self._kind != "TIFF" and fps is not None:
            raise VideoError(f"{path} says itself when its frames are shown; leave out fps={fps:g}")
        damage, durations_s, sizes = Damage(), [], []
        for picture, seconds in self._pictures(damage):
            durations_s.append(1 / fps if fps is not None else seconds)
            sizes.append((picture.shape[1], picture.shape[0]))
        if not sizes:
            raise VideoError(f"{path}: none of its frames can be decoded; the file is damaged")
        if len(set(sizes)) > 1:
            other = next(k for k, size in enumerate(sizes) if size != sizes[0])
            raise VideoError(f"{path}: page {other + 1} has another size than page 1; the frames of a clip have one")
        self.full_size = sizes[0]
        self._times_s = [0.0, *accumulate(durations_s)]
        self.clip_s = self._times_s[-1]
        self.rate = Fraction(len(sizes) / self.clip_s).limit_denominator(1001)

    def frames(self, start_s: float, damage: Damage) -> Iterator[RawFrame]:
        """Yield every frame, for each depends on the one before."""
        for number, (picture, _) in enumerate(self._pictures(damage)):
            yield RawFrame(number, self._times_s[number], partial(_resize, picture), self.path)

    def _pictures(self, damage: Damage) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], float]]:
        """Yield frames and their durations, seconds, up to the first that cannot be decoded."""
        try:
            with open_picture(self.path) as opened:
                first = 1 if opened.info.get("default_image") else 0  # an APNG's fallback picture
                for number in range(first, int(getattr(opened, "n_frames", 1))):
                    opened.seek(number)
                    opened.load()
                    seconds = float(opened.info.get("duration") or 0) / 1000
                    yield rgb8(upright(opened)), seconds if seconds >= _MIN_DURATION_S else _DEFAULT_DURATION_S
        except ImageError:
            damage.skipped, damage.cut_short = damage.skipped + 1, True


def animation_in(path: Path) -> bool:
    """Tell whether a file is a picture of several frames, pages or views.

    Raises `VideoError` for a still picture and for a damaged file of these formats.
    """
    if not begins_like_image(path):
        return False
    with _video_errors(), open_picture(path) as opened:
        if opened.format not in (*ANIMATIONS, "TIFF", "MPO"):
            return False
        count = int(getattr(opened, "n_frames", 1))
    if count == 1:
        raise VideoError(f"{path} is a picture, not a clip; fit it with: bodyfit fit")
    return True


@contextmanager
def _video_errors() -> Iterator[None]:
    """Convert `ImageError`s of the block to `VideoError`s."""
    try:
        yield
    except ImageError as fault:
        raise VideoError(str(fault)) from None


def _resize(picture: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Resize to (width, height)."""
    from PIL import Image

    if size == (picture.shape[1], picture.shape[0]):
        return picture
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
