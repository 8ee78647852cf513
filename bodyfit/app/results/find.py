"""Results found by their files in what `bodyfit fit`, `bodyfit video` and `bodyfit batch` wrote; opened when asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from bodyfit.app.batch.status_log import WITH_FILE, recorded
from bodyfit.body.files.archive import array_names
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import FitResult, split
from bodyfit.images.frame import IMAGE_SUFFIXES
from bodyfit.io import known_entries
from bodyfit.io.results.params import read_arrays, result_from
from bodyfit.io.results.track import track_from
from bodyfit.runtime.file_names import as_path, as_text

__all__ = ["Failure", "Person", "ResultFiles", "find_results", "read_summary"]

_PERSON = re.compile(r"person(\d+)\.npz")


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
    """Rows a second, on average; 0 in a picture."""


@dataclass(frozen=True)
class Failure:
    """An input or a file that gave no body."""

    name: str
    """The input."""
    message: str
    """Why."""


@dataclass(frozen=True)
class ResultFiles:
    """The files of the people of one picture or clip."""

    name: str
    """Name of the folder, or of the picture in a batch."""
    files: tuple[Path, ...]
    """Files of people, ordered by number."""
    source: Path | None
    """Path of the photograph or clip; None where unknown."""
    entry: Mapping[str, Any]
    """The entry in summary.json or status.jsonl; empty where there is none."""

    @cached_property
    def is_clip(self) -> bool:
        """Whether the first file holds a track. Raises `AssetError`."""
        return "track_id" in (array_names(self.files[0]) or read_arrays(self.files[0]))

    def people(self) -> list[Person | Failure]:
        """Load the people in the files, numbered as these, or consecutively for a batch."""
        numbers = [_PERSON.fullmatch(file.name) for file in self.files]
        return [
            person
            for i, (file, number) in enumerate(zip(self.files, numbers, strict=True))
            for person in _people(file, int(number[1]) if number else i)
        ]


def find_results(inputs: Sequence[Path], source: Path | None = None) -> list[ResultFiles]:
    """Find pictures and clips with results, in order of the inputs, in folders in order of name.

    An input is a folder that bodyfit wrote to, anything below it, or npz files of people (those of one folder belong
    together). `source` goes before what summary.json says: the photograph or clip, or a folder with those of the
    results' names. Raises `OptionError` where nothing is found and `AssetError` for a record that is damaged.
    """
    records = _Records()
    groups: dict[Path, list[Path]] = {}
    for path in inputs:
        for file in _files(path, records):
            # A batch's file a.jpg.npz holds a picture; else its folder does.
            alone = records.is_batch(file)
            group = groups.setdefault(file.absolute().with_suffix("") if alone else file.parent.absolute(), [])
            group += [] if file in group else [file]
    if source is not None and not source.exists():
        raise OptionError(f"source='{source}': no such file")
    if source is not None and not source.is_dir() and len(groups) > 1:
        raise OptionError(f"source='{source}' is one photograph, the results are of {len(groups)}; give a folder")
    results = []
    for place, files in groups.items():
        first = files[0]
        in_batch = records.is_batch(first)
        recorded, entry = records.of_batch(first) if in_batch else records.of_folder(place, needed=source is None)
        origin = recorded if source is None else _named(source, place.name)
        name = place.resolve().name or "results"
        results.append(ResultFiles(name, tuple(sorted(files, key=_number)), origin, entry))
    return results


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a folder, empty where there is none. Raises `AssetError`."""
    path = folder / "summary.json"
    if not path.is_file():
        return {}
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise AssetError(f"{path}: damaged or unreadable ({fault}); remove it, or fit again") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("inputs", []), list):
        raise AssetError(f"{path}: not a summary that bodyfit wrote; remove it, or fit again")
    return summary


class _Records:
    """What summaries and batches say of the results in their folders, each read once."""

    def __init__(self) -> None:
        self._summaries: dict[Path, dict[str, dict[str, Any]]] = {}
        self._batches: dict[Path, dict[Path, dict[str, Any]] | None] = {}

    def of_folder(self, place: Path, needed: bool) -> tuple[Path | None, Mapping[str, Any]]:
        """The source of the results in a folder, and their entry in the nearest summary above that names them.

        A damaged summary is a fault only where it is `needed`.
        """
        for top in (place, *place.parents[:2]):
            try:
                entry = self._summary(top).get(as_text(place.relative_to(top).as_posix()))
            except AssetError:
                if needed:
                    raise
                continue
            if entry is not None:
                name = str(entry.get("input") or "")
                places = [as_path(name), as_path(name, top)] if name else []
                return next((path for path in places if path.exists()), *places[:1] or [None]), entry
        return None, {}

    def is_batch(self, file: Path) -> bool:
        """Whether a file is a batch's result of one picture: by its name, or by the batch's record."""
        if Path(file.stem).suffix.lower() in IMAGE_SUFFIXES:
            return True
        return not _PERSON.fullmatch(file.name) and bool(self.of_batch(file)[1])

    def of_batch(self, file: Path) -> tuple[Path | None, Mapping[str, Any]]:
        """The picture of a batch's result, by the batch's record in a folder above."""
        file = file.absolute()
        entry = next((entry for out in file.parents if (entry := (self.batch(out) or {}).get(file))), {})
        return (as_path(str(entry["item"])) if entry else None), entry

    def batch(self, out: Path) -> dict[Path, dict[str, Any]] | None:
        """Entries of a batch with people by their files; None where there is no batch."""
        out = out.absolute()
        if out not in self._batches:
            entries = recorded(out)
            done = {as_path(str(entry.get("file")), out): entry for entry in entries if entry["status"] in WITH_FILE}
            self._batches[out] = done if entries else None
        return self._batches[out]

    def _summary(self, top: Path) -> dict[str, dict[str, Any]]:
        """Entries by the folders of their files, seen from the summary's."""
        if top not in self._summaries:
            entries = self._summaries[top] = {}
            for entry in known_entries(read_summary(top)):
                for name in _names(entry):
                    entries.setdefault(PurePosixPath(name).parent.as_posix(), entry)
        return self._summaries[top]


def _names(entry: Mapping[str, Any]) -> Iterator[str]:
    """The files that an entry of a summary names."""
    people = entry.get("people")
    for holder in (entry, *(people if isinstance(people, list) else ())):
        files = holder.get("files") if isinstance(holder, dict) else None
        yield from (name for name in (files if isinstance(files, list) else ()) if isinstance(name, str))


def _files(path: Path, records: _Records) -> Iterator[Path]:
    """Yield the files of people at a path. Raises `OptionError`."""
    if not path.exists():
        raise OptionError(f"{path}: no such folder or file; give a folder that bodyfit fit or bodyfit video wrote")
    if path.is_file():
        files = [path] if path.suffix == ".npz" else []
    elif (recorded := records.batch(path)) is not None:
        files = [path / file.relative_to(path.absolute()) for file in recorded]
        if not files:
            raise OptionError(f"{path}: nobody in its pictures has a body")
    else:
        people = [file for file in path.rglob("person*.npz") if _PERSON.fullmatch(file.name) and file.is_file()]
        files = sorted(people, key=lambda file: (file.parent, _number(file)))
    if not files:
        raise OptionError(
            f"{path}: no results of bodyfit in it (personN.npz); give the folder that "
            "bodyfit fit or bodyfit video wrote"
        )
    yield from files


def _number(file: Path) -> int:
    match = _PERSON.fullmatch(file.name)
    return int(match[1]) if match else 0


def _named(source: Path, name: str) -> Path | None:
    """The photograph itself, or the one of this name in a folder; a picture before a clip."""
    if not source.is_dir() or source.resolve().name == name:  # a folder of frames is a clip
        return source
    inside = [path for path in sorted(source.iterdir()) if name in (path.stem, path.name) and path.is_file()]
    return min(inside, key=lambda path: path.suffix.lower() not in IMAGE_SUFFIXES, default=None)


def _people(file: Path, number: int) -> list[Person | Failure]:
    """A track's one person, or each of a batch, numbered on."""
    try:
        arrays = read_arrays(file)
        if "track_id" in arrays:
            track = track_from(file, arrays)
            seconds = float(track.times_s[-1] - track.times_s[0])
            fps = (len(track) - 1) / seconds if seconds > 0 and not track.even else track.fps
            return [Person(number, file, track.result, track.frames, track.seen, fps)]
        people = split(result_from(file, arrays))
    except AssetError as fault:
        return [Failure(str(file), str(fault))]
    still = np.zeros(1, np.int64), np.ones(1, bool)
    return [Person(number + k, file, one, *still, 0.0) for k, one in enumerate(people)]
