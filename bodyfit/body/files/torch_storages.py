"""Read the storages of torch's tensors: their persistent ids, and the stream format of torch before 1.6."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from bodyfit.body.files.limits import Limits
from bodyfit.body.files.stand_ins import Inert, StorageType, StoredNumbers
from bodyfit.body.files.unpickler import InertUnpickler
from bodyfit.errors import AssetError

__all__ = ["OLD_MAGIC", "OldStorages", "PersistentIds", "numbers_of", "old_parts", "read_old_storage"]

OLD_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""The pickle of one long number that begins a file of torch's old format."""
_PROTOCOL = 1001
_MAX_STORAGES = 100_000


class PersistentIds:
    """Resolves torch's persistent ids to stand-ins, one for each storage."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, Any], Inert] = {}

    def __call__(self, pid: Any) -> Inert:
        """Resolve ("storage", type, key, device, count[, view]); the old format has the view. Raises `AssetError`."""
        fits = isinstance(pid, tuple) and 5 <= len(pid) <= 6 and pid[0] == "storage" and isinstance(pid[2], str)
        if not fits or not (isinstance(pid[1], type) and issubclass(pid[1], StorageType)):
            raise AssetError("refused an object that is stored elsewhere and is no tensor")
        if pid[5:] not in ((), (None,)):
            raise AssetError("a tensor that is a part of another's storage is not understood; save it anew")
        key = pid[1].code, pid[2]
        if key not in self.by_key:
            self.by_key[key] = StoredNumbers(*key)
        return self.by_key[key]


def numbers_of(raw: bytes, code: str, *, swapped: bool = False) -> np.ndarray:
    """Decode the numbers of a storage; bfloat16 becomes float32. Raises `AssetError`."""
    dtype = np.dtype("u2" if code == "bf16" else code).newbyteorder(">" if swapped else "<")
    if len(raw) % dtype.itemsize:
        raise AssetError("a tensor's numbers are cut short; fetch the file again")
    flat = np.frombuffer(raw, dtype)
    return (flat.astype(np.uint32) << 16).view(np.float32) if code == "bf16" else flat


def read_old_storage(data: bytes, limits: Limits, spend: Callable[[int], None]) -> np.ndarray:
    """Read the storage that a file of the old format inside another pickle holds, and `spend` its bytes."""
    value, storages = old_parts(data, limits, PersistentIds())
    if not isinstance(value, StoredNumbers):
        raise AssetError("a tensor's numbers are damaged")
    spend(len(data))
    return OldStorages(storages)(*value.args)


def old_parts(
    data: bytes | mmap.mmap, limits: Limits, stored: PersistentIds
) -> tuple[Any, dict[Any, tuple[bytes, int]]]:
    """Read the object of a file of the old format, and by key each storage's bytes and count. Raises `AssetError`."""
    if data[: len(OLD_MAGIC)] != OLD_MAGIC:
        raise AssetError("not in torch's format")
    reader = InertUnpickler(data, steps=limits.steps, stored=stored, at=len(OLD_MAGIC))
    version, machine = reader.load(), reader.load()
    if version != _PROTOCOL or not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise AssetError("torch's old format in a version, or of a machine, that is not understood")
    value, keys = reader.load(), reader.load()
    if not isinstance(keys, list) or len(keys) > _MAX_STORAGES or not all(isinstance(key, str) for key in keys):
        raise AssetError("the list of a torch file's tensors is damaged")
    sizes = {key: np.dtype("u2" if code == "bf16" else code).itemsize for code, key in stored.by_key}
    at, storages = reader.file.tell(), {}
    for key in keys:
        (count,) = struct.unpack("<q", data[at : at + 8])
        end = at + 8 + count * sizes.get(key, 1)
        if count < 0 or end > len(data):
            raise AssetError("a torch file is cut short; fetch it again")
        storages[key] = (data[at + 8 : end], count)
        at = end
    return value, storages


class OldStorages:
    """Looks up the numbers of storages of the old format by type code and key. Raises `AssetError`."""

    def __init__(self, storages: dict[Any, tuple[bytes, int]]) -> None:
        self.storages = storages

    def __call__(self, code: str, key: Any) -> np.ndarray:
        if key not in self.storages:
            raise AssetError("a tensor's numbers are missing; fetch the file again")
        raw, count = self.storages[key]
        numbers = numbers_of(raw, code)
        if len(numbers) != count:
            raise AssetError("a tensor's numbers are damaged")
        return numbers
