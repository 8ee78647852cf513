r"""Names of files as text, and back: on Unix a name is bytes, and Python holds those that the locale cannot decode as
lone surrogates, which no UTF-8 file and no other program takes.

In files that bodyfit writes, and in messages, a name is UTF-8 whatever the locale; a byte that is none is `\xe9`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["as_path", "as_text"]

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def as_text(name: str | Path) -> str:
    """A name, or any text with names in it, without surrogates; text that has none stays as it is."""
    text = str(name)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, as Windows' names may hold
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_path(text: str, folder: Path | None = None) -> Path:
    """The file, below `folder` or not, that `as_text` has named, under the locale of now."""
    folder = Path() if folder is None else folder
    path = folder / _in_locale(text)
    raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text.encode("utf-8", "surrogateescape"))
    if b"\\x" in text.encode("utf-8", "surrogateescape") and not path.exists():
        other = folder / os.fsdecode(raw)
        return other if other.exists() else path
    return path


def _in_locale(text: str) -> str:
    """The text as Python would hold a file's name; what the locale has no bytes for is taken as UTF-8."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return text
