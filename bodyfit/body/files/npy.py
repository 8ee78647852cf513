"""Read numpy's npy format, in a file or inside an npz."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from bodyfit.body.files.limits import Limits
from bodyfit.body.files.plain import PlainConverter
from bodyfit.body.files.unpickler import InertUnpickler
from bodyfit.errors import AssetError

__all__ = ["MAGIC", "header_of", "read_npy", "read_numbers", "read_objects"]

MAGIC = b"\x93NUMPY"


def header_of(file: Any, size: int, name: str = "") -> np.dtype:
    """Read the dtype of an array in an open file of `size` bytes and check that the header matches the bytes after it.

    Leaves the file at the end of the header. Raises `AssetError`, with `name` as the array's.
    """
    label = f"{name} is" if name else "it is"
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for the field names of records
        raise AssetError(f"{label} in version {version} of numpy's format, which no such file needs")
    read_header = np.lib.format.read_array_header_1_0
    shape, _, dtype = (read_header if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    present = size - file.tell()
    if not dtype.hasobject:
        promised = math.prod(shape) * dtype.itemsize
        if dtype.itemsize == 0 or min(shape, default=0) < 0 or promised != present:
            raise AssetError(f"{label} damaged, {shape} of {dtype} is not {present} bytes; fetch the file again")
    return dtype


def read_npy(data: bytes) -> np.ndarray:
    """Read the numeric array of an npy file. Raises `AssetError` for an array of objects (see `read_objects`)."""
    file = io.BytesIO(data)
    if header_of(file, len(data)).hasobject:
        raise AssetError("an array of Python objects where numbers should be")
    return read_numbers(file)


def read_numbers(file: Any) -> np.ndarray:
    """Read the array in an open file whose header `header_of` has checked."""
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_objects(data: bytes, limits: Limits, **options: Any) -> Any:
    """Read the pickle inside an npy file of objects; a single object (shape ()) is returned itself."""
    file = io.BytesIO(data)
    header_of(file, len(data))
    value = PlainConverter(limits, **options)(InertUnpickler(data, steps=limits.steps, at=file.tell()).load())
    return value[()] if isinstance(value, np.ndarray) and value.shape == () else value
