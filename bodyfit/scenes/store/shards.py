"""Pack scenes into tar files as WebDataset reads them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path, PurePosixPath

from bodyfit.runtime.atomic import write_atomically
from bodyfit.scenes.store.one import name_of, record_path

__all__ = ["pack_shard", "shard_path"]


def shard_path(out: Path, number: int) -> Path:
    """Where a shard is."""
    return out / "shards" / f"{number:06d}.tar"


def pack_shard(out: Path, number: int, first: int, stop: int) -> None:
    """Pack the files of scenes first to stop - 1 into a shard, in order, and remove them; their records stay.

    A sample has the scene's number as its key, and a member for each file: 000000.jpg, 000000.masks.png,
    000000.params.npz, and 000000.json, the record. A shard that is there is whole: then what is left of its scenes is
    removed. Raises `OutputError`.
    """
    folders = sorted(path for path in out.iterdir() if path.is_dir() and path.name not in ("shards", "scenes"))
    path = shard_path(out, number)
    loose = [(i, file) for i in range(first, stop) for folder in folders for file in folder.glob(f"{name_of(i)}.*")]
    if not path.is_file():
        with write_atomically(path) as temporary, tarfile.open(temporary, "w") as archive:
            for i in range(first, stop):
                for _, file in (one for one in loose if one[0] == i):
                    _add(archive, _member(PurePosixPath(file.relative_to(out).as_posix())), file.read_bytes())
                _add(archive, f"{name_of(i)}.json", (out / record_path(i)).read_bytes())
    for _, file in loose:
        file.unlink()
    for folder in folders:
        if not any(folder.iterdir()):
            folder.rmdir()


def _member(path: PurePosixPath) -> str:
    """The name of a file in a sample: its folder is part of its ending, but of the picture's."""
    return path.name if path.parent.name == "images" else f"{path.stem}.{path.parent.name}{path.suffix}"


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a member without a date or an owner, so that the same scenes make the same shard."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    archive.addfile(member, io.BytesIO(content))
