"""Inert stand-ins for the classes and functions that a pickle may name.

A pickle is a program that calls what it names. Here every allowed name is replaced by a record that stores its
arguments and does nothing; every other name is refused. After the program has ended, our own code interprets the
records (`plain`).
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = [
    "Array",
    "Buffer",
    "ByColumn",
    "ByRow",
    "Bytes",
    "Chumpy",
    "Dtype",
    "FileArray",
    "FiledArray",
    "Inert",
    "Ordered",
    "Parameter",
    "Scalar",
    "Set",
    "StorageBytes",
    "StorageType",
    "StoredNumbers",
    "Tensor",
    "Text",
    "Triplets",
    "ZippedFileArray",
    "key_of",
    "stand_in",
]


class Inert:
    """Stands for an object of the file: stores its arguments and the state that the pickle sets."""

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> Inert:
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


# numpy, chumpy, scipy.sparse.


class Ndarray(Inert): ...


class Array(Inert): ...


class Buffer(Inert): ...


class Scalar(Inert): ...


class Dtype(Inert): ...


class Bytes(Inert): ...


class Set(Inert): ...


class Object(Inert): ...


class Chumpy(Inert): ...


class ByRow(Inert): ...


class ByColumn(Inert): ...


class Triplets(Inert): ...


class Text(Inert):
    """A path or a device, whose arguments are the parts of its text."""


# joblib.


class FiledArray(Inert):
    """An array whose numbers follow the pickle's opcode that sets its state (joblib from 0.10 on)."""

    place: tuple[int, int] | None = None
    """Offset and size of the numbers, in bytes."""
    objects: Any = None
    """The content of an array of objects, from a pickle of its own."""


class FileArray(Inert):
    """An array in an .npy file of its own beside the pickle (joblib before 0.10)."""


class ZippedFileArray(Inert):
    """An array whose numbers are in a compressed file of their own beside the pickle (joblib before 0.10)."""


# torch.


class Tensor(Inert): ...


class Parameter(Inert): ...


class StorageBytes(Inert):
    """A tensor's numbers as the bytes of a file in torch's old format."""


class StorageType(Inert):
    """A numeric type; one subclass for each."""

    code = ""
    """numpy's type code, or "bf16", which numpy lacks."""


class StoredNumbers(Inert):
    """The numbers that a persistent id refers to; args are the type code and the key."""


class Ordered(dict):
    """Stands for collections.OrderedDict and dict, with checked keys."""

    __slots__ = ()

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__((key_of(k), v) for k, v in (pairs.items() if isinstance(pairs, dict) else pairs))

    def __setstate__(self, state: Any) -> None:
        if state:
            raise pickle.UnpicklingError("refused an OrderedDict with attributes")


class Default(Ordered):
    """Stands for collections.defaultdict; its factory is never called."""

    __slots__ = ()

    def __init__(self, factory: Any = None, pairs: Any = ()) -> None:
        super().__init__(pairs)


class Rebuilt(Inert):
    """Stands for copyreg._reconstructor, by which protocols 0 and 1 make an empty object of a class."""

    def __new__(cls, kind: Any = None, *_: Any) -> Inert:
        if isinstance(kind, type) and issubclass(kind, Inert) and kind is not cls:
            return kind()
        raise pickle.UnpicklingError("refused an object of a class that is not allowed")


def key_of(value: Any) -> Any:
    """Return a key of a dict or member of a set if its type is safe to hash: nested tuples could take years.

    Raises UnpicklingError.
    """
    if not (value is None or isinstance(value, (str, bytes, int, float, Scalar))):
        raise pickle.UnpicklingError(f"refused a key of type {type(value).__name__.lstrip('_').lower()}")
    return value


_ALLOWED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): Ndarray,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): Bytes,
    ("collections", "OrderedDict"): Ordered,
    ("collections", "defaultdict"): Default,
    ("copyreg", "_reconstructor"): Rebuilt,
    ("copy_reg", "_reconstructor"): Rebuilt,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): FiledArray,
    ("torch._utils", "_rebuild_tensor"): Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): Tensor,
    ("torch._utils", "_rebuild_parameter"): Parameter,
    ("torch.storage", "_load_from_bytes"): StorageBytes,
    ("torch", "Size"): Set,
    ("torch", "device"): Text,
}
for _module in ("builtins", "__builtin__"):
    _ALLOWED |= {(_module, "object"): Object, (_module, "set"): Set, (_module, "bytes"): Bytes}
    _ALLOWED |= {(_module, "dict"): Ordered, (_module, "list"): Set}
for _module in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_module}.multiarray", "_reconstruct"] = Array
    _ALLOWED[f"{_module}.multiarray", "scalar"] = Scalar
    _ALLOWED[f"{_module}.numeric", "_frombuffer"] = Buffer
for _module in ("joblib.numpy_pickle", "joblib.numpy_pickle_compat", "sklearn.externals.joblib.numpy_pickle"):
    _ALLOWED |= {(_module, "NDArrayWrapper"): FileArray, (_module, "ZNDArrayWrapper"): ZippedFileArray}
for _name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
    _ALLOWED |= {("pathlib", _name): Text, ("pathlib._local", _name): Text}
_CODES = {"Double": "f8", "Float": "f4", "Half": "f2", "BFloat16": "bf16", "Long": "i8", "Int": "i4", "Short": "i2"}
_CODES |= {"Char": "i1", "Byte": "u1", "Bool": "b1"}
_TORCH_TYPES = {"float64": "f8", "float32": "f4", "float16": "f2", "bfloat16": "bf16", "int64": "i8", "int32": "i4"}
_TORCH_TYPES |= {"int16": "i2", "int8": "i1", "uint8": "u1", "bool": "b1"}
for _name, _code in [*((f"{name}Storage", code) for name, code in _CODES.items()), *_TORCH_TYPES.items()]:
    _ALLOWED["torch", _name] = type(f"{StorageType.__name__}_{_code}", (StorageType,), {"code": _code})
_SPARSE = {"csr": ByRow, "csc": ByColumn, "coo": Triplets}


def stand_in(module: str, name: str) -> type:
    """Return the stand-in for a class or function. Raises UnpicklingError for names outside the allow-list."""
    allowed = _ALLOWED.get((module, name))
    if allowed is not None:
        return allowed
    if module == "chumpy" or module.startswith("chumpy."):
        return Chumpy
    kind, _, form = name.partition("_")
    if module.split(".")[:2] == ["scipy", "sparse"] and form in ("matrix", "array") and kind in _SPARSE:
        return _SPARSE[kind]
    raise pickle.UnpicklingError(f"refused the name {ascii(f'{module}.{name}'[:120])[1:-1]}")
