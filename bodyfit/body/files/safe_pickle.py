"""Read the pickles of body models and priors without executing anything from the file.

Every class or function that a pickle may name is replaced by an inert record (`stand_ins`), the opcodes run within
bounds (`unpickler`), and our own code converts the records to arrays (`plain`).
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
    """Read a pickled dict of arrays, numbers and strings.

    Raises `AssetError` with the file's name if it is no pickle of a dict or names anything outside the allow-list.
    """
    value = read_contents(path, MODEL_LIMITS, text=False)
    if not isinstance(value, dict):
        raise AssetError(f"{path}: expected a pickled dict, found {type(value).__name__}")
    return {key: part for key, part in value.items() if isinstance(key, str)}
