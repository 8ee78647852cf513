"""What a batch is to look at: pictures in files and folders, here or where fsspec reaches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bodyfit.errors import ImageError, OptionError
from bodyfit.frame import IMAGE_SUFFIXES, Frame, read_image

__all__ = ["Item", "find_items", "read_item"]


_PERSON, _DRAWN = re.compile(r"person\d+\.npz"), re.compile(r"overlay\.(png|jpg)|person\d+_side\.png")


class Item(NamedTuple):
    """One picture of a batch. A tuple: a million of them are held."""

    source: str
    """Its absolute path, or its address (s3://bucket/a.jpg): what the run knows it by."""
    target: str
    """Name of its result in the output folder, with folders as in what was given and all of its own name, so that it
    depends on no other picture: photos/a.jpg.npz."""


def find_items(paths: Sequence[str], out: Path, known: Mapping[str, str]) -> tuple[list[Item], dict[str, str]]:
    """The pictures that paths name, each once, and the folders that they are in, with what `out` calls them.

    A folder stands for all pictures in it and in the folders inside, in order of name, without hidden ones, without
    `out` and what bodyfit drew; links to folders are not followed. Of a second folder of one name the results go to
    NAME_2; `known` are the names of an earlier run. Other paths are kept as they are, for `read_item` to judge. Raises
    `ImageError` for a folder without pictures and for an address that cannot be listed, `OptionError` where fsspec is
    missing.
    """
    items: dict[str, Item] = {}
    names = dict(known)
    taken = {name.casefold() for name in names.values()}
    for given in paths:
        found = _remote(given) if "://" in given else _local(given, os.path.realpath(out))
        empty = True
        for source, root, inside in found:
            empty = False
            if root not in names:
                names[root] = _free(PurePosixPath(root.partition("::")[0]).name or "pictures", taken)
                taken.add(names[root].casefold())
            if source not in items:
                items[source] = Item(source, f"{names[root]}/{inside}.npz")
        if empty:
            raise ImageError(f"the folder {given} has no pictures ({' '.join(s[1:] for s in IMAGE_SUFFIXES)})")
    return list(items.values()), names


def read_item(source: str) -> Frame:
    """The picture. Raises `ImageError`."""
    if "://" not in source:
        if os.path.isdir(source):
            raise ImageError(f"the folder {source} cannot be listed, and what is in it is left out")
        return read_image(source)
    try:
        with _fsspec().open(source, "rb") as file:
            data = file.read()  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # each file system raises its own
        raise ImageError(f"{source} cannot be read: {error or type(error).__name__}") from None
    return read_image(source, data)


def _local(given: str, out: str) -> Iterator[tuple[str, str, str]]:
    """(source, its folder as given, the way from there) of a path; a folder that cannot be listed comes as it is."""
    if not os.path.isdir(given):
        folder, name = os.path.split(os.path.abspath(given))
        folder = os.path.realpath(folder)
        yield os.path.join(folder, name), folder, name
        return
    root = os.path.realpath(given)
    closed: list[str] = []
    for folder, inside, files in os.walk(root, onerror=lambda error: closed.append(error.filename)):
        inside[:] = sorted(name for name in inside if not name.startswith(".") and os.path.join(folder, name) != out)
        ours = any(_PERSON.fullmatch(name) for name in files)  # what bodyfit fit wrote
        for name in sorted(files):
            if _is_picture(name) and not (ours and _DRAWN.fullmatch(name)):
                path = os.path.join(folder, name)
                yield path, root, Path(path).relative_to(root).as_posix()
    for folder in closed:
        yield folder, root, Path(folder).relative_to(root).as_posix()


def _remote(given: str) -> Iterator[tuple[str, str, str]]:
    """The same of an address; of a chained one (zip://a::s3://b/c.zip) the first link is the folder's."""
    _, chain, rest = given.partition("::")
    fsspec = _fsspec()
    try:
        files, root = fsspec.core.url_to_fs(given)
        paths = [p for p in sorted(files.find(root)) if _is_picture(p)] if files.isdir(root) else None
    except Exception as error:  # each file system raises its own
        raise ImageError(f"{given} cannot be listed: {error or type(error).__name__}") from None
    if paths is None:
        folder, _, name = given.partition("::")[0].rpartition("/")
        yield given, folder + chain + rest, name
        return
    for path in paths:
        yield files.unstrip_protocol(path) + chain + rest, given.rstrip("/"), path[len(root) :].strip("/")


def _fsspec():
    try:
        import fsspec
    except ImportError:
        raise OptionError("addresses such as s3://... need fsspec: pip install 'bodyfit[remote]'") from None
    return fsspec


def _is_picture(path: str) -> bool:
    name = PurePosixPath(path).name
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken (in any case)."""
    return next(n for i in range(1, len(taken) + 2) if (n := name if i == 1 else f"{name}_{i}").casefold() not in taken)
