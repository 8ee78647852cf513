"""Pictures to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from bodyfit.errors import OptionError, check_shape
from bodyfit.io.atomic import write_atomically

__all__ = ["save_picture"]

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


def save_picture(path: str | Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write an RGB picture as PNG or JPEG, as its suffix says. Raises `OptionError` or `OutputError`."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise OptionError(f"{path}: pictures are written as {', '.join(_FORMATS)}, got {path.suffix or 'no suffix'!r}")
    check_shape("image", image, (None, None, 3))
    kind = _FORMATS[path.suffix.lower()]
    # PNG's level 3 is twice as fast as the default 6 for a twentieth more bytes; JPEG keeps thin coloured lines crisp.
    options = {"compress_level": 3} if kind == "PNG" else {"quality": 92, "subsampling": 0}
    with write_atomically(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary, format=kind, **options)
