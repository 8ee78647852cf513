r"""Convert names of files to text and back.

On Unix a name is bytes; Python represents bytes that the locale cannot decode by lone surrogates, which UTF-8 files and
other programs reject. In files that bodyfit writes, and in messages, names are UTF-8 whatever the locale; a byte that
is not UTF-8 is escaped, as in `\xe9`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["as_path", "as_text"]

_ESCAPED = re.compile(rb"\\x([89a-f][0-9a-f])")


def as_text(name: str | Path) -> str:
    """Return a name, or any text with names in it, with surrogates escaped; other text is unchanged."""
    text = str(name)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # unpaired surrogates, as in some Windows names
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_path(text: str, folder: Path | None = None) -> Path:
    """Return the path of a file, relative to `folder`, from the text of `as_text`, under the current locale."""
    folder = Path() if folder is None else folder
    path = folder / _in_locale(text)
    raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text.encode("utf-8", "surrogateescape"))
    if b"\\x" in text.encode("utf-8", "surrogateescape") and not path.exists():
        other = folder / os.fsdecode(raw)
        return other if other.exists() else path
    return path


def _in_locale(text: str) -> str:
    """Convert text to a file name in the locale's encoding; characters outside it are encoded as UTF-8."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return os.fsdecode(text.encode("utf-8", "surrogateescape"))
    return text
