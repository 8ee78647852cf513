"""Find models in folders: smplx's layout (models/smpl/SMPL_NEUTRAL.pkl), AMASS's (smplh/male/model.npz), or flat."""

from __future__ import annotations

from pathlib import Path

from bodyfit.body.families.layouts import gender_hint
from bodyfit.body.record import GENDERS
from bodyfit.errors import AssetError

__all__ = ["choose_file", "model_files"]

_SUFFIXES = (".npz", ".pkl")
_FAMILIES = ("smpl", "smplh", "smplx", "star", "mano", "flame")


def model_files(folder: Path) -> list[Path]:
    """List files with a gender or a hand's side in their name, up to two folders down, sorted.

    Raises `AssetError` where the folder cannot be read.
    """
    try:
        paths = [path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth)]
        return sorted(path for path in paths if path.suffix.lower() in _SUFFIXES and path.is_file() and _is_model(path))
    except OSError as error:
        raise AssetError(f"{folder}: cannot be read: {error.strerror or error}") from None


def _is_model(path: Path) -> bool:
    """Tell whether a file's name has a gender or a hand's side."""
    return gender_hint(path) is not None or _side(path) is not None


def _side(path: Path) -> str | None:
    """Return the side in the name of a MANO file."""
    stem = path.stem.lower()
    return next((side for side in ("left", "right") if stem.startswith("mano") and side in stem), None)


def choose_file(folder: Path, gender: str) -> Path:
    """Choose the one model of a gender in a folder, an npz before a pickle. Raises `AssetError`, listing the files."""
    files = model_files(folder)
    if not files:
        raise AssetError(f"{folder}: a folder with no model in it; expected files such as smpl/SMPL_NEUTRAL.pkl")
    if len(families := {path.relative_to(folder).parts[0] for path in files} & set(_FAMILIES)) > 1:
        raise AssetError(
            f"{folder}: models of several layouts; give one of {', '.join(str(folder / f) for f in sorted(families))}"
        )
    matching = [path for path in files if gender_hint(path) == gender or (_side(path) and gender_hint(path) is None)]
    if not matching:
        present = [g for g in GENDERS if any(gender_hint(path) == g for path in files)]
        raise AssetError(f"{folder}: no {gender} model, only {', '.join(present)}; ask for one of these as gender")
    stems = {path.with_suffix("") for path in matching}
    if len(stems) > 1:
        raise AssetError(f"{folder}: several models; give one of {', '.join(str(path) for path in matching[:6])}")
    return min(matching, key=lambda path: _SUFFIXES.index(path.suffix.lower()))
