"""Reads the pickles that body models and priors come in without running anything from the file.

A pickle is a program. Here every name that it may use stands for an inert record that keeps what it is given, and every
other name is refused. Only when the program has ended are the records of numpy, chumpy and scipy.sparse turned into
plain arrays, by this module's own code and without either library.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from pathlib import Path
from typing import Any, ClassVar, no_type_check

import numpy as np

from bodyfit.errors import AssetError

__all__ = ["as_array", "read_pickle"]

_MAX_BYTES = 1 << 30
"""Of a file and of what is made from it; the largest model known, SMPL-X as a pickle, has 544 MiB."""
_MAX_STEPS = 2_000_000
"""Opcodes of a file, some seconds of them; a model has a few thousand."""
_MAX_LENGTH = 1 << 40
"""Of an array's axis: larger numbers are no lengths, and only slow to multiply."""
_MAX_NESTING = 4
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[SUa][1-9]\d{0,5}|O[48]?")


class _Inert:
    """Stands for an object of the file: keeps its arguments and the state that the pickle sets."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> _Inert:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Ndarray(_Inert): ...


class _Array(_Inert): ...


class _Buffer(_Inert): ...


class _Scalar(_Inert): ...


class _Dtype(_Inert): ...


class _Bytes(_Inert): ...


class _Set(_Inert): ...


class _Object(_Inert): ...


class _Chumpy(_Inert): ...


class _ByRow(_Inert): ...


class _ByColumn(_Inert): ...


class _Triplets(_Inert): ...


class _Ordered(dict):
    """collections.OrderedDict, with the keys that any dict of a file may have."""

    __slots__ = ()

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__((_key(k), v) for k, v in (pairs.items() if isinstance(pairs, dict) else pairs))

    def __setstate__(self, state: Any) -> None:
        if state:
            raise pickle.UnpicklingError("refused an OrderedDict with attributes")


class _Rebuilt(_Inert):
    """copyreg._reconstructor, by which protocols 0 and 1 make objects: an empty one of the class."""

    def __new__(cls, kind: Any = None, *_: Any) -> _Inert:
        if isinstance(kind, type) and issubclass(kind, _Inert) and kind is not cls:
            return kind()
        raise pickle.UnpicklingError("refused an object of a class that is not allowed")


_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
    ("collections", "OrderedDict"): _Ordered,
    ("copyreg", "_reconstructor"): _Rebuilt,
    ("copy_reg", "_reconstructor"): _Rebuilt,
}
for _module in ("builtins", "__builtin__"):
    _ALLOWED |= {(_module, "object"): _Object, (_module, "set"): _Set, (_module, "bytes"): _Bytes}
for _module in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_module}.multiarray", "_reconstruct"] = _Array
    _ALLOWED[f"{_module}.multiarray", "scalar"] = _Scalar
    _ALLOWED[f"{_module}.numeric", "_frombuffer"] = _Buffer
_SPARSE = {"csr": _ByRow, "csc": _ByColumn, "coo": _Triplets}


def _key(value: Any) -> Any:
    """A key of a dict or member of a set: of a tuple of tuples of tuples, each twice the next, the hash takes years."""
    if not (value is None or isinstance(value, (str, bytes, int, float))):
        raise pickle.UnpicklingError(f"refused a key of type {type(value).__name__.lstrip('_').lower()}")
    return value


def _with_keys(load: Any, places: slice) -> Any:
    """What an opcode does, once the keys in these places of the stack are seen to be fit."""

    def checked(reader: Any) -> None:
        for key in reader.stack[places]:
            _key(key)
        load(reader)

    return checked


class _Opcodes(dict):
    """What each opcode does, for so many opcodes."""

    left = _MAX_STEPS

    @no_type_check  # it runs for every opcode, and the tests' check of types takes twenty times as long
    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"refused a program of more than {_MAX_STEPS} steps")
        return super().__getitem__(opcode)


# The reader written in Python: in C a single opcode can make the memo many gigabytes long.
class _Reader(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.dispatch = _Opcodes(type(self).dispatch)  # pyright: ignore[reportIncompatibleVariableOverride, reportAttributeAccessIssue]

    def find_class(self, module: str, name: str) -> type:
        found = _ALLOWED.get((module, name))
        if found is not None:
            return found
        if module == "chumpy" or module.startswith("chumpy."):
            return _Chumpy
        kind, _, form = name.partition("_")
        if module.split(".")[:2] == ["scipy", "sparse"] and form in ("matrix", "array") and kind in _SPARSE:
            return _SPARSE[kind]
        raise pickle.UnpicklingError(f"refused the name {ascii(f'{module}.{name}'[:120])[1:-1]}")

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError(f"refused the registered object {code}")

    def load_long4(self) -> None:
        raise pickle.UnpicklingError("refused an integer of more than 255 bytes")

    dispatch[pickle.LONG4[0]] = load_long4
    for _opcode, _places in (
        (pickle.SETITEM, slice(-2, -1)),
        (pickle.SETITEMS, slice(0, None, 2)),
        (pickle.DICT, slice(0, None, 2)),
        (pickle.ADDITEMS, slice(None)),
        (pickle.FROZENSET, slice(None)),
    ):
        dispatch[_opcode[0]] = _with_keys(dispatch[_opcode[0]], _places)


class _Plain:
    """Turns what was read into plain values, each object once: a file can name one object a billion times."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}
        self.room = _MAX_BYTES

    def __call__(self, value: Any) -> Any:
        if not isinstance(value, (_Inert, bytes, bytearray, dict, list, tuple, set, frozenset)):
            return value
        if id(value) not in self.made:
            self.made[id(value)] = self.made  # until it is known; the file's own objects stay alive meanwhile
            self.made[id(value)] = self._convert(value)
        made = self.made[id(value)]
        if made is self.made:
            raise AssetError("an object that holds itself is not understood")
        return made

    def _spend(self, size: int) -> None:
        """Count bytes that are made or gone through: a small file can name the same large ones many times."""
        self.room -= size
        if self.room < 0:
            raise MemoryError

    def _convert(self, value: Any) -> Any:
        if isinstance(value, (bytes, bytearray)):
            self._spend(len(value))
            return value.decode("latin-1")
        if isinstance(value, dict):
            return {self(k): self(v) for k, v in value.items()}
        if isinstance(value, tuple):
            return tuple(self(v) for v in value)
        if isinstance(value, (list, set, frozenset)):
            return [self(v) for v in value]
        if isinstance(value, _Array):
            shape, dtype, fortran, data = value.state[-4:]  # after a version, which old numpy left out
            return self._array(data, dtype, shape, "F" if fortran else "C")
        if isinstance(value, _Buffer):
            data, dtype, shape, order = value.args
            return self._array(data, dtype, shape, order)
        if isinstance(value, _Scalar):
            return self._array(value.args[1], value.args[0], (1,), "C")[0]
        if isinstance(value, _Bytes):
            raw = self._bytes(value)
            self._spend(len(raw))
            return raw.decode("latin-1")
        if isinstance(value, _Set):
            return [self(v) for v in (value.args[0] if value.args else ())]
        if isinstance(value, _Chumpy):
            return self._chumpy(value.state)
        if isinstance(value, (_ByRow, _ByColumn, _Triplets)):
            return self._dense(value)
        raise AssetError(f"a bare {type(value).__name__[1:].lower()} is not understood")

    def _make(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Zeros, if there is room for them."""
        self._spend(max(8, math.prod(shape) * np.dtype(dtype).itemsize))
        return np.zeros(shape, dtype)

    @staticmethod
    def _shape(value: Any) -> tuple[int, ...]:
        """A shape as a file gives it: a few plain, small numbers."""
        axes = value if isinstance(value, (tuple, list)) else (value,)
        if len(axes) > 8 or not all(isinstance(n, (int, np.integer)) and 0 <= n < _MAX_LENGTH for n in axes):
            raise AssetError("an array whose shape is not a few numbers is not understood")
        return tuple(int(n) for n in axes)

    def _plain_array(self, value: Any) -> np.ndarray:
        """An array, or what Python lists make one; of lists of lists of lists, each twice the next, none."""
        array = as_array(self(value), min(self.room // 8, _MAX_STEPS))
        if not isinstance(value, _Inert):
            self._spend(8 * array.size)
        return array

    def _array(self, data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
        kind = self._dtype(dtype)
        shape = self._shape(shape)
        flat = self._make((math.prod(shape),), kind)
        if kind.hasobject:
            if not isinstance(data, list) or len(data) != len(flat):
                raise AssetError("an array of objects is damaged")
            for i, item in enumerate(data):
                flat[i] = self(item)
        else:
            raw = self._bytes(data)
            if len(raw) != flat.nbytes:
                raise AssetError(f"an array of shape {shape} has {len(raw)} bytes and not {flat.nbytes}")
            flat[:] = np.frombuffer(raw, kind) if raw else 0
        return flat.reshape(shape, order="F" if order == "F" else "C")

    def _bytes(self, value: Any) -> bytes:
        """Python 2's strings come as text, Python 3 writes bytes for old protocols as encode(text, "latin1")."""
        if isinstance(value, _Bytes):
            text, encoding = (*value.args, "latin1")[:2] if value.args else (b"", "latin1")
            if encoding not in ("latin1", "latin-1"):
                raise AssetError(f"refused the codec {encoding!a:.40}")
            return self._bytes(text) if isinstance(text, (str, bytes)) else b""
        return value.encode("latin-1") if isinstance(value, str) else bytes(memoryview(value))

    def _dtype(self, value: Any) -> np.dtype:
        """Numbers, strings and objects; never a record's layout, which could place objects over bytes."""
        code = self(value.args[0]) if isinstance(value, _Dtype) and value.args else None
        state = value.state if isinstance(value, _Dtype) and value.state else (3, "|", None, None, None)
        plain = isinstance(code, str) and _DTYPE.fullmatch(code) and all(part is None for part in state[2:5])
        order = self(state[1]) if plain else None
        if not plain or order not in ("<", ">", "|", "="):
            raise AssetError(f"refused the dtype {str(code)[:40]!a}")
        dtype = np.dtype("O" if str(code).startswith("O") else code)
        return dtype.newbyteorder(order) if order in "<>" else dtype

    def _chumpy(self, state: Any) -> np.ndarray:
        fields = state if isinstance(state, dict) else {}
        if "x" in fields:
            return self._plain_array(fields["x"])
        if {"a", "idxs"} <= fields.keys():  # a Select: entries of another array
            source, index = (self._plain_array(fields[k]) for k in ("a", "idxs"))
            self._spend(index.size * 8)
            picked = self._make((index.size,), source.dtype)
            picked[:] = source.flat[index.ravel()]
            shape = self(fields["preferred_shape"]) if "preferred_shape" in fields else index.shape
            return picked.reshape(self._shape(shape))
        raise AssetError(f"a chumpy object with the fields {str(sorted(map(str, fields)))[:120]!a} is not understood")

    def _dense(self, matrix: _Inert) -> np.ndarray:
        """A sparse matrix as a dense array (J_regressor is 24 x V)."""
        state = self(matrix.state)
        shape = self._shape(state.get("_shape", state.get("shape", ())))
        if len(shape) != 2:
            raise AssetError(f"a sparse matrix of shape {shape} is not understood")
        data = self._plain_array(state["data"])
        rows, cols = self._places(matrix, state, len(data))
        sound = rows.ndim == cols.ndim == data.ndim == 1 and len(rows) == len(cols) == len(data)
        sound = sound and rows.dtype.kind in "iu" and cols.dtype.kind in "iu"
        if not sound or min(rows.min(initial=0), cols.min(initial=0)) < 0:
            raise AssetError("a sparse matrix is damaged")
        self._spend(24 * len(data))
        dense = self._make(shape, np.float64)
        np.add.at(dense, (rows, cols), data)
        return dense

    def _places(self, matrix: _Inert, state: dict[str, Any], n: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the n entries of a sparse matrix."""
        if isinstance(matrix, _Triplets):
            rows, cols = state["coords"] if "coords" in state else (state["row"], state["col"])
            return self._plain_array(rows), self._plain_array(cols)
        ends, minor = self._plain_array(state["indptr"]), self._plain_array(state["indices"])
        # Numbers beyond the entries would let the counts overflow, and repeat() write past its end.
        sound = ends.ndim == 1 and ends.dtype.kind in "iu" and len(ends) > 0
        if not sound or (ends < 0).any() or (ends > n).any() or (ends[1:] < ends[:-1]).any() or ends[-1] - ends[0] != n:
            raise AssetError("a sparse matrix is damaged")
        self._spend(8 * (len(ends) + n))
        major = np.repeat(np.arange(len(ends) - 1), np.diff(ends.astype(np.int64)))
        return (major, minor) if isinstance(matrix, _ByRow) else (minor, major)


def as_array(value: Any, limit: int = _MAX_STEPS) -> np.ndarray:
    """The array that is given, or that nested lists of at most so many numbers make.

    Raises `AssetError` for what is no array, and MemoryError.
    """
    if isinstance(value, (list, tuple)):
        _leaves(value, limit)
    elif not isinstance(value, (np.ndarray, np.generic, int, float, str)):
        raise AssetError(f"a {type(value).__name__} where an array should be is not understood")
    return np.asarray(value)


@no_type_check
def _leaves(value: Any, limit: int, depth: int = 0) -> int:
    """How many numbers nested lists hold. Raises MemoryError where they are more than `limit`."""
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


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict of plain arrays, numbers and strings in a pickle.

    Raises `AssetError` with the file's name if it is no pickle of a dict or names anything outside the allow-list.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise AssetError(f"{path}: {path.stat().st_size >> 20} MiB is more than any body model; refused")
    try:
        value = _Plain()(_Reader(path.read_bytes()).load())
    except OSError:
        raise
    except AssetError as error:
        raise AssetError(f"{path}: {error}") from None
    except (MemoryError, OverflowError, RecursionError) as error:
        raise AssetError(f"{path}: refused, it asks for too much: {type(error).__name__}") from None
    except Exception as error:  # the reader and numpy raise whatever the bytes make them stumble over
        raise AssetError(f"{path}: not a pickle that can be read safely: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise AssetError(f"{path}: expected a pickled dict, found {type(value).__name__}")
    return value
