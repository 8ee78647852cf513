"""Check the dtypes and shapes that files declare."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from bodyfit.body.files.stand_ins import Dtype
from bodyfit.errors import AssetError

__all__ = ["dtype_of", "shape_of", "size_of"]

_MAX_LENGTH = 1 << 40
"""Longest axis of an array; larger numbers are invalid, and slow to multiply."""
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[SUa][1-9]\d{0,5}|O[48]?")


def dtype_of(value: Any) -> np.dtype:
    """Return the dtype of numbers, strings or objects. Raises `AssetError`, also for records, which are unsafe."""
    code = _word(value.args[0]) if isinstance(value, Dtype) and value.args else None
    state = value.state if isinstance(value, Dtype) and isinstance(value.state, tuple) else (3, "|", None, None, None)
    plain = code is not None and _DTYPE.fullmatch(code) and all(part is None for part in state[2:5])
    order = _word(state[1]) if plain and len(state) > 1 else None
    if not plain or order not in ("<", ">", "|", "="):
        raise AssetError(f"refused the dtype {str(code)[:40]!a}")
    dtype = np.dtype("O" if str(code).startswith("O") else code)
    return dtype.newbyteorder(order) if order in "<>" else dtype


def _word(value: Any) -> str | None:
    """Return text, decoded where Python 2 wrote bytes, or None."""
    value = value.decode("latin-1") if isinstance(value, bytes) else value
    return value if isinstance(value, str) else None


def shape_of(value: Any) -> tuple[int, ...]:
    """Return a shape of at most 8 small numbers. Raises `AssetError`."""
    axes = value if isinstance(value, (tuple, list)) else (value,)
    if len(axes) > 8 or not all(isinstance(n, (int, np.integer)) and 0 <= n < _MAX_LENGTH for n in axes):
        raise AssetError("an array whose shape is not a few numbers is not understood")
    return tuple(int(n) for n in axes)


def size_of(shape: tuple[int, ...]) -> int:
    """Return the number of entries of a shape."""
    return math.prod(shape)
