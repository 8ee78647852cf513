"""The folder that `bodyfit fit`, `bodyfit video` or `bodyfit batch` wrote, read back as scenes with people in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bodyfit.app.batch.status_log import FAILED, recorded
from bodyfit.app.results.find import Failure, Found, Person, find_results, read_summary
from bodyfit.errors import AssetError
from bodyfit.io import known_entries

__all__ = ["ResultScene", "Results", "read_results"]

_OVERLAYS = ("overlay.png", "overlay.jpg", "overlay.mp4")


@dataclass(frozen=True)
class ResultScene:
    """A picture or a clip and its people."""

    name: str
    """The folder's."""
    people: tuple[Person, ...]
    """By number, none without a body."""
    source: Path | None
    """The photograph or clip, if the summary names it and it is still there."""
    overlay: Path | None
    """The overlay picture or film."""
    notes: tuple[str, ...] = ()
    """What went wrong with some of it."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """Its entry in summary.json; empty where it has none."""

    @property
    def fps(self) -> float:
        """Of the clip, 0 of a picture."""
        return max(person.fps for person in self.people)

    @property
    def frames_fps(self) -> float | None:
        """The rate that was given of a clip that has none of its own, such as a folder of frames."""
        return (self.said.get("part") or {}).get("fps")


@dataclass(frozen=True)
class Results:
    """All of a folder."""

    folder: Path
    """Where it is."""
    scenes: tuple[ResultScene, ...]
    """By folder, each with a person."""
    failures: tuple[Failure, ...]
    """The rest."""
    summary: Mapping[str, Any]
    """summary.json, empty where there is none."""


def read_results(folder: str | Path) -> Results:
    """The results below a folder (or of one personN.npz), by their files; summary.json adds what it knows.

    A file that is damaged is a `Failure` and costs nothing else. Raises `OptionError` where there are no results, and
    `AssetError` where none of them can be read or summary.json is damaged.
    """
    folder = Path(folder)
    root = folder if folder.is_dir() else folder.parent
    scenes: list[ResultScene] = []
    failures: list[Failure] = []
    for found in find_results([folder]):
        read = found.people()
        failures += [_within(root, failure) for failure in read if isinstance(failure, Failure)]
        people = tuple(one for one in read if isinstance(one, Person))
        if people:
            scenes.append(_scene(found, people))
    here = root.absolute()  # of "." the parent is "."
    top = next((at for at in (here, *here.parents[:2]) if (at / "summary.json").is_file()), here)
    summary = read_summary(top)
    failures += [
        Failure(str(entry.get("input", "?")), str(entry.get("message") or entry.get("status")))
        for entry in (known_entries(summary) if top == here else ())
        if entry.get("status") not in ("ok", None) and not (entry.get("status") == "poor" and entry.get("files"))
    ]
    entries = recorded(folder) if folder.is_dir() else []
    failures += [Failure(str(e["item"]), str(e.get("why"))) for e in entries if e["status"] == FAILED]
    if not scenes:
        raise AssetError(failures[0].message if failures else f"{folder}: its files hold nobody")
    return Results(root, tuple(scenes), tuple(failures), summary)


def _within(root: Path, failure: Failure) -> Failure:
    """Of a file below the root."""
    return Failure(str(Path(failure.name).relative_to(root)), failure.message)


def _scene(found: Found, people: tuple[Person, ...]) -> ResultScene:
    source, notes = found.source, []
    if source is not None and not (source.is_file() or (source.is_dir() and people[0].fps > 0)):  # a folder of frames
        notes.append(f"{source} is not there any more")
        source = None
    listed = found.said.get("people")
    notes += [
        f"person {person.get('person')} has no body ({person.get('reason') or person.get('status')})"
        for person in (listed if isinstance(listed, list) else ())
        if isinstance(person, dict) and not person.get("files")
    ]
    folder = found.files[0].parent
    overlay = next((path for name in _OVERLAYS if (path := folder / name).is_file()), None)
    return ResultScene(found.name, people, source, overlay, tuple(notes), found.said)
