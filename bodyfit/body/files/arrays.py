"""Access the arrays of one file by key, checking each; errors name the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bodyfit.body.files.archive import UnreadObjects
from bodyfit.body.files.safe_pickle import as_array
from bodyfit.errors import AssetError

__all__ = ["FileArrays"]

_MAX_SIZE = 1 << 26
"""Most numbers in one array (512 MiB); the largest in use, SMPL-X's posedirs, has 15 million."""


@dataclass(frozen=True)
class FileArrays:
    """The values of a file, by key."""

    path: Path
    """The file."""
    values: Mapping[str, Any]
    """The values as read, not yet checked."""
    where: str = ""
    """The part of the file that they come from, for errors: "person 3"."""

    def has(self, *keys: Any) -> bool:
        """Tell whether all keys are present and their values were read."""
        return all(key in self.values and not isinstance(self.values[key], UnreadObjects) for key in keys)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of an array; () where the key is missing."""
        return self._array(key).shape if key in self.values else ()

    def fail(self, message: str) -> NoReturn:
        """Raise `AssetError` with the file's name."""
        raise AssetError(f"{self.path}: {self.where}{': ' if self.where else ''}{message}")

    def numbers(
        self, key: str, shape: tuple[int | None, ...], layout: str = "", *, as_filed: bool = False
    ) -> np.ndarray:
        """Return an array of finite numbers as float64, or with `as_filed` in the file's floating type.

        None in `shape` matches any length; `layout` names in errors what requires the shape. Raises `AssetError`.
        """
        array = self._array(key)
        if array.dtype.kind in "US":
            self.fail(f"{key} is not numeric")
        fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
        if not fits:
            want = str(shape).replace("None", "*")
            self.fail(f"{key} has shape {array.shape}, expected {want}{' for ' + layout if layout else ''}")
        if array.size > _MAX_SIZE:
            self.fail(f"{key} has shape {array.shape}, more numbers than any body model needs; refused")
        if not (as_filed and array.dtype.str in (np.dtype(np.float32).str, np.dtype(np.float64).str)):
            try:
                with np.errstate(invalid="ignore", over="ignore"):
                    array = array.astype(np.float64)
            except (TypeError, ValueError, OverflowError):
                self.fail(f"{key} is not numeric")
        if not np.isfinite(array).all():
            self.fail(f"{key} holds NaN or infinity; fetch the file again, or write it anew")
        return np.ascontiguousarray(array)

    def indices(self, key: str, shape: tuple[int | None, ...], below: int, of: str) -> np.ndarray:
        """Return int64 integers from 0 to below - 1; `of` names what they index. Raises `AssetError`."""
        array = self.numbers(key, shape)
        if array.size == 0 or (array != np.rint(array)).any() or array.min() < 0 or array.max() >= below:
            self.fail(f"{key} must name {of} 0 to {below - 1}")
        return array.astype(np.int64)

    def text(self, key: str) -> str | None:
        """Return a string, or None where there is none."""
        value = self.values.get(key)
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(-1)[0]
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        return str(value).strip() if isinstance(value, str) else None

    def words(self, key: str) -> list[str]:
        """Return a list of strings, empty where there is none. Raises `AssetError`."""
        array = self._array(key) if self.has(key) else np.zeros(0, str)
        if array.ndim > 1 or array.dtype.kind not in "US":
            self.fail(f"{key} must be a list of words")
        return [str(word) for word in array.reshape(-1).astype(str)]

    def _array(self, key: str) -> np.ndarray:
        """Return the value of a key as an array of any type. Raises `AssetError`."""
        value = self.values[key]
        if isinstance(value, UnreadObjects):
            self.fail(
                f"{key} is an array of Python objects, which an npz holds as a pickle and bodyfit does not run; "
                "write it as numbers"
            )
        try:
            array = as_array(value)
        except MemoryError:
            self.fail(f"{key} holds more numbers than any body model needs; refused")
        except (AssetError, TypeError, ValueError, OverflowError):
            self.fail(f"{key} is not numeric")
        if array.dtype.kind not in "biufOUS":
            self.fail(f"{key} is not numeric")
        return array
