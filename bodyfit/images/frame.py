"""Read one picture upright and in RGB, with the focal length from its EXIF."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from bodyfit.errors import ImageError
from bodyfit.images.files import IMAGE_SUFFIXES, RAW_SUFFIXES, find_images

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "ANIMATIONS",
    "IMAGE_SUFFIXES",
    "Frame",
    "find_images",
    "image_size",
    "is_animation",
    "open_picture",
    "read_image",
    "rgb8",
    "upright",
]

ANIMATIONS = ("GIF", "PNG", "WEBP", "AVIF")
"""Pillow's names of formats that may be animated."""

# Tags of EXIF 2.32, section 4.6.
_ORIENTATION = 0x0112
_EXIF_IFD, _WIDTH, _HEIGHT = 0x8769, 0xA002, 0xA003
_FOCAL_MM, _FOCAL_35MM = 0x920A, 0xA405
_PLANE_X, _PLANE_UNIT = 0xA20E, 0xA210
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


@dataclass(frozen=True)
class Frame:
    """A picture or a frame of a clip, ready for detection."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB, EXIF rotation applied."""
    path: Path | None = None
    """The file it was read from."""
    exif_focal_px: float | None = None
    """Focal length in pixels by the file's EXIF, None without one."""
    index: int = 0
    """Index of the frame in its clip, from 0."""
    time_s: float = 0.0
    """Presentation time, seconds from the clip's start."""
    note: str | None = None
    """A sentence on other content of the file: pages, frames of an animation."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]


def read_image(path: str | Path, data: bytes | None = None) -> Frame:
    """Read a picture upright and as 8-bit RGB; `data` are the file's bytes where they were read elsewhere.

    Transparent pixels become white; of an animation or several pages the first is read. Raises `ImageError`, also for
    an incomplete picture, which is not filled with grey.
    """
    path = Path(path)
    with open_picture(path, data) as opened, _without_warnings():
        opened.load()
        exif = _exif(opened)
        image = rgb8(upright(opened))
        note = _note(opened, path)
    if 0 in image.shape:
        raise ImageError(f"{path} has no pixels ({image.shape[1]}x{image.shape[0]})")
    return Frame(image, path, exif_focal_px(exif, (image.shape[1], image.shape[0])), note=note)


@contextmanager
def open_picture(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """Open a picture without decoding it; Pillow's exceptions in the block become `ImageError`s that name the file."""
    from PIL import Image, UnidentifiedImageError

    if data is None:
        _check_file(path)
    elif not data:
        raise ImageError(f"{path} is empty (0 bytes)")
    if path.suffix.lower() in RAW_SUFFIXES:
        raise ImageError(f"{path} is a camera's raw picture ({path.suffix}), which is not read; export it as JPEG")
    try:
        with _without_warnings():
            file = _open_image(path if data is None else BytesIO(data))
        with file as opened:
            yield opened
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not a picture that can be read{_what_instead(path, data)}") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{path} says it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels; "
            "it is refused lest it fill the memory: make it smaller first"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, MemoryError) as error:
        # Pillow raises any of these for a damaged file, by format.
        raise ImageError(f"{path} is damaged or incomplete ({error}); export or download it again") from None


def image_size(path: Path) -> tuple[int, int]:
    """Return the displayed width and height of a picture, mostly from its first bytes. Raises `ImageError`."""
    with open_picture(path) as opened, _without_warnings():
        if opened.format not in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):  # whose orientation is in the first bytes
            opened.load()
            return upright(opened).size
        try:
            transposed = opened.getexif().get(_ORIENTATION) in (5, 6, 7, 8)
        except Exception:  # as in _exif
            transposed = False
        width, height = opened.size
        return (height, width) if transposed else (width, height)


def is_animation(path: Path) -> bool:
    """Tell whether a file is an animated picture (GIF, PNG, WebP, AVIF); False if it cannot be read."""
    try:
        with open_picture(path) as opened:
            return opened.format in ANIMATIONS and bool(getattr(opened, "is_animated", False))
    except ImageError:
        return False


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence Pillow's warnings of odd EXIF and of large pictures, for which it has an error, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open_image(file: Path | BytesIO) -> Image.Image:
    """Open a picture without decoding it; HEIC by pillow-heif where it is installed."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except UnidentifiedImageError:
        try:
            from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UnidentifiedImageError from None
        register_heif_opener()
        return Image.open(file)


def exif_focal_px(exif: Mapping[int, Any], image_size: tuple[int, int]) -> float | None:
    """Compute the focal length in pixels of a picture of `image_size` from the tags of its Exif IFD, or None.

    FocalLengthIn35mmFilm refers to a longer side of 36 mm; else FocalLength and the sensor's pixels a unit of length.
    Where EXIF's size differs from the picture's, equal proportions mean that it was resized, others that it was
    cropped, which leaves the focal length in pixels unchanged.
    """
    longest = max(image_size)
    original_size = (_number(exif.get(_WIDTH)), _number(exif.get(_HEIGHT)))
    scale = _resize_factor(original_size, image_size)
    focal_35mm = _number(exif.get(_FOCAL_35MM))
    if focal_35mm:
        original_longest = max(original_size[0] or 0.0, original_size[1] or 0.0)
        return focal_35mm / 36 * (longest if scale is None else original_longest * scale)
    focal_mm, pixels_a_unit = _number(exif.get(_FOCAL_MM)), _number(exif.get(_PLANE_X))
    unit_mm = _UNIT_MM.get(int(_number(exif.get(_PLANE_UNIT)) or 2))  # inches unless it says otherwise
    if focal_mm and pixels_a_unit and unit_mm:
        return focal_mm * pixels_a_unit / unit_mm * (1.0 if scale is None else scale)
    return None


def _resize_factor(before: tuple[float | None, float | None], now: tuple[int, int]) -> float | None:
    """Return the scale from the original to the picture: 1 for a crop, None where EXIF's size is missing or wrong."""
    if not before[0] or not before[1]:
        return None
    long_before, short_before, long_now, short_now = max(before), min(before), max(now), min(now)  # type: ignore[type-var]
    if abs(short_before / long_before * long_now / short_now - 1) < 0.02:  # a resize rounds the sides to whole pixels
        return long_now / long_before
    return 1.0 if long_now <= long_before and short_now <= long_before else None


def _number(value: Any) -> float | None:
    """Return a positive finite number, or None for any other value."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _check_file(path: Path) -> None:
    """Raise `ImageError` with the reason for a path that is not a readable file."""
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not a picture; find_images lists the pictures in it")
        if not path.exists():
            link = f"is a link to {path.readlink()}, which does not exist" if path.is_symlink() else "does not exist"
            raise ImageError(f"{path} {link}")
        if not path.is_file():
            raise ImageError(f"{path} is no plain file")  # a pipe would wait for ever
        with path.open("rb") as file:
            if not file.read(1):
                raise ImageError(f"{path} is empty (0 bytes)")
    except PermissionError:
        raise ImageError(f"{path} may not be read: permission denied") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ImageError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from None


def _what_instead(path: Path, data: bytes | None) -> str:
    """Describe what an unreadable file seems to be, and what to do."""
    if data is None:
        with path.open("rb") as file:
            data = file.read(512)
    head = data[:512]
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heif"):
        return " (it is HEIC, as iPhones save); convert it to JPEG first, or: pip install pillow-heif"
    if head[4:8] == b"ftyp" or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3"):
        return " (it looks like a video, which bodyfit video fits)"
    if head.isascii() and b"\x00" not in head:
        return " (it holds text); was a web page saved in its place?"
    return "; give JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"


def _note(image: Image.Image, path: Path) -> str | None:
    """Describe the pictures that a file holds beside the one that was read, or None."""
    try:
        count = int(getattr(image, "n_frames", 1))
    except Exception:  # as in _exif: the first picture is there
        return None
    if count < 2:
        return None
    if image.format in ANIMATIONS:
        return f"{path} is an animation of {count} frames; the first is taken, bodyfit video takes all"
    if image.format == "TIFF":
        return f"{path} holds {count} pages; the first is taken"
    if image.format == "MPO" and (path.suffix.lower() == ".mpo" or _holds_views(image)):
        return f"{path} holds {count} pictures of one moment; the first is taken"
    return None


def _holds_views(image: Image.Image) -> bool:
    """Tell whether the other pictures in a JPEG are views (CIPA DC-007); most are previews and gain maps."""
    try:
        entries = image.mpinfo[0xB002]  # pyright: ignore[reportAttributeAccessIssue]
        return any(str(entry["Attribute"]["MPType"]).startswith("Multi-Frame") for entry in entries[1:])
    except (AttributeError, KeyError, TypeError):
        return False


def _exif(image: Image.Image) -> dict[int, Any]:
    """Read the Exif IFD; empty where there is none or it cannot be parsed, for the picture is usable without."""
    try:
        return dict(image.getexif().get_ifd(_EXIF_IFD))
    except Exception:  # Pillow's parser raises many types on malformed tags
        return {}


def upright(image: Image.Image) -> Image.Image:
    """Return a copy with the file's display orientation applied."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as in _exif: an unreadable orientation is none
        return image.copy()


def rgb8(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Convert a picture of any Pillow mode to 8-bit RGB, over white."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        grey = _grey8(np.asarray(image), image.mode)
        return np.repeat(grey[..., None], 3, 2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if image.mode in ("RGBa", "La"):
            image = image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"), np.uint8)


def _grey8(values: np.ndarray, mode: str) -> UInt8[np.ndarray, "H W"]:
    """Convert 16-bit, 32-bit or floating values to 8-bit grey, black at 0."""
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    brightest = float(values.max(initial=0.0))
    # 16-bit white is 65535. 32-bit integers mostly hold 16-bit values; floating values range to 1, 255 or 65535.
    whites = (1.0, 255.0, 65535.0) if mode == "F" else (65535.0,)
    white = next((white for white in whites if brightest <= white), brightest)
    return np.clip(np.round(values / white * 255), 0, 255).astype(np.uint8)
