"""Convert a pickle's stand-ins into dicts, lists, numbers, text and arrays, by our own code only."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Collection
from typing import Any, no_type_check

import numpy as np

from bodyfit.body.files import stand_ins as s
from bodyfit.body.files.dtypes import dtype_of, shape_of, size_of
from bodyfit.body.files.limits import Limits
from bodyfit.body.files.torch_storages import read_old_storage
from bodyfit.body.files.unread import UnreadObjects
from bodyfit.errors import AssetError

__all__ = ["PlainConverter", "as_array"]

_MAX_NESTING = 4
_MAX_NUMBERS = 2_000_000
"""Most numbers in nested lists that become an array."""


class PlainConverter:
    """Converts stand-ins to plain values, each object once: a file can name one object a billion times.

    data: the bytes that `FiledArray.place` refers to. storage: looks up the numbers of torch's storages by type code
    and key. beside: reads joblib's arrays in files beside the pickle. None for either where the file has none. ignored:
    keys whose values are left unread, anywhere in the file. Raises `AssetError` and MemoryError.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        data: bytes | mmap.mmap = b"",
        storage: Callable[[str, Any], np.ndarray] | None = None,
        beside: Callable[[s.Inert, PlainConverter], np.ndarray] | None = None,
        ignored: Collection[str] = (),
    ) -> None:
        self.converted: dict[int, Any] = {}
        self.room = limits.unpacked_bytes
        self.limits, self.ignored = limits, frozenset(ignored)
        self._data, self._storage, self._beside = data, storage, beside

    def __call__(self, value: Any) -> Any:
        if isinstance(value, type):  # a numeric type by itself
            return getattr(value, "code", value.__name__)
        if not isinstance(value, (s.Inert, bytes, bytearray, dict, list, tuple, set, frozenset)):
            return value
        if id(value) not in self.converted:
            self.converted[id(value)] = self.converted  # marks an object in progress; ids stay valid meanwhile
            self.converted[id(value)] = self._convert(value)
        plain = self.converted[id(value)]
        if plain is self.converted:
            raise AssetError("an object that holds itself is not understood")
        return plain

    def spend(self, size: int) -> None:
        """Count bytes made or read, for a small file can name the same large array many times. Raises MemoryError."""
        self.room -= size
        if self.room < 0:
            raise MemoryError

    def _convert(self, value: Any) -> Any:
        """Convert a container or a stand-in. Raises `AssetError`."""
        if isinstance(value, (bytes, bytearray)):
            self.spend(len(value))
            return value.decode("latin-1")
        if isinstance(value, dict):
            return {self(k): UnreadObjects() if k in self.ignored else self(v) for k, v in value.items()}
        if isinstance(value, tuple):
            return tuple(self(v) for v in value)
        if isinstance(value, (list, set, frozenset)):
            return [self(v) for v in value]
        array = self._array_of(value)
        if array is not None:
            return array
        if isinstance(value, s.Bytes):
            raw = bytes_of(value)
            self.spend(len(raw))
            return raw.decode("latin-1")
        if isinstance(value, s.Set):
            return [self(v) for v in (value.args[0] if value.args else ())]
        if isinstance(value, s.Text):
            return "/".join(str(part)[:1000] for part in value.args)
        raise AssetError(f"a bare {type(value).__name__.lower()} is not understood")

    def _array_of(self, value: s.Inert) -> Any:
        """Convert a stand-in for an array or a numpy number; None for any other."""
        if isinstance(value, s.Array):
            shape, dtype, fortran, data = value.state[-4:]  # after a version number, which old numpy omitted
            return self.array(data, dtype, shape, "F" if fortran else "C")
        if isinstance(value, s.Buffer):
            data, dtype, shape, order = value.args
            return self.array(data, dtype, shape, order)
        if isinstance(value, s.Scalar):
            return self.array(value.args[1], value.args[0], (1,), "C")[0]
        if isinstance(value, s.FiledArray):
            return self._filed(value)
        if isinstance(value, s.Tensor):
            return self._tensor(value)
        if isinstance(value, s.Parameter):
            return self(value.args[0])
        if isinstance(value, s.Chumpy):
            return self._chumpy(value.state)
        if isinstance(value, (s.ByRow, s.ByColumn, s.Triplets)):
            return self._dense(value)
        if isinstance(value, (s.FileArray, s.ZippedFileArray)):
            if self._beside is None:
                raise AssetError("an array that is in a file of its own, and no such file is looked for here")
            return self._beside(value, self)
        return None

    def make(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Allocate zeros within the bounds. Raises MemoryError."""
        self.spend(max(8, size_of(shape) * np.dtype(dtype).itemsize))
        return np.zeros(shape, dtype)

    def _plain_array(self, value: Any) -> np.ndarray:
        """Convert to an array, from nested lists too, within a bound of numbers. Raises MemoryError."""
        array = as_array(self(value), min(self.room // 8, _MAX_NUMBERS))
        if not isinstance(value, s.Inert):
            self.spend(8 * array.size)
        return array

    def array(self, data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
        """Make an array from bytes or a list of objects in the pickle. Raises `AssetError`."""
        checked = dtype_of(dtype)
        shape = shape_of(shape)
        flat = self.make((size_of(shape),), checked)
        if checked.hasobject:
            if not isinstance(data, list) or len(data) != len(flat):
                raise AssetError("an array of objects is damaged")
            for i, item in enumerate(data):
                flat[i] = self(item)
        else:
            raw = bytes_of(data)
            if len(raw) != flat.nbytes:
                raise AssetError(f"an array of shape {shape} has {len(raw)} bytes and not {flat.nbytes}")
            flat[:] = np.frombuffer(raw, checked) if raw else 0
        return flat.reshape(shape, order="F" if order == "F" else "C")

    def _filed(self, value: s.FiledArray) -> Any:
        """Make an array from numbers between the opcodes. Raises `AssetError`."""
        if value.objects is not None:
            return self(value.objects)
        if value.place is None:
            raise AssetError("an array without numbers is damaged")
        start, size = value.place
        state = value.state
        flat = self.make((size_of(shape_of(state["shape"])),), dtype_of(state["dtype"]))
        flat[:] = np.frombuffer(self._data[start : start + size], flat.dtype) if size else 0
        return flat.reshape(shape_of(state["shape"]), order="F" if state.get("order") == "F" else "C")

    def _tensor(self, value: s.Tensor) -> np.ndarray:
        """Copy a strided view of a storage, checked to stay inside it. Raises `AssetError`."""
        storage, offset, size, stride = value.args[:4]
        numbers = self._stored(storage)
        shape, steps, (start,) = shape_of(size), shape_of(stride), shape_of(offset)
        if len(shape) != len(steps):
            raise AssetError("a tensor's sizes and strides differ in number")
        last = start + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        if size_of(shape) == 0:
            return self.make(shape, numbers.dtype)
        if last >= len(numbers):
            raise AssetError(f"a tensor of shape {shape} reaches beyond its {len(numbers)} numbers")
        out = self.make(shape, numbers.dtype)
        strides = [step * numbers.itemsize for step in steps]
        out[...] = np.lib.stride_tricks.as_strided(numbers[start:], shape, strides, writeable=False)
        return out

    def _stored(self, storage: Any) -> np.ndarray:
        """Return the numbers of a storage. Raises `AssetError`."""
        if isinstance(storage, s.StorageBytes):
            if id(storage) not in self.converted:
                self.converted[id(storage)] = read_old_storage(bytes_of(storage.args[0]), self.limits, self.spend)
            return self.converted[id(storage)]
        if not isinstance(storage, s.StoredNumbers) or self._storage is None:
            raise AssetError("a tensor without numbers is damaged")
        code, key = storage.args
        if id(storage) not in self.converted:
            self.converted[id(storage)] = self._storage(code, key)
        return self.converted[id(storage)]

    def _chumpy(self, state: Any) -> np.ndarray:
        """Convert a chumpy array or selection. Raises `AssetError`."""
        fields = state if isinstance(state, dict) else {}
        if "x" in fields:
            return self._plain_array(fields["x"])
        if {"a", "idxs"} <= fields.keys():  # a Select: entries of another array
            source, index = (self._plain_array(fields[k]) for k in ("a", "idxs"))
            self.spend(index.size * 8)
            selected = self.make((index.size,), source.dtype)
            selected[:] = source.flat[index.ravel()]
            shape = self(fields["preferred_shape"]) if "preferred_shape" in fields else index.shape
            return selected.reshape(shape_of(shape))
        raise AssetError(f"a chumpy object with the fields {str(sorted(map(str, fields)))[:120]!a} is not understood")

    def _dense(self, matrix: s.Inert) -> np.ndarray:
        """Convert a sparse matrix to a dense array (J_regressor is 24 x V). Raises `AssetError`."""
        state = self(matrix.state)
        shape = shape_of(state.get("_shape", state.get("shape", ())))
        if len(shape) != 2:
            raise AssetError(f"a sparse matrix of shape {shape} is not understood")
        data = self._plain_array(state["data"])
        rows, cols = self._places(matrix, state, len(data))
        sound = rows.ndim == cols.ndim == data.ndim == 1 and len(rows) == len(cols) == len(data)
        sound = sound and rows.dtype.kind in "iu" and cols.dtype.kind in "iu"
        if not sound or min(rows.min(initial=0), cols.min(initial=0)) < 0:
            raise AssetError("a sparse matrix is damaged")
        self.spend(24 * len(data))
        dense = self.make(shape, np.float64)
        np.add.at(dense, (rows, cols), data)
        return dense

    def _places(self, matrix: s.Inert, state: dict[str, Any], n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows and columns of the n entries of a sparse matrix. Raises `AssetError`."""
        if isinstance(matrix, s.Triplets):
            rows, cols = state["coords"] if "coords" in state else (state["row"], state["col"])
            return self._plain_array(rows), self._plain_array(cols)
        ends, minor = self._plain_array(state["indptr"]), self._plain_array(state["indices"])
        # Pointers beyond the entries would let the counts overflow, and repeat() write past its end.
        sound = ends.ndim == 1 and ends.dtype.kind in "iu" and len(ends) > 0
        if not sound or (ends < 0).any() or (ends > n).any() or (ends[1:] < ends[:-1]).any() or ends[-1] - ends[0] != n:
            raise AssetError("a sparse matrix is damaged")
        self.spend(8 * (len(ends) + n))
        major = np.repeat(np.arange(len(ends) - 1), np.diff(ends.astype(np.int64)))
        return (major, minor) if isinstance(matrix, s.ByRow) else (minor, major)


def bytes_of(value: Any) -> bytes:
    """Return the bytes of a value: bytes, Python 2's strings (text), or Python 3's encode(text, "latin1")."""
    if isinstance(value, s.Bytes):
        text, encoding = (*value.args, "latin1")[:2] if value.args else (b"", "latin1")
        if encoding not in ("latin1", "latin-1"):
            raise AssetError(f"refused the codec {encoding!a:.40}")
        return bytes_of(text) if isinstance(text, (str, bytes)) else b""
    return value.encode("latin-1") if isinstance(value, str) else bytes(memoryview(value))


def as_array(value: Any, limit: int = _MAX_NUMBERS) -> np.ndarray:
    """Return an array, from nested lists of at most `limit` numbers too.

    Raises `AssetError` for other values, and MemoryError.
    """
    if isinstance(value, (list, tuple)):
        _leaves(value, limit)
    elif not isinstance(value, (np.ndarray, np.generic, int, float, str)):
        raise AssetError(f"a {type(value).__name__} where an array should be is not understood")
    return np.asarray(value)


@no_type_check
def _leaves(value: Any, limit: int, depth: int = 0) -> int:
    """Count the numbers in nested lists. Raises MemoryError where they are more than `limit`, and `AssetError`."""
    if not isinstance(value, (list, tuple)):
        return value.size if isinstance(value, np.ndarray) else 1
    if depth == _MAX_NESTING:
        raise AssetError(f"lists nested more than {_MAX_NESTING} deep are not understood as an array")
    total = 0
    for item in value:
        total += 1 + _leaves(item, limit - total, depth + 1)
        if total > limit:
            raise MemoryError
    return total
