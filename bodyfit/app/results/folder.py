"""The folder that `bodyfit fit`, `bodyfit video` or `bodyfit batch` wrote, read back as scenes with people in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bodyfit.app.batch.status_log import FAILED, recorded
from bodyfit.app.results.find import Failure, Person, ResultFiles, find_results, read_summary
from bodyfit.errors import AssetError
from bodyfit.io import known_entries

__all__ = ["ResultScene", "Results", "read_results"]

_OVERLAYS = ("overlay.png", "overlay.jpg", "overlay.mp4")


@dataclass(frozen=True)
class ResultScene:
    """The results of a picture or a clip."""

    name: str
    """Name of its folder."""
    people: tuple[Person, ...]
    """People with a body, ordered by number."""
    source: Path | None
    """The photograph or clip, if the summary names it and it is still there."""
    overlay: Path | None
    """The overlay picture or film."""
    notes: tuple[str, ...] = ()
    """Sentences on problems."""
    entry: Mapping[str, Any] = field(default_factory=dict)
    """The entry in summary.json; empty where there is none."""

    @property
    def fps(self) -> float:
        """Frame rate of a clip, 0 for a picture."""
        return max(person.fps for person in self.people)

    @property
    def frames_fps(self) -> float | None:
        """The frame rate that the user gave for a clip without one, such as a folder of frames."""
        return (self.entry.get("part") or {}).get("fps")


@dataclass(frozen=True)
class Results:
    """The results in a folder."""

    folder: Path
    """The folder."""
    scenes: tuple[ResultScene, ...]
    """Results with at least one body, by folder."""
    failures: tuple[Failure, ...]
    """Inputs and files without a body."""
    summary: Mapping[str, Any]
    """summary.json, empty where there is none."""


def read_results(folder: str | Path) -> Results:
    """Read the results in a folder (or of one personN.npz) from their files, with details from summary.json.

    A file that is damaged is a `Failure` and costs nothing else. Raises `OptionError` where there are no results, and
    `AssetError` where none of them can be read or summary.json is damaged.
    """
    folder = Path(folder)
    root = folder if folder.is_dir() else folder.parent
    scenes: list[ResultScene] = []
    failures: list[Failure] = []
    for files in find_results([folder]):
        loaded = files.people()
        failures += [_within(root, failure) for failure in loaded if isinstance(failure, Failure)]
        people = tuple(one for one in loaded if isinstance(one, Person))
        if people:
            scenes.append(_scene(files, people))
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
    """Name the file of a failure relative to the root."""
    return Failure(str(Path(failure.name).relative_to(root)), failure.message)


def _scene(files: ResultFiles, people: tuple[Person, ...]) -> ResultScene:
    """Collect source, overlay and notes of a result."""
    source, notes = files.source, []
    if source is not None and not (source.is_file() or (source.is_dir() and people[0].fps > 0)):  # a folder of frames
        notes.append(f"{source} is not there any more")
        source = None
    listed = files.entry.get("people")
    notes += [
        f"person {person.get('person')} has no body ({person.get('reason') or person.get('status')})"
        for person in (listed if isinstance(listed, list) else ())
        if isinstance(person, dict) and not person.get("files")
    ]
    folder = files.files[0].parent
    overlay = next((path for name in _OVERLAYS if (path := folder / name).is_file()), None)
    return ResultScene(files.name, people, source, overlay, tuple(notes), files.entry)
