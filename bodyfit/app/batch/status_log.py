"""What became of every item of a run: one line each in status.jsonl, which a run that was killed goes on from."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeGuard

from bodyfit.errors import AssetError, OptionError, OutputError
from bodyfit.runtime.atomic import is_temporary
from bodyfit.runtime.file_names import as_path, as_text
from bodyfit.runtime.json_text import json_text, plain

__all__ = ["DONE", "FAILED", "NO_PERSON", "POOR", "WITH_FILE", "StatusLog", "is_hopeless", "recorded", "stopped_by"]

DONE, POOR, NO_PERSON, FAILED = "done", "poor", "no_person", "failed"
"""With a body at least; with bodies none of which is to be relied on; with nobody; without a body."""
WITH_FILE = (DONE, POOR)
"""What has a file of people."""

_NAME = "status.jsonl"
_LOCK = ".bodyfit-batch.lock"
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE}
"""Faults of the folder rather than of a file: no other item will be written either."""
_BEGIN = b'{"item": '
"""How every line begins."""


class StatusLog:
    """status.jsonl of an output folder, which belongs to one run at a time.

    A line is written after the item's result, whole or not at all; so what it names is there, and what was done without
    a line is done again. Of several lines of an item the last counts. Use as a context manager.
    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        """Raises `OptionError` for a folder with a run of its own and `OutputError` where nothing can be written."""
        import filelock

        self.path, self.finished = out / _NAME, dict[str, str]()
        """Status by the item's name as text, of which a million may be held."""
        self._lock = filelock.FileLock(out / _LOCK)
        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            raise OptionError(f"another run is writing to {out}; wait until it ends, or give another folder") from None
        except (OSError, NotImplementedError) as error:
            why = getattr(error, "strerror", None) or error
            raise OutputError(f"{out / _LOCK}: cannot be written: {why}") from error
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            self._lock.release()
            raise OutputError(f"{self.path}: cannot be opened: {error.strerror or error}") from error
        try:
            if os.fstat(self._file).st_size:
                if not resume:
                    raise OptionError(f"{out} holds a run; go on with it by resume=True, or give another folder")
                self._read()
                _sweep(out)
        except OSError as error:
            self._close()
            raise OutputError(f"{error.filename or self.path}: {error.strerror or error}") from error
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> StatusLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        os.close(self._file)
        self._lock.release()

    def _read(self) -> None:
        """Know what is finished; cut off the half line that a killed run may have left."""
        whole, number, line = 0, 0, b""
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n") and _BEGIN.startswith(line[: len(_BEGIN)]):
                    break
                entry = _entry(line)
                if entry is None:
                    raise OptionError(
                        f"{self.path}, line {number}: not a line of a run; remove that line, or give another folder"
                    )
                whole += len(line)
                self._know(entry)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)

    def _know(self, entry: Mapping[str, Any]) -> None:
        """What an earlier run finished, if its result is still there, and whole: after a power cut it may be empty."""
        name, status = as_text(str(entry["item"])), sys.intern(str(entry["status"]))
        if status in WITH_FILE:
            try:
                whole = os.stat(as_path(str(entry["file"]), self.path.parent)).st_size > 0
            except (OSError, ValueError, KeyError):
                whole = False
            if not whole:
                self.finished.pop(name, None)
                return
        self.finished[name] = status

    def check_in_place(self) -> None:
        """Raises `OutputError` where the folder has been removed or exchanged under the run."""
        try:
            there = os.stat(self.path)
            same = os.path.samestat(there, os.fstat(self._file))
        except OSError:
            same = False
        if not same:
            raise OutputError(
                f"{self.path.parent} was removed or exchanged during the run, which stops; what was in it is gone"
            )

    def record(self, entry: Mapping[str, Any]) -> None:
        """Add the line of an item: `item`, `status` and what else is known. Raises `OutputError`."""
        self.check_in_place()
        text = plain(entry)
        line = (json_text(text, indent=None, ascii_only=True) + "\n").encode()
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._file, end)  # no half line
            os.lseek(self._file, end, os.SEEK_SET)
            raise stopped_by(self.path.parent, error) from error
        self.finished[text["item"]] = text["status"]


def recorded(out: Path) -> list[dict[str, Any]]:
    """The last entry of each item of a run, finished or still on; empty where there was none. Raises `AssetError`."""
    path, entries = out / _NAME, dict[str, dict[str, Any]]()
    if not path.is_file():
        return []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        entry = _entry(line)
        if entry is not None:
            entries[str(entry["item"])] = entry
        elif line.endswith(b"\n"):
            raise AssetError(f"{path}, line {number}: not a line of a batch")
    return list(entries.values())


def is_hopeless(fault: BaseException | None) -> TypeGuard[OSError]:
    """Whether what kept one file from being written says that none can be."""
    return isinstance(fault, OSError) and fault.errno in _HOPELESS


def stopped_by(out: Path, error: OSError) -> OutputError:
    """What to tell of a folder that takes no more."""
    hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
    return OutputError(
        f"cannot write in {out}: {error.strerror or error}; what is finished is safe: {hint} and go on with resume=True"
    )


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None where it is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"item", "status"} <= entry.keys() else None


def _sweep(out: Path) -> None:
    """Remove what a killed run left half-written. The lock is held: nobody is writing there."""
    for folder, _, files in os.walk(out):
        for name in files:
            if is_temporary(name):
                os.unlink(os.path.join(folder, name))
