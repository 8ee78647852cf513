"""Reads the pickles that body models and priors come in without running anything from the file.

How, `bodyfit.body.files` says: every name that a pickle may use stands for an inert record (`stand_ins`), the opcodes
are run within bounds (`unpickler`), and our own code makes arrays of what remains (`plain`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bodyfit.body.files.contents import read_contents
from bodyfit.body.files.limits import MODEL_LIMITS
from bodyfit.body.files.plain import as_array
from bodyfit.errors import AssetError

__all__ = ["as_array", "read_pickle"]


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict of plain arrays, numbers and strings in a pickle.

    Raises `AssetError` with the file's name if it is no pickle of a dict or names anything outside the allow-list.
    """
    value = read_contents(path, MODEL_LIMITS, text=False)
    if not isinstance(value, dict):
        raise AssetError(f"{path}: expected a pickled dict, found {type(value).__name__}")
    return {key: part for key, part in value.items() if isinstance(key, str)}
