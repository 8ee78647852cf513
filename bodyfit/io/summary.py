"""Numbers for other programs: JSON that every parser takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bodyfit.io.atomic import write_atomically

__all__ = ["write_json"]


def write_json(path: str | Path, payload: Any) -> None:
    """Write dicts, sequences, numbers, texts, arrays, tensors, enums and paths; NaN and infinity become null.

    Raises `OutputError`.
    """
    text = json.dumps(_plain(payload), indent=2, ensure_ascii=False, allow_nan=False)
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, Tensor):
        return _plain(value.detach().cpu().tolist())
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
