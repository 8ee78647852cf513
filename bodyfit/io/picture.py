"""Write pictures and maps to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image

from bodyfit.errors import OptionError, check_shape
from bodyfit.runtime.atomic import write_atomically

__all__ = ["depth_mm", "save_array", "save_depth", "save_gif", "save_labels", "save_picture", "save_webp"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_JPEG_SIDE_PX = 65_500
"""Longest side that JPEG supports."""


def save_picture(path: str | Path, image: UInt8[np.ndarray, "H W C"]) -> None:
    """Write an RGB picture as PNG or JPEG, by the suffix, or RGBA as PNG. Raises `OptionError` or `OutputError`."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise OptionError(f"{path}: pictures are written as {', '.join(_FORMATS)}, got {path.suffix or 'no suffix'!r}")
    kind = _FORMATS[path.suffix.lower()]
    check_shape("image", image, (None, None, 4 if image.shape[-1] == 4 and kind == "PNG" else 3))
    if kind == "JPEG" and max(image.shape) > _JPEG_SIDE_PX:
        raise OptionError(f"{path}: JPEG holds up to {_JPEG_SIDE_PX} pixels a side, got {image.shape[:2]}; write a PNG")
    # PNG's level 3 is twice as fast as the default 6 for a twentieth more bytes; JPEG keeps thin coloured lines crisp.
    options = {"compress_level": 3} if kind == "PNG" else {"quality": 92, "subsampling": 0}
    _write(path, Image.fromarray(np.ascontiguousarray(image)), kind, **options)


def save_gif(path: str | Path, pictures: Sequence[UInt8[np.ndarray, "H W 3"]], *, fps: float = 12.0) -> None:
    """Write pictures of one size as a looping GIF, at up to 50 frames a second, the most that players show.

    All frames share 255 colours chosen from frames over the whole clip, so that colours do not flicker. Raises
    `OptionError` or `OutputError`.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise OptionError(f"{path}: a film of this kind ends in .gif")
    if len(pictures) == 0:
        raise OptionError("save_gif needs at least one picture")
    if not 0.1 <= fps <= 50:
        raise OptionError(f"fps of a GIF must be between 0.1 and 50, got {fps:g}")
    for picture in pictures:
        check_shape("picture", picture, pictures[0].shape, hint="all of one size")
    some = pictures[:: max(len(pictures) // 6, 1)]
    palette = Image.fromarray(np.concatenate(some)).quantize(255, method=Image.Quantize.MEDIANCUT)
    frames = [Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for p in pictures]
    _write(path, frames[0], "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)


def save_webp(
    path: str | Path, pictures: Sequence[UInt8[np.ndarray, "H W C"]], *, fps: float = 12.0, quality: int = 70
) -> None:
    """Write pictures of one size, RGB or RGBA, as a looping animated WebP, far smaller than a GIF and in all colours.

    Raises `OptionError` or `OutputError`.
    """
    path = Path(path)
    if path.suffix.lower() != ".webp":
        raise OptionError(f"{path}: a film of this kind ends in .webp")
    if len(pictures) == 0:
        raise OptionError("save_webp needs at least one picture")
    if not 0.1 <= fps <= 100:
        raise OptionError(f"fps of a WebP must be between 0.1 and 100, got {fps:g}")
    for picture in pictures:
        check_shape("picture", picture, pictures[0].shape, hint="all of one size")
    frames = [Image.fromarray(np.ascontiguousarray(picture)) for picture in pictures]
    options = {"duration": round(1000 / fps), "loop": 0, "quality": quality, "method": 4}
    _write(path, frames[0], "WEBP", save_all=True, append_images=frames[1:], **options)


def save_depth(path: str | Path, depth_m: Float[np.ndarray, "H W"]) -> None:
    """Write depth as a 16-bit PNG in millimetres, as depth cameras do: 0 for no depth, saturated at 65535."""
    _write(_png(path), Image.fromarray(depth_mm(depth_m)), "PNG", compress_level=3)


def depth_mm(depth_m: Float[np.ndarray, "H W"]) -> UInt16[np.ndarray, "H W"]:
    """Depth in whole millimetres: 0 for no depth (0 or infinite), saturated at 65535."""
    finite = np.where(np.isfinite(depth_m), depth_m, 0)
    return np.clip(np.round(np.float32(1000) * finite), 0, 65535).astype(np.uint16)


def save_labels(
    path: str | Path, labels: UInt16[np.ndarray, "H W"], colors: Sequence[tuple[float, float, float]]
) -> None:
    """Write labels as PNG: 8 bits with `colors` of labels 1, 2, ... (0 is black) up to 255, else 16 bits."""
    path = _png(path)
    if labels.max(initial=0) > 255:
        _write(path, Image.fromarray(labels), "PNG", compress_level=3)
        return
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    table = np.zeros((256, 3), np.uint8)
    table[1 : len(colors) + 1] = np.round(255 * np.array(colors[:255]).reshape(-1, 3))
    image.putpalette(table.tobytes())
    _write(path, image, "PNG", compress_level=3)


def save_array(path: str | Path, array: np.ndarray) -> None:
    """Write an array of numbers as npy. Raises `OutputError`."""
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _png(path: str | Path) -> Path:
    """Return the path, checked to end in .png. Raises `OptionError`."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise OptionError(f"{path}: maps are written as .png")
    return path


def _write(path: Path, image: Image.Image, kind: str, **options: Any) -> None:
    """Write a picture atomically. Raises `OutputError`."""
    with write_atomically(path) as temporary:
        image.save(temporary, format=kind, **options)
