"""Find the annotated people of a data set in the folder that a user has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bodyfit.body.files.archive import read_archive
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.benchmarks.protocols import PROTOCOLS
from bodyfit.evaluate.benchmarks.rich import read_rich
from bodyfit.evaluate.datasets import read_3dpw, read_agora, read_emdb, read_h36m
from bodyfit.evaluate.sequence import Models, Sequence

__all__ = ["Shot", "shots"]

_FRONTAL = "60457274"
_PICTURE_FOLDERS = ("", "images", "test", "validation", "mpi_inf_3dhp_test_set")


@dataclass(frozen=True)
class Shot:
    """The annotated people of one clip, or of one set of pictures, who share its pictures."""

    name: str
    """A name that is a path below the data set's: no two shots share it."""
    read: Callable[[], list[Sequence]]
    """Read the people. Raises `AssetError` and `OptionError`."""
    roots: tuple[Path, ...]
    """Folders that the names of pictures are relative to, in the order of trial."""

    def picture(self, name: str) -> Path:
        """Return the path of a picture. Raises `AssetError`."""
        for root in self.roots:
            if (root / name).is_file():
                return root / name
        raise AssetError(f"{self.roots[0] / name}: no such picture; the annotations of {self.name} name it")


def shots(dataset: str, folder: str | Path, *, models: Models = None) -> list[Shot]:
    """List the shots of a data set's folder, in the order of their names.

    dataset: a name of `PROTOCOLS`. models: the bodies of its annotations, as in `read_3dpw`. Raises `OptionError` for
    an unknown data set and `AssetError` where the folder lacks its files.
    """
    if dataset not in PROTOCOLS:
        raise OptionError(f"data sets are {', '.join(PROTOCOLS)}, got {dataset!r}")
    folder = Path(folder)
    found = list(_FINDERS[dataset](folder, models))
    if not found:
        raise AssetError(
            f"{folder}: found nothing of {PROTOCOLS[dataset].title} here; it needs {PROTOCOLS[dataset].needs}"
        )
    return found


def _3dpw(folder: Path, models: Models) -> Iterator[Shot]:
    for path in sorted((folder / "sequenceFiles" / "test").glob("*.pkl")):
        yield Shot(path.stem, partial(read_3dpw, path, models=models), (folder,))


def _emdb(part: str) -> Callable[[Path, Models], Iterator[Shot]]:
    def found(folder: Path, models: Models) -> Iterator[Shot]:
        for path in sorted(folder.glob("*/*/*_data.pkl")):
            if bool(read_archive(path).get(part, False)):
                yield Shot(path.parent.name, partial(_one, read_emdb, path, models=models), (path.parent,))

    return found


def _rich(folder: Path, models: Models) -> Iterator[Shot]:
    for path in sorted((folder / "test_body").glob("*/")):
        for camera in sorted((folder / "test" / path.name).glob("cam_*")):
            read = partial(read_rich, folder, path.name, camera.name, models=models)
            yield Shot(f"{path.name}/{camera.name}", read, (folder,))


def _agora(folder: Path, _models: Models) -> Iterator[Shot]:
    for path in sorted(folder.glob("*.npz")):
        yield Shot(path.stem, partial(_one, read_agora, path), _picture_roots(folder))


def _h36m(folder: Path, _models: Models) -> Iterator[Shot]:
    for path in sorted(folder.glob("h36m_valid_protocol2.npz")):
        yield Shot(path.stem, partial(read_h36m, path, camera=_FRONTAL), _picture_roots(folder))


def _3dhp(folder: Path, _models: Models) -> Iterator[Shot]:
    def read(path: Path) -> list[Sequence]:
        return [replace(one, dataset="mpi-inf-3dhp") for one in read_h36m(path)]

    for path in sorted([*folder.glob("mpi_inf_3dhp_valid.npz"), *folder.glob("mpi_inf_3dhp_test.npz")])[-1:]:
        yield Shot(path.stem, partial(read, path), _picture_roots(folder))


def _one(read: Callable[..., Sequence], *arguments: Any, **options: Any) -> list[Sequence]:
    return [read(*arguments, **options)]


def _picture_roots(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in _PICTURE_FOLDERS)


_FINDERS: dict[str, Callable[[Path, Models], Iterator[Shot]]] = {
    "3dpw": _3dpw,
    "emdb": _emdb("emdb1"),
    "emdb2": _emdb("emdb2"),
    "rich": _rich,
    "agora": _agora,
    "h36m": _h36m,
    "mpi-inf-3dhp": _3dhp,
}
