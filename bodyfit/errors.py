"""The exceptions that users see, and the checks that raise them."""

from __future__ import annotations

from typing import Any

__all__ = [
    "AssetError",
    "BodyfitError",
    "DetectorError",
    "ImageError",
    "KeypointFileError",
    "OptionError",
    "OutputError",
    "ScanError",
    "ShapeError",
    "VideoError",
]


class BodyfitError(Exception):
    """Base of every error that bodyfit raises for a mistake outside its own code; its text is fit to show a user."""


class ShapeError(BodyfitError, ValueError):
    """An array argument has the wrong shape."""


class OptionError(BodyfitError, ValueError):
    """A setting has a value that cannot be meant."""


class ImageError(BodyfitError):
    """A picture cannot be read."""


class VideoError(BodyfitError):
    """A clip cannot be read."""


class AssetError(BodyfitError):
    """A body model, prior or other asset file cannot be used."""


class DetectorError(BodyfitError):
    """A keypoint detector cannot run."""


class KeypointFileError(BodyfitError):
    """A file of keypoints, or one person in it, cannot be used."""


class ScanError(BodyfitError):
    """A scan cannot be read."""


class OutputError(BodyfitError):
    """A result cannot be written."""


def check_shape(name: str, array: Any, shape: tuple[int | None, ...], *, hint: str = "") -> None:
    """Raise `ShapeError` unless `array` has `shape`, where None stands for any length."""
    got = tuple(array.shape)
    if len(got) == len(shape) and all(want in (None, have) for want, have in zip(shape, got, strict=True)):
        return
    want = (
        "("
        + ", ".join("B" if n is None and i == 0 else "*" if n is None else str(n) for i, n in enumerate(shape))
        + ")"
    )
    raise ShapeError(f"{name} must be {want}, got {got}" + (f"; {hint}" if hint else ""))
