"""Read arrays that joblib before 0.10 wrote to separate files beside the pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bodyfit.body.files.compressed import unpack_zfile
from bodyfit.body.files.npy import read_npy
from bodyfit.body.files.plain import PlainConverter
from bodyfit.body.files.stand_ins import FileArray, Inert, ZippedFileArray
from bodyfit.errors import AssetError

__all__ = ["ArraysBeside"]


class ArraysBeside:
    """Reads the arrays that the pickle at `path` names: only files in its folder whose names begin with its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, value: Inert, convert: PlainConverter) -> np.ndarray:
        """Read the array that a stand-in names. Raises `AssetError`."""
        state = value.state if isinstance(value.state, dict) else {}
        name = convert(state.get("filename"))
        if not isinstance(name, str) or not name.startswith(f"{self.path.name}_") or {"/", "\\"} & set(name):
            raise AssetError("refused an array in a file that is not the pickle's own")
        if not (self.path.parent / name).is_file():
            raise AssetError(f"its array {name!a:.80} is missing; an old joblib wrote it as a file beside this one")
        data = (self.path.parent / name).read_bytes()
        convert.spend(len(data))
        if isinstance(value, FileArray):
            array = read_npy(data)
            convert.spend(array.nbytes)
            return array
        assert isinstance(value, ZippedFileArray)
        raw = unpack_zfile(data, convert.limits)
        shape, dtype, fortran = state["state"][-3:]
        return convert.array(raw, dtype, shape, "F" if fortran else "C")
