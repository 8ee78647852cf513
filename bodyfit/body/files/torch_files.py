"""torch's files: the zip of a pickle and its storages, and the stream of pickles of before torch 1.6."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Collection
from typing import Any

import numpy as np

from bodyfit.body.files.limits import Limits
from bodyfit.body.files.plain import Plain
from bodyfit.body.files.torch_storages import OLD_MAGIC, OldStorages, Stored, numbers_of, old_parts
from bodyfit.body.files.unpickler import Reader
from bodyfit.errors import AssetError

__all__ = ["OLD_MAGIC", "is_torch_zip", "read_old", "read_zip"]


def is_torch_zip(names: Collection[str]) -> bool:
    """Whether a zip of such members is torch's."""
    return any(name == "data.pkl" or name.endswith("/data.pkl") for name in names)


def read_zip(archive: zipfile.ZipFile, limits: Limits, ignored: Collection[str] = ()) -> Any:
    """What torch.save wrote. Raises `AssetError`, and whatever damage makes zipfile and numpy stumble over."""
    names = set(archive.namelist())
    pickled = min((name for name in names if name == "data.pkl" or name.endswith("/data.pkl")), key=len)
    root = pickled.removesuffix("data.pkl")
    if f"{root}constants.pkl" in names:
        raise AssetError("a program of TorchScript, which is code and is not run; give results as numbers")
    made = Plain(limits, storage=_ZipStorages(archive, root), ignored=ignored)
    return made(Reader(archive.read(pickled), steps=limits.steps, stored=Stored()).load())


class _ZipStorages:
    """The numbers of storages in a zip, by their type's code and their key."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self.archive, self.root, self.names = archive, root, set(archive.namelist())
        order = f"{root}byteorder"
        self.swapped = order in self.names and archive.read(order).strip() == b"big"

    def __call__(self, code: str, key: Any) -> np.ndarray:
        name = f"{self.root}data/{key}"
        if not isinstance(key, str) or name not in self.names:
            raise AssetError("a tensor's numbers are missing; fetch the file again")
        return numbers_of(self.archive.read(name), code, swapped=self.swapped)


def read_old(data: bytes | mmap.mmap, limits: Limits, ignored: Collection[str] = ()) -> Any:
    """What torch.save wrote before torch 1.6: pickles of a magic number, a version, the machine, the object and the
    storages' keys, then each storage's count and numbers. Raises `AssetError` and whatever damage leads to."""
    stored = Stored()
    value, storages = old_parts(data, limits, stored)
    return Plain(limits, ignored=ignored, storage=OldStorages(storages))(value)
