"""README and docs as tests read them: their code, commands, options and names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PAGES", "ROOT", "commands", "python", "spans"]

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def python(page: Path) -> list[str]:
    """The Python blocks of a page."""
    return [code for language, code in _FENCE.findall(page.read_text(encoding="utf-8")) if language == "python"]


def spans(page: Path) -> list[str]:
    """What stands between single backticks in the text of a page, line breaks as spaces."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The words of each command that begins with `program`, in blocks and in the text of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = [code for language, code in _FENCE.findall(text) if language != "python"]
    indented = re.findall(r"^    (\S.*)$", _FENCE.sub("", text), re.MULTILINE)
    lines = "\n".join([*blocks, *indented]).replace("\\\n", " ").splitlines()
    for line in [*lines, *spans(page)]:
        for part in line.split("&&"):
            if part.strip().startswith(f"{program} "):
                yield shlex.split(part, comments=True)
