"""What `bodyfit fit` wrote, found again: the people of each picture and the photograph they were seen in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bodyfit.batch.ledger import DONE, recorded
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import FitResult

__all__ = ["Found", "find_people"]

_PERSON = re.compile(r"person(\d+)\.npz")


@dataclass(frozen=True)
class Found:
    """The results of one picture."""

    name: str
    """Of its folder."""
    files: tuple[tuple[int, Path], ...]
    """A person's number, and the npz."""
    photo: Path | None
    """Where the photograph should be; None if nothing says."""

    def people(self) -> list[tuple[int, FitResult]]:
        """Who was fitted, in order. Raises `AssetError`, also for a clip's track."""
        from bodyfit.fit.result import split
        from bodyfit.io import load_result

        people = []
        for number, path in self.files:
            batch = split(load_result(path))
            people += [(number + k, one) for k, one in enumerate(batch)]
        if len({one.camera.image_size for _, one in people}) > 1:
            sizes = ", ".join(f"{w}x{h}" for w, h in sorted({one.camera.image_size for _, one in people}))
            raise AssetError(f"{self.name}: its people were fitted in pictures of different sizes ({sizes})")
        return people


def find_people(inputs: Sequence[Path], photo: Path | None = None) -> list[Found]:
    """The pictures that results belong to, in the order they come.

    An input is a folder that `bodyfit fit` wrote to, one picture's folder in it, or npz files of people (those of one
    folder belong together). `photo` overrides what summary.json says: the photograph, or a folder with photographs of
    the results' names. Raises `OptionError` and `AssetError`.
    """
    from bodyfit.frame import IMAGE_SUFFIXES

    groups: dict[Path, dict[Path, int]] = {}
    for given in inputs:
        for path in _files(given):
            # A batch's file a.jpg.npz holds a picture; else its folder does.
            of_batch = Path(path.stem).suffix.lower() in IMAGE_SUFFIXES
            group = groups.setdefault(path.absolute().with_suffix("") if of_batch else path.parent.absolute(), {})
            number = _PERSON.fullmatch(path.name)
            group.setdefault(path, int(number[1]) if number else len(group))
    if photo is not None and not photo.exists():
        raise OptionError(f"--photo {photo}: no such file")
    if photo is not None and not photo.is_dir() and len(groups) > 1:
        raise OptionError(f"--photo names one photograph, the results are of {len(groups)}; give a folder of them")
    return [
        Found(
            name=folder.name or "results",
            files=tuple(sorted((number, path) for path, number in group.items())),
            photo=_named(photo, folder.name) if photo is not None else _by_summary(folder),
        )
        for folder, group in groups.items()
    ]


def _files(given: Path) -> list[Path]:
    if given.is_file():
        return [given]
    if entries := recorded(given):
        return [given / str(entry["file"]) for entry in entries if entry["status"] == DONE]
    if not given.exists():
        raise OptionError(f"{given}: no such file or folder; give what bodyfit fit wrote")
    for folders in ([given], sorted(p for p in given.iterdir() if p.is_dir())):
        found = [path for folder in folders for path in _people_in(folder)]
        if found:
            return found
    raise OptionError(f"{given}: no results in it (personN.npz); give a folder that bodyfit fit wrote to")


def _people_in(folder: Path) -> Iterator[Path]:
    numbered = [(int(m[1]), path) for path in folder.iterdir() if (m := _PERSON.fullmatch(path.name))]
    return (path for _, path in sorted(numbered))


def _named(photo: Path, name: str) -> Path | None:
    """The photograph itself, or the one of this name in a folder."""
    from bodyfit.frame import IMAGE_SUFFIXES

    if not photo.is_dir():
        return photo
    inside = (path for path in sorted(photo.iterdir()) if path.stem == name)
    return next((path for path in inside if path.suffix.lower() in IMAGE_SUFFIXES), None)


def _by_summary(folder: Path) -> Path | None:
    """What the summary beside the folder says the input was; a relative path is tried from here and from there."""
    from bodyfit.frame import IMAGE_SUFFIXES

    summary = folder.parent / "summary.json"
    if folder.suffix.lower() in IMAGE_SUFFIXES:
        return _by_record(folder)
    if not summary.is_file():
        return None
    try:
        read = json.loads(summary.read_text(encoding="utf-8"))
        for entry in [*read["inputs"], *read.get("earlier", [])]:
            files = [*entry["files"], *(name for person in entry["people"] for name in person["files"])]
            if any(Path(name).parts[0] == folder.name for name in files):
                photo = Path(entry["input"])
                beside = summary.parent / photo
                return photo if photo.exists() or not beside.exists() else beside
    except (OSError, ValueError, KeyError, TypeError, IndexError) as fault:
        raise AssetError(f"{summary}: not a summary of bodyfit fit ({fault}); give --photo") from None
    return None


def _by_record(result: Path) -> Path | None:
    """The picture of a batch's result (without its .npz), by the batch's record in a folder above."""
    file = str(result) + ".npz"
    return next((sources[file] for out in result.parents if file in (sources := _sources(out))), None)


@lru_cache(maxsize=8)
def _sources(out: Path) -> dict[str, Path]:
    """Pictures by the file of their people."""
    return {str(out / e["file"]): Path(str(e["item"])) for e in recorded(out) if e["status"] == DONE}
