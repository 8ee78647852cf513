"""numpy's own format, in a file or inside an npz."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from bodyfit.body.files.limits import Limits
from bodyfit.body.files.plain import Plain
from bodyfit.body.files.unpickler import Reader
from bodyfit.errors import AssetError

__all__ = ["MAGIC", "header_of", "read_npy", "read_numbers", "read_objects"]

MAGIC = b"\x93NUMPY"


def header_of(file: Any, size: int, name: str = "") -> np.dtype:
    """The type of an array in a file that is open for reading, of which `size` bytes are there, header and all, once
    the header is seen to promise as many bytes as follow; the file is left at the array's end of header. Raises
    `AssetError`; `name` says which it is."""
    label = f"{name} is" if name else "it is"
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for the field names of records
        raise AssetError(f"{label} in version {version} of numpy's format, which no such file needs")
    read_header = np.lib.format.read_array_header_1_0
    shape, _, dtype = (read_header if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    there = size - file.tell()
    if not dtype.hasobject:
        promised = math.prod(shape) * dtype.itemsize
        if dtype.itemsize == 0 or min(shape, default=0) < 0 or promised != there:
            raise AssetError(f"{label} damaged, {shape} of {dtype} is not {there} bytes; fetch the file again")
    return dtype


def read_npy(data: bytes) -> np.ndarray:
    """The array of numbers of an npy file; of one of objects, `read_objects` reads what is in it."""
    file = io.BytesIO(data)
    if header_of(file, len(data)).hasobject:
        raise AssetError("an array of Python objects where numbers should be")
    return read_numbers(file)


def read_numbers(file: Any) -> np.ndarray:
    """The array in an open file whose header `header_of` found sound."""
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def read_objects(data: bytes, limits: Limits, **options: Any) -> Any:
    """What the pickle inside an npy file of objects holds: the object itself if it is one alone (shape ())."""
    file = io.BytesIO(data)
    header_of(file, len(data))
    made = Plain(limits, **options)(Reader(data, steps=limits.steps, at=file.tell()).load())
    return made[()] if isinstance(made, np.ndarray) and made.shape == () else made
