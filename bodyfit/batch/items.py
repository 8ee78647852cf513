"""What a batch is to look at: pictures in files and folders, here or where fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bodyfit.errors import ImageError, OptionError
from bodyfit.frame import IMAGE_SUFFIXES, Frame, read_image

__all__ = ["Item", "find_items", "read_item"]


@dataclass(frozen=True)
class Item:
    """One picture of a batch."""

    source: str
    """Its absolute path, or its address (s3://bucket/a.jpg): what the run knows it by."""
    target: str
    """Name of its result in the output folder, with folders as in what was given and all of its own name, so that it
    depends on no other picture: photos/a.jpg.npz."""


def find_items(paths: Sequence[str], out: Path) -> list[Item]:
    """The pictures that paths name, each once: a folder stands for all pictures in it and in the folders inside, in
    order of name, without hidden ones and without `out`.

    Other paths are kept as they are, for `read_item` to judge. Raises `ImageError` for a folder without pictures.
    """
    items: dict[str, Item] = {}
    roots: dict[str, str] = {}
    for given in paths:
        pairs = list(_remote(given) if "://" in given else _local(Path(given), out.absolute()))
        if not pairs:
            raise ImageError(f"the folder {given} has no pictures ({' '.join(s[1:] for s in IMAGE_SUFFIXES)})")
        for source, root, inside in pairs:
            # A second folder of the same name gets a number.
            names = roots.setdefault(root, _free(PurePosixPath(root).name or "pictures", roots))
            target = f"{names}/{inside}.npz" if inside else f"{names}.npz"
            items.setdefault(source, Item(source, target))
    return list(items.values())


def read_item(source: str) -> Frame:
    """The picture. Raises `ImageError`."""
    if "://" not in source:
        return read_image(source)
    try:
        with _fsspec().open(source, "rb") as file:
            data = file.read()  # pyright: ignore[reportAttributeAccessIssue]
    except (OSError, ValueError, ImportError) as error:
        raise ImageError(f"{source} cannot be read: {error}") from None
    return read_image(source, data)


def _local(given: Path, out: Path) -> Iterator[tuple[str, str, str]]:
    """(source, what was given, the way from there) of a path."""
    root = str(given.absolute())
    if not given.is_dir():
        yield root, root, ""
        return
    for folder, inside, files in os.walk(root):
        inside[:] = sorted(name for name in inside if not name.startswith(".") and Path(folder, name) != out)
        for name in sorted(files):
            if _is_picture(name):
                path = Path(folder, name)
                yield str(path), root, path.relative_to(root).as_posix()


def _remote(given: str) -> Iterator[tuple[str, str, str]]:
    """The same of an address."""
    try:
        files, root = _fsspec().core.url_to_fs(given)
        if not files.isdir(root):
            yield given, given, ""
            return
        for path in sorted(files.find(root)):
            if _is_picture(PurePosixPath(path).name):
                yield files.unstrip_protocol(path), given, path[len(root) :].strip("/")
    except (OSError, ValueError, ImportError) as error:
        raise ImageError(f"{given} cannot be listed: {error}") from None


def _fsspec():
    try:
        import fsspec
    except ImportError:
        raise OptionError("addresses such as s3://... need fsspec: pip install 'bodyfit[remote]'") from None
    return fsspec


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _free(name: str, taken: dict[str, str]) -> str:
    """The name, with a number where it is taken (in any case)."""
    used = {other.casefold() for other in taken.values()}
    return next(n for i in range(1, len(used) + 2) if (n := name if i == 1 else f"{name}_{i}").casefold() not in used)
