"""Reads the pickles that body models and priors come in without running anything from the file.

A pickle is a program. This reader lets it build numbers, strings, containers and numpy arrays; chumpy and scipy.sparse
objects become plain arrays without either library; every other name in the file is refused.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.errors import AssetError

__all__ = ["read_pickle"]

_MAX_BYTES = 2 << 30


class _Inert:
    """Stands for a chumpy or scipy object: keeps the state that the pickle sets and does nothing with it."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Chumpy(_Inert):
    pass


class _Sparse(_Inert):
    pass


def _array_from_bytes(buffer: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """numpy.core.numeric._frombuffer, the reconstruction that protocol 5 uses."""
    return np.frombuffer(buffer, dtype=_plain_dtype(dtype)).reshape(shape, order=order)  # type: ignore[call-overload]


def _plain_dtype(*args: Any) -> np.dtype:
    dtype = np.dtype(*args)
    if dtype.hasobject and args[0] not in ("O8", "O4", "O"):
        raise pickle.UnpicklingError(f"refused the dtype {dtype}")
    return dtype


def _encode(text: str, encoding: str) -> bytes:
    """_codecs.encode, by which Python 2's byte strings arrive; latin-1 only."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"refused the codec {encoding}")
    return text.encode("latin-1")


def _reconstruct(_kind: Any, _shape: Any, _code: Any) -> np.ndarray:
    """An empty array that the pickle's next step fills by `ndarray.__setstate__`."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    return np.frombuffer(data, dtype=dtype, count=1)[0]


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _plain_dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): dict,
    ("copyreg", "_reconstructor"): lambda cls, _base, _state: cls() if issubclass(cls, _Inert) else None,
    ("copy_reg", "_reconstructor"): lambda cls, _base, _state: cls() if issubclass(cls, _Inert) else None,
    ("builtins", "object"): object,
    ("__builtin__", "object"): object,
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _array_from_bytes


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        found = _ALLOWED.get((module, name))
        if found is not None:
            return found
        if module == "chumpy" or module.startswith("chumpy."):
            return _Chumpy
        if module.startswith("scipy.sparse") and name.rstrip("_matrixy").startswith(("cs", "coo")):
            return _Sparse
        raise pickle.UnpicklingError(f"refused the name {module}.{name}")


def _plain(value: Any) -> Any:
    """The value with inert objects turned into arrays."""
    if isinstance(value, _Chumpy):
        state = getattr(value, "state", {})
        if isinstance(state, dict) and "x" in state:
            return np.asarray(_plain(state["x"]))
        if isinstance(state, dict) and {"a", "idxs"} <= state.keys():  # a chumpy Select: entries of another array
            picked = np.asarray(_plain(state["a"])).ravel()[np.asarray(state["idxs"])]
            return picked.reshape(state.get("preferred_shape", picked.shape))
        raise AssetError(f"a chumpy object with the fields {sorted(state)} is not understood")
    if isinstance(value, _Sparse):
        return _dense(value.state)
    if isinstance(value, dict):
        return {_text(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    return _text(value)


def _dense(state: dict[str, Any]) -> np.ndarray:
    """A sparse matrix's state as a dense array (J_regressor is 24 x V)."""
    shape = tuple(int(n) for n in state.get("_shape", state.get("shape", ())))
    if len(shape) != 2 or not 0 < shape[0] * shape[1] <= 1 << 27:
        raise AssetError(f"a sparse matrix of shape {shape} is not understood")
    dense = np.zeros(shape)
    data = np.asarray(state["data"])
    if "row" in state:
        rows, cols = np.asarray(state["row"]), np.asarray(state["col"])
    else:
        major = np.repeat(np.arange(len(state["indptr"]) - 1), np.diff(state["indptr"]))
        minor = np.asarray(state["indices"])
        by_row = len(state["indptr"]) == shape[0] + 1
        rows, cols = (major, minor) if by_row else (minor, major)
    np.add.at(dense, (rows, cols), data)
    return dense


def _text(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict of plain arrays, numbers and strings in a pickle.

    Raises `AssetError` with the file's name if it is no pickle of a dict or names anything outside the allow-list.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise AssetError(f"{path}: {path.stat().st_size >> 20} MiB is more than any body model; refused")
    try:
        value = _plain(_Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load())
    except AssetError as error:
        raise AssetError(f"{path}: {error}") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise AssetError(f"{path}: not a pickle that can be read safely: {error}") from None
    except (MemoryError, OverflowError, RecursionError) as error:
        raise AssetError(f"{path}: refused, it asks for too much: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise AssetError(f"{path}: expected a pickled dict, found {type(value).__name__}")
    return value
