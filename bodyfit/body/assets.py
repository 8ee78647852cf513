"""Load the arrays of body models: of the shipped open family, a file, or a folder of files."""

from __future__ import annotations

from pathlib import Path

from bodyfit.body.families.folders import choose_file
from bodyfit.body.families.official import read_body
from bodyfit.body.families.open import OPEN_FAMILIES, open_body
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.body.record import GENDERS, BodyAssets
from bodyfit.errors import AssetError, OptionError

__all__ = ["GENDERS", "BodyAssets", "asset_path", "load_assets", "read_archive"]


def load_assets(source: str | Path, *, gender: str = "neutral") -> BodyAssets:
    """Load an open body ("open", "open-h", "open-x"), a model file (.npz, .pkl) or a folder of them in smplx's layout.

    Raises `AssetError`, naming the file, where it is missing, unreadable or does not hold a consistent body.
    """
    if gender not in GENDERS:
        raise OptionError(f"gender must be one of {', '.join(GENDERS)}, got {gender!r}")
    if str(source) in OPEN_FAMILIES:
        return open_body(str(source), gender)
    path = Path(source)
    if path.is_dir():
        path = choose_file(path, gender)
    if not path.is_file():
        names = ", ".join(f'"{name}"' for name in OPEN_FAMILIES)
        raise AssetError(f"{path}: no such file; give {names} or the path of an SMPL-format .npz or .pkl")
    return read_body(path, name=str(source), gender=gender)
