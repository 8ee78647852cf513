"""Values as JSON that every parser takes: no NaN, no types of numpy, torch or Python's own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

from bodyfit.runtime.file_names import as_text

__all__ = ["json_text", "plain"]


def json_text(value: Any, *, digits: int | None = None, indent: int | None = 2, ascii_only: bool = False) -> str:
    """Write a value of dicts, sequences, numbers, texts, arrays, tensors, enums and paths as JSON.

    digits: significant ones of fractions; None keeps all. indent: spaces a level; None puts it into one line.
    ascii_only: escape all other characters. NaN and infinity become null. Raises `TypeError` for other types.
    """
    return json.dumps(plain(value, digits), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def plain(value: Any, digits: int | None = None) -> Any:
    """Turn a value into JSON's own types: dicts of texts, lists, numbers, texts, booleans and None.

    digits: significant ones of fractions; None keeps all. Other types stay as they are.
    """
    if isinstance(value, Enum):
        return plain(value.value, digits)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, digits) for item in value]
    if isinstance(value, str | PurePath):
        return as_text(str(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return float(value) if digits is None else float(f"{value:.{digits}g}")
    if hasattr(value, "tolist"):  # arrays and tensors, without importing either library
        return plain(value.tolist(), digits)
    return value
