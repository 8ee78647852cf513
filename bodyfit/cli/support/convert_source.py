"""What `bodyfit convert` is given: a body model, bodies of ours, or motion by another program."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bodyfit.io.motions.recording import MotionFile

__all__ = ["BODY_MODEL", "MARKERS", "OUR_BODIES", "SourceKind", "what_is"]


class SourceKind(Enum):
    """Kinds of sources that bodyfit's own readers load."""

    BODY_MODEL = "body model"
    OUR_BODIES = "our bodies"
    MARKERS = "markers"


BODY_MODEL, OUR_BODIES, MARKERS = SourceKind.BODY_MODEL, SourceKind.OUR_BODIES, SourceKind.MARKERS
_OF_MODELS = {"v_template", "shapedirs", "kintree_table", "J_regressor", "weights"}
"""Keys that only body models have."""


def what_is(source: str) -> MotionFile | SourceKind:
    """Return a source's kind, or the content of another program's motion file.

    A path that does not exist counts as a model's name. Raises `AssetError`, naming the file, for other files.
    """
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
