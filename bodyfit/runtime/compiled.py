"""Compile loops by numba; imported where it is used, because numba takes a while to load."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba.core import event

from bodyfit.runtime.loop_cache import ANOTHER_PLACE, LoopCache, loop_cache

__all__ = ["NotCompiledError", "compiled_so_far", "inline", "jit", "loose", "only_compiled"]

_log = logging.getLogger("bodyfit")
_NOTICE_AFTER_S = 1.0
"""Time of compiling after which the user gets a notice."""


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function at its first call and cache the result on disk (`loop_cache`); `options` are numba's."""
    function = inspect.unwrap(function)  # numba cannot compile the tests' shape checks
    dispatcher = numba.njit(nogil=True, **options)(function)
    cache = loop_cache(function)
    if cache is not None:
        dispatcher._cache = cache  # pyright: ignore[reportAttributeAccessIssue]
    return dispatcher


def loose(function: Callable[..., Any]) -> Any:
    """Do as `jit`, and let LLVM contract and reorder products and sums; NaN and infinity are preserved."""
    return jit(function, fastmath={"contract", "reassoc", "nsz"})


def inline(function: Callable[..., Any]) -> Any:
    """Compile a function that is inlined into kernels."""
    return numba.njit(nogil=True, fastmath={"contract"}, forceinline=True)(inspect.unwrap(function))


class NotCompiledError(RuntimeError):
    """Raised where a loop would have to be compiled within `only_compiled`."""


@contextmanager
def only_compiled() -> Iterator[None]:
    """Within the block, in any thread, compiling a loop of bodyfit raises `NotCompiledError`."""
    _listener.forbidden += 1
    try:
        yield
    finally:
        _listener.forbidden -= 1


def compiled_so_far() -> tuple[int, float]:
    """Return the number of loops that this process has compiled, and the seconds it took."""
    return _listener.loops, _listener.seconds


class _CompileListener(event.Listener):
    """Counts compilations of bodyfit's loops, and logs a notice once in a process, for compiling takes long.

    numba compiles one loop at a time, with those that it calls nested within.
    """

    def __init__(self) -> None:
        self.forbidden = self.loops = self.depth = 0
        self.seconds = self.start_s = 0.0
        self.notified = False

    def on_start(self, event: event.Event) -> None:
        dispatcher = _ours(event)
        if dispatcher is None:
            return
        self.start_s = time.perf_counter() if self.depth == 0 else self.start_s
        self.depth += 1
        if self.forbidden:
            raise NotCompiledError(dispatcher.py_func.__name__)
        self.loops += 1
        if not self.notified and self.seconds + time.perf_counter() - self.start_s > _NOTICE_AFTER_S:
            self.notified = True
            self._notify(loop_cache(dispatcher.py_func))  # inlined functions have no cache

    def on_end(self, event: event.Event) -> None:
        if _ours(event) is None:
            return
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.start_s

    def _notify(self, cache: LoopCache | None) -> None:
        """Log that loops are being compiled, and where they are cached."""
        what = "bodyfit compiles its loops for this processor, which takes about half a minute"
        if cache is not None and cache.can_be_written:
            _log.warning("%s, once; they are kept in %s", what, cache.cache_path)
        else:
            _log.warning("%s, and cannot keep them: %s", what, ANOTHER_PLACE)


def _ours(event: event.Event) -> Any:
    """Return the dispatcher of a loop of bodyfit, None for others."""
    dispatcher = (event.data or {}).get("dispatcher")
    return dispatcher if dispatcher is not None and dispatcher.py_func.__module__.startswith("bodyfit.") else None


_listener = _CompileListener()
event.register("numba:compile", _listener)
