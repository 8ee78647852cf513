"""The folder that `bodyfit fit`, `bodyfit video` or `bodyfit batch` wrote, read back as scenes with people in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from bodyfit.batch.ledger import DONE, FAILED, recorded
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import FitResult, split
from bodyfit.io import known_entries, load_result, load_track
from bodyfit.io.params import read_arrays

__all__ = ["Failure", "Person", "Results", "Scene", "read_results"]

_PERSON = re.compile(r"person(\d+)\.npz")
_OVERLAYS = ("overlay.png", "overlay.jpg", "overlay.mp4")


@dataclass(frozen=True)
class Person:
    """One person of a scene: one row of a picture, as many rows as frames of a clip."""

    number: int
    """As in the file's name; it chooses the colour."""
    file: Path
    """personN.npz."""
    result: FitResult
    """The fit, batch T."""
    frames: Int[np.ndarray, "T"]
    """The frame of the clip that each row is, 0 in a picture."""
    seen: Bool[np.ndarray, "T"]
    """False where the motion fills a gap."""
    fps: float
    """Rows a second, 0 in a picture."""


@dataclass(frozen=True)
class Scene:
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


@dataclass(frozen=True)
class Failure:
    """An input or a file that gave no body."""

    name: str
    """The input."""
    message: str
    """Why."""


@dataclass(frozen=True)
class Results:
    """All of a folder."""

    folder: Path
    """Where it is."""
    scenes: tuple[Scene, ...]
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
    if entries := recorded(folder):
        return _batch(folder, entries)
    files = list(_person_files(folder))
    if not files:
        what = "no results of bodyfit in it (personN.npz)" if folder.exists() else "no such folder"
        raise OptionError(f"{folder}: {what}; give the folder that `bodyfit fit photo.jpg -o FOLDER` wrote")
    root = folder if folder.is_dir() else folder.parent
    here = root.absolute()  # of "." the parent is "."
    top = next((at for at in (here, here.parent, here.parent.parent) if (at / "summary.json").is_file()), here)
    summary = _summary(top)
    entries = known_entries(summary)
    scenes: list[Scene] = []
    failures: list[Failure] = []
    for at in sorted({file.parent for file in files}):
        read = [
            one for file in sorted((f for f in files if f.parent == at), key=_number) for one in _people(file, root)
        ]
        people = tuple(person for person in read if isinstance(person, Person))
        failures += [failure for failure in read if isinstance(failure, Failure)]
        if people:
            entry = next((e for e in entries if _names_file_in(at.absolute().relative_to(top).as_posix(), e)), {})
            scenes.append(_scene(at, people, entry, top))
    if not scenes:
        raise AssetError(failures[0].message if failures else f"{folder}: its files hold nobody")
    failures += [
        Failure(str(entry.get("input", "?")), str(entry.get("message") or entry.get("status")))
        for entry in (entries if top == here else ())
        if entry.get("status") not in ("ok", None)
    ]
    return Results(root, tuple(scenes), tuple(failures), summary)


def _batch(folder: Path, entries: list[dict[str, Any]]) -> Results:
    """What `bodyfit batch` wrote: a file of people a picture. Pictures without a person are left out."""
    scenes: list[Scene] = []
    failures = [Failure(str(e["item"]), str(e.get("why"))) for e in entries if e["status"] == FAILED]
    for entry in (entry for entry in entries if entry["status"] == DONE):
        read = _people(folder / str(entry.get("file")), folder)
        failures += [one for one in read if isinstance(one, Failure)]
        people = tuple(one for one in read if isinstance(one, Person) and one.result.status[0].ok)
        source = Path(str(entry["item"]))
        notes = () if source.is_file() else (f"{entry['item']} is not there any more",)
        if people:
            scenes.append(Scene(source.name, people, source if source.is_file() else None, None, notes))
    if not scenes:
        raise AssetError(failures[0].message if failures else f"{folder}: nobody was found in its pictures")
    return Results(folder, tuple(scenes), tuple(failures), {})


def _person_files(folder: Path) -> Iterator[Path]:
    if folder.is_file() and folder.suffix == ".npz":
        yield folder
    elif folder.is_dir():
        yield from (path for path in folder.rglob("person*.npz") if _PERSON.fullmatch(path.name))


def _number(file: Path) -> int:
    match = _PERSON.fullmatch(file.name)
    return int(match[1]) if match else 0


def _summary(root: Path) -> dict[str, Any]:
    path = root / "summary.json"
    if not path.is_file():
        return {}
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise AssetError(f"{path}: damaged or unreadable ({fault}); remove it, or fit again") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("inputs", []), list):
        raise AssetError(f"{path}: not a summary that bodyfit wrote; remove it, or fit again")
    return summary


def _names_file_in(folder: str, value: Any) -> bool:
    """Whether an entry of the summary names a file in a folder, anywhere in it."""
    if isinstance(value, str):
        return value.startswith(f"{folder}/")
    if isinstance(value, dict):
        return any(_names_file_in(folder, item) for key, item in value.items() if key != "input")
    return isinstance(value, list) and any(_names_file_in(folder, item) for item in value)


def _scene(folder: Path, people: tuple[Person, ...], entry: Mapping[str, Any], top: Path) -> Scene:
    notes = []
    source = Path(str(entry["input"])) if entry.get("input") else None
    if source is not None and not source.is_file() and (top / source).is_file():
        source = top / source
    if source is not None and not source.is_file():
        notes.append(f"{source} is not there any more")
        source = None
    listed = entry.get("people")
    notes += [
        f"person {person.get('person')} has no body ({person.get('status')})"
        for person in (listed if isinstance(listed, list) else ())
        if isinstance(person, dict) and not person.get("files")
    ]
    overlay = next((path for name in _OVERLAYS if (path := folder / name).is_file()), None)
    return Scene(folder.resolve().name, people, source, overlay, tuple(notes), entry)


def _people(file: Path, root: Path) -> list[Person | Failure]:
    """Whoever is in a file: a track's one person, or each of a batch, numbered on from the file's number."""
    number = _number(file)
    try:
        if "track_id" in read_arrays(file):
            track = load_track(file)
            return [Person(number, file, track.result, track.frames, track.seen, track.fps)]
        people = split(load_result(file))
    except AssetError as fault:
        return [Failure(str(file.relative_to(root)), str(fault))]
    still = np.zeros(1, np.int64), np.ones(1, bool)
    return [Person(number + k, file, one, *still, 0.0) for k, one in enumerate(people)]
