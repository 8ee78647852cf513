"""Read any supported file of arrays, detected by its content, without executing anything in it."""

from __future__ import annotations

import errno
import io
import json
import mmap
import pickle
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from bodyfit.body.files import compressed, npy, torch_files
from bodyfit.body.files.beside import ArraysBeside
from bodyfit.body.files.foreign import foreign_kind
from bodyfit.body.files.limits import Limits
from bodyfit.body.files.plain import PlainConverter
from bodyfit.body.files.unpickler import InertUnpickler
from bodyfit.body.files.unread import UnreadObjects
from bodyfit.errors import AssetError

__all__ = ["read_contents"]

_HEAD = 512
_MAX_MEMBERS = 10_000
_MAX_JSON = 1 << 28


def read_contents(
    path: Path, limits: Limits, *, objects: bool = True, text: bool = True, ignored: Collection[str] = ()
) -> Any:
    """Read an npz, npy, pickle, torch or JSON file into dicts, lists, numbers, text and arrays.

    Pickles may be joblib's, and compressed. objects: read pickles inside npz and npy (by the same inert reader) instead
    of leaving `UnreadObjects`. text: read JSON instead of refusing it. ignored: keys whose values are left unread.
    Raises `AssetError`, naming the file, and its kind where it is another.
    """
    head = b""
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            head = file.read(_HEAD)
            if size > limits.file_bytes:
                raise AssetError(f"{size >> 20} MiB is more than any {limits.what}; refused")
            if kind := foreign_kind(head, size):
                raise AssetError(f"{kind}; it is no {limits.what}" if ";" not in kind else kind)
            if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
                return _json(file, size, head, limits, text=text)
            if head[:2] == b"PK":
                return _zip(path, limits, objects=objects, ignored=ignored)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _binary(path, data, limits, objects=objects, ignored=ignored)
    except AssetError as error:
        raise AssetError(f"{path}: {error}") from None
    except OSError as error:
        if head and error.errno == errno.EINVAL:  # a damaged file makes a reader seek to an invalid offset
            raise AssetError(f"{path}: damaged; fetch the file again") from None
        raise AssetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (MemoryError, OverflowError, RecursionError) as error:
        raise AssetError(f"{path}: refused, it asks for too much: {type(error).__name__}") from None
    except Exception as error:  # zipfile, numpy and the unpickler raise many types on damaged bytes
        raise AssetError(f"{path}: {_damage(error, head)}") from None


def _binary(path: Path, mapped: mmap.mmap, limits: Limits, *, objects: bool, ignored: Collection[str]) -> Any:
    """Read an npy file, torch's old format or a pickle, compressed or not."""
    data: bytes | mmap.mmap = mapped
    if compressed.compression_of(data[:16]):
        data = compressed.unpack(data[:], limits)
    if data[:6] == npy.MAGIC:
        if len(data) > limits.unpacked_bytes:
            raise MemoryError
        whole = data[:]
        if not npy.header_of(io.BytesIO(whole), len(whole)).hasobject:
            return npy.read_npy(whole)
        return npy.read_objects(whole, limits, ignored=ignored) if objects else UnreadObjects()
    if data[: len(torch_files.OLD_MAGIC)] == torch_files.OLD_MAGIC:
        return torch_files.read_old(data, limits, ignored)
    value = InertUnpickler(data, steps=limits.steps).load()
    return PlainConverter(limits, data=data, beside=ArraysBeside(path), ignored=ignored)(value)


def _json(file: Any, size: int, head: bytes, limits: Limits, *, text: bool) -> Any:
    """Read JSON, refusing a server's error message. Raises `AssetError`."""
    if size > _MAX_JSON:
        raise AssetError(f"{size >> 20} MiB of JSON is more than any {limits.what}; refused")
    file.seek(0)
    try:
        value = json.loads(file.read().removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except (ValueError, RecursionError):
        if head[:1] in b"{[":
            raise AssetError("text that begins like JSON and is damaged; fetch the file again") from None
        raise
    if not text or (isinstance(value, dict) and {"error", "message", "detail"} & value.keys() and len(value) < 6):
        begin = " ".join(head.decode("utf-8", "replace").split())[:80]
        raise AssetError(f"a text of JSON ({begin!a}) and no {limits.what}; fetch the file again")
    return value


def _zip(path: Path, limits: Limits, *, objects: bool, ignored: Collection[str]) -> Any:
    """Read an npz or a torch file. Raises `AssetError`."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > limits.unpacked_bytes or len(members) > _MAX_MEMBERS:
            amount = f"{size >> 20} MiB when unpacked, in {len(members)} members"
            raise AssetError(f"{amount}, is more than a {limits.what}; refused")
        names = [member.filename for member in members]
        if torch_files.is_torch_zip(names):
            return torch_files.read_zip(archive, limits, ignored)
        arrays = [member for member in members if member.filename.endswith(".npy")]
        if not arrays and members:
            raise AssetError(_other_zip(names))
        return {
            member.filename[:-4]: _member(archive, member, limits, objects=objects, ignored=ignored)
            for member in arrays
        }


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, limits: Limits, *, objects: bool, ignored: Collection[str]
) -> Any:
    """Read one array of an npz."""
    name = _printable(member.filename[:-4])
    if name in ignored:
        return UnreadObjects()
    with archive.open(member) as file:
        if not npy.header_of(file, member.file_size, name).hasobject:
            return npy.read_numbers(file)
        if not objects:
            return UnreadObjects()
        file.seek(0)
        return npy.read_objects(file.read(), limits, ignored=ignored)


def _other_zip(names: list[str]) -> str:
    """Describe a zip that holds no arrays."""
    if "word/document.xml" in names or "[Content_Types].xml" in names:
        return "an office document"
    inside = [name for name in names if name.lower().endswith((".pkl", ".npz", ".pt", ".pth", ".json"))][:3]
    such = f", such as {', '.join(map(_printable, inside))}" if inside else ""
    return f"a zip of {len(names)} other files and no npz; unpack it and give a file in it{such}"


def _damage(error: Exception, head: bytes) -> str:
    """Describe what is wrong with a file, without quoting the library that failed."""
    words = _printable(error)
    if isinstance(error, pickle.UnpicklingError) and words.startswith("refused"):
        return words
    if isinstance(error, zipfile.BadZipFile):
        return f"a damaged npz ({words}); fetch the file again"
    if head[:2] != b"PK" and head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        begin = " ".join(head[:60].decode("ascii").split())
        return f"text ({begin!a}) and neither an npz nor a pickle nor any other file of arrays"
    if isinstance(error, EOFError):
        return "cut short; fetch the file again"
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], int):  # no such opcode
        recognised = head[:1] == b"\x80" or compressed.compression_of(head) or head[:6] == npy.MAGIC
        return (
            "damaged; fetch the file again"
            if recognised
            else "neither an npz nor a pickle nor any other file of arrays"
        )
    return f"damaged ({words or type(error).__name__}); fetch the file again"


def _printable(value: Any) -> str:
    """Escape a file's text for a message, so that no control characters reach the terminal."""
    return ascii(str(value)[:200])[1:-1]
