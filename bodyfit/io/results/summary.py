"""Numbers for other programs: JSON that every parser takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bodyfit.runtime.atomic import write_atomically
from bodyfit.runtime.file_names import as_path
from bodyfit.runtime.json_text import json_text

__all__ = ["known_entries", "write_json", "write_summary"]


def write_json(path: str | Path, payload: Any) -> None:
    """Write dicts, sequences, numbers, texts, arrays, tensors, enums and paths; NaN and infinity become null.

    Raises `OutputError`.
    """
    text = json_text(payload)
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_summary(out: str | Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Write OUT/summary.json and return it, with what earlier runs said of other folders under "earlier".

    Raises `OutputError`.
    """
    path = Path(out) / "summary.json"
    anew = {folder for entry in summary["inputs"] for folder in _folders(entry)}
    earlier = []
    for entry in known_entries(_read(path)):
        folders = _folders(entry)
        if folders and not folders & anew and all(as_path(folder, path.parent).is_dir() for folder in folders):
            earlier.append(entry)
    whole = {**summary, "earlier": earlier}
    write_json(path, whole)
    return whole


def known_entries(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a summary, this run's first; what is no entry is left out."""
    part = {"part": summary["part"]} if summary.get("part") else {}  # of the run's clips
    inputs, earlier = (summary.get(key) for key in ("inputs", "earlier"))
    now = [part | entry for entry in inputs if isinstance(entry, dict)] if isinstance(inputs, list) else []
    return now + ([entry for entry in earlier if isinstance(entry, dict)] if isinstance(earlier, list) else [])


def _folders(entry: Mapping[str, Any]) -> set[str]:
    """The folders of OUT that an entry's files are in."""
    people = entry.get("people") or []
    files = [*(entry.get("files") or []), *(name for person in people for name in person.get("files") or [])]
    return {Path(str(name)).parts[0] for name in files if len(Path(str(name)).parts) > 1}


def _read(path: Path) -> dict[str, Any]:
    """The summary that is there; empty where none can be read, for a new one takes its place."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}
