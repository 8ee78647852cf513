"""What `bodyfit convert` is given: a body model, bodies of ours, or motion by another program."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bodyfit.io.motions.recording import MotionFile

__all__ = ["BODY_MODEL", "MARKERS", "OUR_BODIES", "Held", "what_is"]


class Held(Enum):
    """What a reader of ours knows."""

    BODY_MODEL = "body model"
    OUR_BODIES = "our bodies"
    MARKERS = "markers"


BODY_MODEL, OUR_BODIES, MARKERS = Held.BODY_MODEL, Held.OUR_BODIES, Held.MARKERS
_OF_MODELS = {"v_template", "shapedirs", "kintree_table", "J_regressor", "weights"}
"""Keys of which no other file has any."""


def what_is(source: str) -> MotionFile | Held:
    """A source's kind or, of motion by others, its contents. What is not there is taken for a model's name, whose
    reader says so. Raises `AssetError`, naming the file, with what it is where it is neither."""
    from bodyfit.body.families.folders import model_files
    from bodyfit.body.families.open import OPEN_FAMILIES
    from bodyfit.body.files.archive import array_names
    from bodyfit.io import is_points3d
    from bodyfit.io.motions.load import motion_file

    path = Path(source)
    if is_points3d(source):
        return MARKERS
    if source in OPEN_FAMILIES or not path.exists() or (path.is_dir() and model_files(path)):
        return BODY_MODEL
    members = array_names(path)
    if "bodyfit_format" in members:
        return OUR_BODIES
    if _OF_MODELS & members:
        return BODY_MODEL
    file = motion_file(path)
    keys = set(file.value) if isinstance(file.value, dict) and not file.is_folder else set()
    return BODY_MODEL if _OF_MODELS & keys else file
