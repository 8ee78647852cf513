"""Locate the shipped files, and read any npz or pickle without executing it."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bodyfit.body.files.contents import read_contents
from bodyfit.body.files.limits import MODEL_LIMITS
from bodyfit.body.files.unread import UnreadObjects
from bodyfit.errors import AssetError

__all__ = ["UnreadObjects", "array_names", "asset_path", "read_archive"]

_MAX_BYTES = MODEL_LIMITS.unpacked_bytes
"""Most bytes of an unpacked npz; SMPL-X has 240 MiB in float64."""


def asset_path(*parts: str) -> Path:
    """Return the path of a file that ships with bodyfit: in the package when installed, beside it in a checkout.

    Raises `AssetError` where it is missing.
    """
    package = Path(__file__).resolve().parents[2]
    for root in (package / "assets", package.parent / "assets"):
        if (path := root.joinpath(*parts)).exists():
            return path
    raise AssetError(f"the shipped file assets/{'/'.join(parts)} is missing; reinstall bodyfit")


def array_names(path: Path) -> set[str]:
    """List the names of an npz's arrays by its table of contents; empty for any other file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


def read_archive(path: Path) -> dict[str, Any]:
    """Read the arrays of an npz (its pickled objects left unread), a pickle or a torch file by the allow-listed reader.

    The format is detected from the content. Raises `AssetError`, naming the file.
    """
    value = read_contents(path, replace(MODEL_LIMITS, unpacked_bytes=_MAX_BYTES), objects=False, text=False)
    if not isinstance(value, dict):
        raise AssetError(f"{path}: one {type(value).__name__} alone, where arrays by name are expected")
    return {key: part for key, part in value.items() if isinstance(key, str)}
