"""Read torch's files: the zip of a pickle and its storages, and the stream of pickles of torch before 1.6."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Collection
from typing import Any

import numpy as np

from bodyfit.body.files.limits import Limits
from bodyfit.body.files.plain import PlainConverter
from bodyfit.body.files.torch_storages import OLD_MAGIC, OldStorages, PersistentIds, numbers_of, old_parts
from bodyfit.body.files.unpickler import InertUnpickler
from bodyfit.errors import AssetError

__all__ = ["OLD_MAGIC", "is_torch_zip", "read_old", "read_zip"]


def is_torch_zip(names: Collection[str]) -> bool:
    """Tell by a zip's member names whether it is a torch file."""
    return any(name == "data.pkl" or name.endswith("/data.pkl") for name in names)


def read_zip(archive: zipfile.ZipFile, limits: Limits, ignored: Collection[str] = ()) -> Any:
    """Read what torch.save wrote. Raises `AssetError`, and zipfile's and numpy's errors on damaged files."""
    names = set(archive.namelist())
    pickle_name = min((name for name in names if name == "data.pkl" or name.endswith("/data.pkl")), key=len)
    root = pickle_name.removesuffix("data.pkl")
    if f"{root}constants.pkl" in names:
        raise AssetError("a program of TorchScript, which is code and is not run; give results as numbers")
    convert = PlainConverter(limits, storage=_ZipStorages(archive, root), ignored=ignored)
    return convert(InertUnpickler(archive.read(pickle_name), steps=limits.steps, stored=PersistentIds()).load())


class _ZipStorages:
    """Looks up the numbers of storages in a zip by type code and key. Raises `AssetError`."""

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
    """Read what torch.save wrote before torch 1.6.

    Pickles of a magic number, a version, the machine, the object and the storages' keys, then each storage's count and
    numbers. Raises `AssetError`, and other errors on damaged files.
    """
    stored = PersistentIds()
    value, storages = old_parts(data, limits, stored)
    return PlainConverter(limits, ignored=ignored, storage=OldStorages(storages))(value)
