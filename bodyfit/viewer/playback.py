"""The frames of a clip at hand in any order, small, while it is looked at."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from bodyfit.errors import BodyfitError
from bodyfit.io import VideoReader

__all__ = ["Film"]

_SIDE = 960
_MAX_BYTES = 200_000_000
"""Of JPEGs in memory; about an hour of a still camera, ten minutes of foliage."""


class Film:
    """Decodes a clip once, in the background, and keeps the wanted frames as JPEGs."""

    def __init__(
        self, path: Path, frames: Collection[int], arrived: Callable[[int], None], *, fps: float | int | None = None
    ) -> None:
        """`fps` is as of `VideoReader`. `arrived` is called, in another thread, with the number of each frame as soon
        as it is here."""
        self.fault: str | None = None
        """Why frames are missing, if the clip cannot be read or is too long."""
        self._jpegs: dict[int, bytes] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(path, frozenset(frames), arrived, fps), daemon=True)
        self._thread.start()

    def picture(self, frame: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """A frame, None if it is not here yet or never will be."""
        data = self._jpegs.get(frame)
        return None if data is None else np.asarray(Image.open(io.BytesIO(data)))

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()

    def _read(
        self, path: Path, wanted: frozenset[int], arrived: Callable[[int], None], fps: float | int | None
    ) -> None:
        size, last = 0, max(wanted)
        try:
            for frame in VideoReader(path, fps=fps):
                if self._closed.is_set() or frame.index > last:
                    return
                if frame.index not in wanted:
                    continue
                if size > _MAX_BYTES:
                    self.fault = f"{path} is shown up to frame {frame.index}; the rest is too much for the memory"
                    return
                picture = Image.fromarray(frame.image)
                picture.thumbnail((_SIDE, _SIDE))
                buffer = io.BytesIO()
                picture.save(buffer, "JPEG", quality=85)
                self._jpegs[frame.index] = buffer.getvalue()
                size += len(buffer.getvalue())
                arrived(frame.index)
        except BodyfitError as fault:
            self.fault = str(fault)
