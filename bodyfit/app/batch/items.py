"""What a batch is to look at: pictures in files and folders, here or where fsspec reaches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from bodyfit.errors import ImageError, OptionError
from bodyfit.images.files import IMAGE_SUFFIXES, image_by_name, looks_like_image
from bodyfit.images.frame import Frame, read_image

__all__ = ["Item", "LeftOut", "find_items", "read_item"]


_PERSON = re.compile(r"person\d+\.npz")
_WRITTEN = re.compile(r"overlay\.(png|jpg|mp4)|person\d+(_side\.png|\.(npz|obj|glb|bvh))")


class Item(NamedTuple):
    """One picture of a batch. A tuple: a million of them are held."""

    source: str
    """Its absolute path, or its address (s3://bucket/a.jpg): what the run knows it by."""
    target: str
    """Name of its result in the output folder, with folders as in what was given and all of its own name, so that it
    depends on no other picture: photos/a.jpg.npz."""


class LeftOut:
    """Files in folders that are no pictures: how many, and the first of them by name."""

    NAMED = 8

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.names) < self.NAMED:
            self.names.append(name)


def find_items(
    paths: Sequence[str], out: Path, known: Mapping[str, str], left_out: LeftOut | None = None
) -> tuple[list[Item], dict[str, str]]:
    """The pictures that paths name, each once, and the folders that they are in, with what `out` calls them.

    A folder stands for all pictures in it and in the folders inside, in order of name, without hidden ones, without
    `out` and what bodyfit wrote; links to folders are not followed. All that is left out but that is added to
    `left_out`. Of a second folder of one name the results go to
    NAME_2; `known` are the names of an earlier run. Other paths are kept as they are, for `read_item` to judge. Raises
    `ImageError` for a folder without pictures and for an address that cannot be listed, `OptionError` where fsspec is
    missing.
    """
    left_out = LeftOut() if left_out is None else left_out
    items: dict[str, Item] = {}
    names = dict(known)
    used_names = {name.casefold() for name in names.values()}
    for argument in paths:
        found = _remote(argument, left_out) if "://" in argument else _local(argument, os.path.realpath(out), left_out)
        empty = True
        for source, root, inside in found:
            empty = False
            if root not in names:
                names[root] = _free(PurePosixPath(root.partition("::")[0]).name or "pictures", used_names)
                used_names.add(names[root].casefold())
            if source not in items:
                items[source] = Item(source, f"{names[root]}/{inside}.npz")
        if empty:
            raise ImageError(f"the folder {argument} has no pictures ({' '.join(s[1:] for s in IMAGE_SUFFIXES)})")
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


def _local(argument: str, out: str, left_out: LeftOut) -> Iterator[tuple[str, str, str]]:
    """(source, its folder as given, the way from there) of a path; a folder that cannot be listed comes as it is."""
    if not os.path.isdir(argument):
        folder, name = os.path.split(os.path.abspath(argument))
        folder = os.path.realpath(folder)
        yield os.path.join(folder, name), folder, name
        return
    root = os.path.realpath(argument)
    closed: list[str] = []
    for folder, inside, files in os.walk(root, onerror=lambda error: closed.append(error.filename)):
        for name in sorted(inside):
            if name.startswith(".") or os.path.islink(os.path.join(folder, name)):
                left_out.add(os.path.relpath(os.path.join(folder, name), root) + "/")
        inside[:] = sorted(name for name in inside if not name.startswith(".") and os.path.join(folder, name) != out)
        ours = any(_PERSON.fullmatch(name) for name in files)  # what bodyfit fit wrote
        for name in sorted(files):
            path = os.path.join(folder, name)
            if ours and _WRITTEN.fullmatch(name):
                continue
            if not name.startswith(".") and (image_by_name(PurePath(name)) or looks_like_image(Path(path))):
                yield path, root, Path(path).relative_to(root).as_posix()
            else:
                left_out.add(os.path.relpath(path, root))
    for folder in closed:
        yield folder, root, Path(folder).relative_to(root).as_posix()


def _remote(argument: str, left_out: LeftOut) -> Iterator[tuple[str, str, str]]:
    """Yield (source, folder as given, path below it) of an address, pictures by name only.

    Of a chained address (zip://a::s3://b/c.zip) the first link is the folder's. Raises `ImageError`.
    """
    _, chain, rest = argument.partition("::")
    fsspec = _fsspec()
    try:
        files, root = fsspec.core.url_to_fs(argument)
        paths = sorted(files.find(root)) if files.isdir(root) else None
    except Exception as error:  # each file system raises its own
        raise ImageError(f"{argument} cannot be listed: {error or type(error).__name__}") from None
    if paths is None:
        folder, _, name = argument.partition("::")[0].rpartition("/")
        yield argument, folder + chain + rest, name
        return
    for path in paths:
        if not _is_picture(path):
            left_out.add(path[len(root) :].strip("/"))
            continue
        yield files.unstrip_protocol(path) + chain + rest, argument.rstrip("/"), path[len(root) :].strip("/")


def _fsspec():
    try:
        import fsspec
    except ImportError:
        raise OptionError("addresses such as s3://... need fsspec: pip install 'bodyfit[remote]'") from None
    return fsspec


def _is_picture(path: str) -> bool:
    name = PurePosixPath(path).name
    return not name.startswith(".") and image_by_name(PurePosixPath(name))


def _free(name: str, used_names: set[str]) -> str:
    """The name, with a number where it is taken (in any case)."""
    return next(
        n
        for i in range(1, len(used_names) + 2)
        if (n := name if i == 1 else f"{name}_{i}").casefold() not in used_names
    )
