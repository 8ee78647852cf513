"""Files of arrays: where those that ship lie, and how any npz or pickle is read without running it."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.body.safe_pickle import read_pickle
from bodyfit.errors import AssetError

__all__ = ["UnreadObjects", "asset_path", "read_archive"]

_MAX_BYTES = 1 << 30
"""Of an npz, unpacked; SMPL-X has 240 MiB in float64."""
_MAX_MEMBERS = 10_000


class UnreadObjects:
    """Stands for an array of Python objects, which an npz holds as a pickle: never read, and missed only if needed."""


def asset_path(*parts: str) -> Path:
    """A file that ships with bodyfit: inside the package when installed, beside it in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "assets", package.parent / "assets"):
        if (path := root.joinpath(*parts)).exists():
            return path
    raise AssetError(f"the shipped file assets/{'/'.join(parts)} is missing; reinstall bodyfit")


def read_archive(path: Path) -> dict[str, Any]:
    """The arrays of an npz (never unpickling) or, by the allow-listed reader, of a pickle.

    Which of the two a file is, its content says. Raises `AssetError`, naming the file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head[:2] != b"PK":
            return read_pickle(path)
        return _read_npz(path)
    except AssetError:
        raise
    except OSError as error:
        raise AssetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (MemoryError, RecursionError):
        raise AssetError(f"{path}: refused, it asks for too much memory") from None
    except Exception as error:  # zipfile, zlib and numpy raise whatever the bytes make them stumble over
        raise AssetError(f"{path}: a damaged or unsafe npz: {_printable(error)}") from None


def _read_npz(path: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > _MAX_BYTES or len(members) > _MAX_MEMBERS:
            raise AssetError(
                f"{path}: {size >> 20} MiB when unpacked, in {len(members)} members, is more than a body model; refused"
            )
        for member in members:
            if member.filename.endswith(".npy"):
                arrays[member.filename[:-4]] = _read_member(path, archive, member)
    return arrays


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray | UnreadObjects:
    """One array, once its header is seen to promise as many bytes as there are and no objects."""
    name = _printable(member.filename[:-4])
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):  # 3.0 is for the field names of records
            raise AssetError(f"{path}: {name} is in version {version} of numpy's format, which no body model needs")
        read_header = np.lib.format.read_array_header_1_0
        shape, _, dtype = (read_header if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
        if dtype.hasobject:
            return UnreadObjects()
        size, there = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if dtype.itemsize == 0 or min(shape, default=0) < 0 or size != there:
            raise AssetError(
                f"{path}: {name} is damaged, {shape} of {dtype} is not {there} bytes; fetch the file again"
            )
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _printable(value: Any) -> str:
    """Text for a message that must not carry a file's control characters to a terminal."""
    return ascii(str(value)[:200])[1:-1]
