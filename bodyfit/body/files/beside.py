"""Arrays that joblib before 0.10 kept in files of their own, beside the pickle that names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bodyfit.body.files.compressed import unpacked_zfile
from bodyfit.body.files.npy import read_npy
from bodyfit.body.files.plain import Plain
from bodyfit.body.files.stand_ins import FileArray, Inert, ZippedFileArray
from bodyfit.errors import AssetError

__all__ = ["ArraysBeside"]


class ArraysBeside:
    """Reads the arrays that the pickle at `path` names: files of its own name in its own folder, and no others."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, value: Inert, made: Plain) -> np.ndarray:
        """The array that a stand-in names. Raises `AssetError`."""
        state = value.state if isinstance(value.state, dict) else {}
        name = made(state.get("filename"))
        if not isinstance(name, str) or not name.startswith(f"{self.path.name}_") or {"/", "\\"} & set(name):
            raise AssetError("refused an array in a file that is not the pickle's own")
        if not (self.path.parent / name).is_file():
            raise AssetError(f"its array {name!a:.80} is missing; an old joblib wrote it as a file beside this one")
        data = (self.path.parent / name).read_bytes()
        made.spend(len(data))
        if isinstance(value, FileArray):
            array = read_npy(data)
            made.spend(array.nbytes)
            return array
        assert isinstance(value, ZippedFileArray)
        raw = unpacked_zfile(data, made.limits)
        shape, dtype, fortran = state["state"][-3:]
        return made.array(raw, dtype, shape, "F" if fortran else "C")
