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
from typing import Any

import numpy as np

from bodyfit.errors import AssetError

__all__ = ["read_pickle"]

_MAX_BYTES = 1 << 30
"""Of a file and of the arrays made from it; the largest model known, SMPL-X as a pickle, has 544 MiB."""
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[SUa]\d{1,6}|O[48]?")


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
    ("collections", "OrderedDict"): dict,
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


# The reader written in Python: in C a single opcode can make the memo many gigabytes long.
class _Reader(pickle._Unpickler):
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


class _Plain:
    """Turns what was read into plain values, each object once: a file can name one object a billion times."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}
        self.room = _MAX_BYTES

    def __call__(self, value: Any) -> Any:
        if isinstance(value, (bytes, bytearray)):
            return value.decode("latin-1")
        if not isinstance(value, (_Inert, dict, list, tuple, set, frozenset)):
            return value
        if id(value) not in self.made:
            self.made[id(value)] = self.made  # until it is known; the file's own objects stay alive meanwhile
            self.made[id(value)] = self._convert(value)
        made = self.made[id(value)]
        if made is self.made:
            raise AssetError("an object that holds itself is not understood")
        return made

    def _convert(self, value: Any) -> Any:
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
            return self._bytes(value).decode("latin-1")
        if isinstance(value, _Set):
            return [self(v) for v in (value.args[0] if value.args else ())]
        if isinstance(value, _Chumpy):
            return self._chumpy(value.state)
        if isinstance(value, (_ByRow, _ByColumn, _Triplets)):
            return self._dense(value)
        raise AssetError(f"a bare {type(value).__name__[1:].lower()} is not understood")

    def _make(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Zeros, if there is room for them."""
        if len(shape) > 8 or min(shape, default=0) < 0:
            raise AssetError(f"an array of shape {shape[:8]} is not understood")
        self.room -= max(8, math.prod(shape) * np.dtype(dtype).itemsize)
        if self.room < 0:
            raise MemoryError
        return np.zeros(shape, dtype)

    def _array(self, data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
        kind = self._dtype(dtype)
        shape = tuple(int(n) for n in shape) if isinstance(shape, (tuple, list)) else (int(shape),)
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
            return np.asarray(self(fields["x"]))
        if {"a", "idxs"} <= fields.keys():  # a Select: entries of another array
            source, index = (np.asarray(self(fields[k])) for k in ("a", "idxs"))
            picked = self._make((index.size,), source.dtype)
            picked[:] = source.ravel()[index.ravel()]
            shape = self(fields["preferred_shape"]) if "preferred_shape" in fields else index.shape
            return picked.reshape(tuple(int(n) for n in shape))
        raise AssetError(f"a chumpy object with the fields {str(sorted(map(str, fields)))[:120]!a} is not understood")

    def _dense(self, matrix: _Inert) -> np.ndarray:
        """A sparse matrix as a dense array (J_regressor is 24 x V)."""
        state = self(matrix.state)
        shape = tuple(int(n) for n in state.get("_shape", state.get("shape", ())))
        if len(shape) != 2:
            raise AssetError(f"a sparse matrix of shape {shape[:8]} is not understood")
        data = np.asarray(state["data"])
        if isinstance(matrix, _Triplets):
            places = state["coords"] if "coords" in state else (state["row"], state["col"])
            rows, cols = (np.asarray(place) for place in places)
        else:
            counts, minor = np.diff(np.asarray(state["indptr"], np.int64)), np.asarray(state["indices"])
            if counts.min(initial=0) < 0 or counts.sum() != len(data):
                raise AssetError("a sparse matrix is damaged")
            major = np.repeat(np.arange(len(counts)), counts)
            rows, cols = (major, minor) if isinstance(matrix, _ByRow) else (minor, major)
        if min(rows.min(initial=0), cols.min(initial=0)) < 0 or not len(rows) == len(cols) == len(data):
            raise AssetError("a sparse matrix is damaged")
        dense = self._make(shape, np.float64)
        np.add.at(dense, (rows, cols), data)
        return dense


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict of plain arrays, numbers and strings in a pickle.

    Raises `AssetError` with the file's name if it is no pickle of a dict or names anything outside the allow-list.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise AssetError(f"{path}: {path.stat().st_size >> 20} MiB is more than any body model; refused")
    try:
        value = _Plain()(_Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load())
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
