"""Encode arrays and pictures as compact text for an HTML page."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

__all__ = ["deflate", "jpeg_within", "pack_integers", "pack_points", "unpack_integers"]

_SIDES = (1600, 1400, 1200, 1000, 800, 640, 480, 360, 240)


def deflate(data: bytes) -> str:
    """Compress to a zlib stream in base64, for a browser's DecompressionStream("deflate")."""
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def pack_integers(array: Int[np.ndarray, "N C"]) -> dict[str, Any]:
    """Compress integers: differences between rows, zigzag-coded, in byte planes, deflated.

    A mesh's vertices take 3.6 bytes each at 0.1 mm, its faces 2.7. Raises OverflowError beyond 32 bits.
    """
    steps = np.diff(array.astype(np.int64), axis=0, prepend=np.zeros((1, array.shape[1]), np.int64))
    zigzag = (steps << 1) ^ (steps >> 63)
    if zigzag.max(initial=0) >= 1 << 32:
        raise OverflowError(f"differences up to {np.abs(steps).max()} do not fit in 32 bits")
    width = max((int(zigzag.max(initial=0)).bit_length() + 7) // 8, 1)
    planes = np.ascontiguousarray(zigzag.astype("<u4")).reshape(-1).view(np.uint8).reshape(-1, 4)[:, :width].T
    return {"rows": len(array), "columns": array.shape[1], "bytes": width, "data": deflate(planes.tobytes())}


def unpack_integers(packed: dict[str, Any]) -> Int[np.ndarray, "N C"]:
    """Decompress integers from `pack_integers`, as page.js does."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8).reshape(packed["bytes"], -1)
    zigzag = np.sum([plane.astype(np.int64) << (8 * i) for i, plane in enumerate(planes)], axis=0)
    steps = (zigzag >> 1) ^ -(zigzag & 1)
    return np.cumsum(steps.reshape(packed["rows"], packed["columns"]), 0)


def pack_points(points: Float[np.ndarray, "T V 3"], step_m: float) -> dict[str, Any]:
    """Compress the points of T poses, quantised to `step_m` from their lowest corner; later poses as differences."""
    low = points.min((0, 1))
    steps = np.round((points.astype(np.float64) - low) / step_m).astype(np.int64)
    steps[1:] -= steps[:-1].copy()
    packed = pack_integers(steps.transpose(1, 0, 2).reshape(points.shape[1], -1))
    return packed | {"poses": len(points), "low": [float(x) for x in low], "step": step_m}


def jpeg_within(image: UInt8[np.ndarray, "H W 3"], max_bytes: int) -> bytes:
    """Encode a JPEG of at most `max_bytes`, as large as fits up to 1600 pixels a side, or else the smallest."""
    picture = Image.fromarray(image)
    picture.thumbnail((_SIDES[0], _SIDES[0]), Image.Resampling.LANCZOS)  # once, for a photograph may be huge
    longest = max(picture.size)
    data = b""
    for side in (longest, *(side for side in _SIDES[1:] if side < longest)):
        small = picture.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=85, optimize=True)
        data = buffer.getvalue()
        if len(data) <= max_bytes:
            break
    return data
