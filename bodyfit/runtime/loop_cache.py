"""Cache compiled loops on disk: numba's cache, made safe to share and optional.

Differences from numba's own cache:

- numba writes beside the package or, where that folder is read-only, in the user's cache; here a private folder among
  the temporary files is the last resort.
- numba reads only where it could also write; here a cache beside the package, or in the folder that NUMBA_CACHE_DIR
  names, that an administrator or the builder of an image has filled is always read, also where nothing can be written.
- In numba a damaged or deleted cache file, or a full disk, ends the run; here it costs the time to compile.
- In numba processes that write one function's cache at the same time may mix up its files; here they are serialised.
- numba compiles a function again where its own file has another time or size. A loop that calls others of other files
  has them compiled in, and files of wheels have all the same time: here a change of any file that has loops counts.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from numba.core import config
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    _CacheLocator,
    _SourceFileBackedLocatorMixin,
)

__all__ = ["ANOTHER_PLACE", "LoopCache", "ReadOnlyLoopCache", "digest_of_loops", "loop_cache"]

ANOTHER_PLACE = (
    "name a folder that can be written in the environment variable NUMBA_CACHE_DIR, or each run compiles again"
)
"""Advice where loops cannot be cached."""
_log = logging.getLogger("bodyfit")
_PACKAGE = Path(__file__).resolve().parents[1]
_MARK = b"bodyfit.runtime.compiled"
"""What source files that have loops import."""
_WAIT_S = 10.0
"""Longest wait for another process to read or write an entry, which takes milliseconds."""


def loop_cache(function: Callable[..., Any]) -> LoopCache | None:
    """Open the cache of one function, read-only where no folder can be written; None for a function of no file."""
    try:
        return LoopCache(function)
    except RuntimeError:  # numba finds no writable folder
        pass
    folder = _temporary_folder()
    before = config.CACHE_DIR  # pyright: ignore[reportAttributeAccessIssue]
    try:
        if folder is not None:
            config.CACHE_DIR = str(folder)  # pyright: ignore[reportAttributeAccessIssue]
            return LoopCache(function)
    except RuntimeError:
        pass
    finally:
        config.CACHE_DIR = before  # pyright: ignore[reportAttributeAccessIssue]
    try:
        return ReadOnlyLoopCache(function)
    except RuntimeError:  # the function is in no file
        return None


class LoopCache(FunctionCache):
    """The compiled versions of one function on disk."""

    can_be_written = True

    def __init__(self, function: Callable[..., Any]) -> None:
        """Open the cache; raises `RuntimeError` where numba finds no writable folder."""
        super().__init__(function)
        impl = self._impl  # pyright: ignore[reportAttributeAccessIssue]
        file = function.__code__.co_filename
        ours = Path(file).resolve().is_relative_to(_PACKAGE)
        stamp = digest_of_loops(_PACKAGE) if ours else impl.locator.get_source_stamp()
        others = [folder for folder in map(str, _filled_folders(file)) if folder != self._cache_path]
        self._files = [IndexDataCacheFile(name, impl.filename_base, stamp) for name in (*others, self._cache_path)]
        self._cache_file = self._files[-1]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load the compiled version for a signature, or None."""
        for file in self._files:
            self._cache_file = file
            try:
                with _folder_lock(self._cache_path) if self.can_be_written else nullcontext():
                    version = super().load_overload(sig, target_context)
            except Exception:  # a damaged pickle raises anything
                version = None
                if self.can_be_written:
                    with suppress(OSError):
                        file.flush()
            if version is not None:
                return version
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled version; where the disk refuses, log it once and go on."""
        self._cache_file = self._files[-1]
        try:
            with _folder_lock(self._cache_path):
                super().save_overload(sig, data)
        except OSError as fault:
            _warn_once(f"bodyfit cannot keep compiled loops in {self._cache_path} ({fault.strerror or fault})")


class _Beside(_SourceFileBackedLocatorMixin, _CacheLocator):  # pyright: ignore[reportIncompatibleMethodOverride]
    """Locate the folder of compiled files beside a module, whether or not it can be written."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._py_file, self._lineno = py_file, py_func.__code__.co_firstlineno  # for the mixin

    def get_cache_path(self) -> Any:  # numba declares no type
        """Give the folder."""
        return str(Path(self._py_file).parent / "__pycache__")

    def ensure_cache_path(self) -> None:
        """Do nothing: the folder is only read."""


class _ReadOnly(CompileResultCacheImpl):
    """Read compiled versions from a folder that cannot be written."""

    _locator_classes = [_Beside]  # noqa: RUF012  numba's own name


class ReadOnlyLoopCache(LoopCache):
    """The compiled versions of one function that others have filled in; nothing is written."""

    can_be_written = False
    _impl_class = _ReadOnly

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep nothing."""


@lru_cache
def digest_of_loops(package: Path) -> str:
    """Compute a digest of all source files of a package that have loops; it takes some hundredths of a second."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        text = path.read_bytes()
        if _MARK in text:
            digest.update(str(path.relative_to(package)).encode() + b"\0" + text + b"\0")
    return digest.hexdigest()


def _filled_folders(file: str) -> Iterator[Path]:
    """Give the folders that others may have filled for a module: the one beside it, and that of NUMBA_CACHE_DIR."""
    yield Path(file).parent / "__pycache__"
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        yield Path(named) / _Beside.get_suitable_cache_subpath(file)


@lru_cache
def _warn_once(what: str) -> None:
    """Log a warning once in a process."""
    _log.warning("%s: %s", what, ANOTHER_PLACE)


@contextmanager
def _folder_lock(folder: str) -> Iterator[None]:
    """Lock a folder between processes and threads; where it cannot be locked, go on without."""
    lock = FileLock(os.path.join(folder, "bodyfit.lock"))
    locked = False
    with suppress(OSError, Timeout, NotImplementedError):
        lock.acquire(timeout=_WAIT_S)
        locked = True
    try:
        yield
    finally:
        if locked:
            lock.release()


def _temporary_folder() -> Path | None:
    """Return a temporary folder that only the user can write, for its content is executed; None if there is none."""
    try:
        parent = tempfile.gettempdir()
    except FileNotFoundError:  # no temporary folder can be written
        return None
    places = {os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")} | {"/tmp", "/var/tmp", "/usr/tmp"}
    if parent == os.getcwd() and parent not in places:  # Python's last resort, where nobody looks for a cache
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
