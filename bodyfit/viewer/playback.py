"""Cache a clip's frames, downscaled, for random access by the viewer."""

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

__all__ = ["FrameCache"]

_SIDE = 960
_MAX_BYTES = 200_000_000
"""Most bytes of JPEGs in memory: about an hour of a static scene, ten minutes of foliage."""


class FrameCache:
    """Decodes a clip once, in a background thread, and keeps the requested frames as JPEGs."""

    def __init__(
        self, path: Path, frames: Collection[int], arrived: Callable[[int], None], *, fps: float | int | None = None
    ) -> None:
        """Start decoding; `fps` as for `VideoReader`.

        `arrived` is called, in another thread, with the index of each frame when it is decoded.
        """
        self.fault: str | None = None
        """The reason for missing frames, if the clip cannot be read or is too long."""
        self._jpegs: dict[int, bytes] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._decode, args=(path, frozenset(frames), arrived, fps), daemon=True)
        self._thread.start()

    def picture(self, frame: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return a frame, None if it is not decoded."""
        data = self._jpegs.get(frame)
        return None if data is None else np.asarray(Image.open(io.BytesIO(data)))

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()

    def _decode(
        self, path: Path, requested: frozenset[int], arrived: Callable[[int], None], fps: float | int | None
    ) -> None:
        """Decode the requested frames, in the background thread."""
        size, last = 0, max(requested)
        try:
            for frame in VideoReader(path, fps=fps):
                if self._closed.is_set() or frame.index > last:
                    return
                if frame.index not in requested:
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
