"""Where compiled loops are kept from run to run: numba's cache, made safe to share and to do without.

What numba does by itself, and what this adds:

- It keeps loops beside the package or, where that folder cannot be written, in the user's cache; here the last resort
  is a folder of the user's own among the temporary files.
- It reads beside the package only what it could also write there; here a cache that an administrator or the builder of
  an image has filled is read in any case.
- A damaged or vanished file of the cache, or a disk that is full, ends the run; here it costs the time to compile.
- Processes that write one function's cache at the same time may mix up its files; here they take turns.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numba.core import config
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["ANOTHER_PLACE", "LoopCache", "loop_cache"]

ANOTHER_PLACE = (
    "name a folder that can be written in the environment variable NUMBA_CACHE_DIR, or each run compiles again"
)
"""What to do where loops cannot be kept."""
_log = logging.getLogger("bodyfit")
_WAIT_S = 10.0
"""For another process to read or write an entry, which takes it milliseconds."""


def loop_cache(function: Callable[..., Any]) -> LoopCache | None:
    """The cache of one function; None where no folder can be written."""
    try:
        return LoopCache(function)
    except RuntimeError:  # numba finds no place
        pass
    folder = _temporary_folder()
    if folder is None:
        return None
    before = config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return LoopCache(function)
    except RuntimeError:
        return None
    finally:
        config.CACHE_DIR = before  # pyright: ignore[reportAttributeAccessIssue]


class LoopCache(FunctionCache):
    """One function's compiled versions on the disk."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises `RuntimeError` where numba finds no folder to write in."""
        super().__init__(function)
        beside = Path(function.__code__.co_filename).parent / "__pycache__"
        self._files = [self._cache_file]
        if beside != Path(self._cache_path):
            impl = self._impl  # pyright: ignore[reportAttributeAccessIssue]
            shipped = IndexDataCacheFile(str(beside), impl.filename_base, impl.locator.get_source_stamp())
            self._files.insert(0, shipped)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The version for a signature, or None."""
        for file in self._files:
            self._cache_file = file
            try:
                with _turn(self._cache_path):
                    found = super().load_overload(sig, target_context)
            except Exception:  # a damaged pickle raises anything
                found = None
                with suppress(OSError):
                    file.flush()
            if found is not None:
                return found
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a version; a disk that does not take it costs no more than compiling it again."""
        self._cache_file = self._files[-1]
        try:
            with _turn(self._cache_path):
                super().save_overload(sig, data)
        except OSError as fault:
            _tell_once(f"bodyfit cannot keep compiled loops in {self._cache_path} ({fault.strerror or fault})")


@lru_cache
def _tell_once(what: str) -> None:
    _log.warning("%s: %s", what, ANOTHER_PLACE)


@contextmanager
def _turn(folder: str) -> Iterator[None]:
    """One process, and thread, at a time in a folder; where it cannot be locked, all of them."""
    lock = FileLock(os.path.join(folder, "bodyfit.lock"))
    held = False
    with suppress(OSError, Timeout, NotImplementedError):
        lock.acquire(timeout=_WAIT_S)
        held = True
    try:
        yield
    finally:
        if held:
            lock.release()


def _temporary_folder() -> Path | None:
    """A folder among the temporary files that the user owns and nobody else can write: its content is executed."""
    try:
        parent = tempfile.gettempdir()
    except FileNotFoundError:  # not one folder can be written
        return None
    if not hasattr(os, "getuid"):  # on Windows the temporary folder is the user's own
        return Path(parent, "bodyfit-cache")
    folder = Path(parent, f"bodyfit-cache-{os.getuid()}")
    with suppress(OSError):
        folder.mkdir(mode=0o700)
    try:
        about = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022
    return folder if ours else None
