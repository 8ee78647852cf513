"""Write files atomically: a file is complete or absent."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bodyfit.errors import OutputError

__all__ = ["is_temporary", "write_atomically"]

_TEMPORARY = re.compile(r"\..{0,40}\.[0-9a-f]{12}(\.[^.]*)?", re.DOTALL)


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder (created if missing), renamed to `path` on success, removed on failure.

    The temporary name keeps the suffix, for writers that choose a format by it. Raises `OutputError`, naming `path`,
    for errors of the file system; other exceptions of the body pass through.
    """
    path = Path(path)
    # Not mkstemp, which creates files that only the user can read.
    temporary = path.with_name(f".{path.stem[:40]}.{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        _remove(temporary)


def is_temporary(name: str) -> bool:
    """Tell whether a name is of a temporary file that `write_atomically` left when its process was killed."""
    return _TEMPORARY.fullmatch(name) is not None


def _remove(path: Path) -> None:
    """Remove a file if it exists, ignoring errors: an exception already under way says more."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
