"""How loops are compiled by numba; imported where it is used, because numba takes a while to load."""

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
_SILENT_S = 1.0
"""So much time goes by before the user is told that something is compiled."""


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on first use, and keep the result on disk (`loop_cache`); `options` are numba's."""
    function = inspect.unwrap(function)  # of the tests' shape checks, which numba cannot compile
    dispatcher = numba.njit(nogil=True, **options)(function)
    cache = loop_cache(function)
    if cache is not None:
        dispatcher._cache = cache  # pyright: ignore[reportAttributeAccessIssue]
    return dispatcher


def loose(function: Callable[..., Any]) -> Any:
    """`jit` where products and sums may be contracted and reordered; NaN and infinity keep their meaning."""
    return jit(function, fastmath={"contract", "reassoc", "nsz"})


def inline(function: Callable[..., Any]) -> Any:
    """Compile as a part of kernels."""
    return numba.njit(nogil=True, fastmath={"contract"}, forceinline=True)(inspect.unwrap(function))


class NotCompiledError(RuntimeError):
    """A loop would have to be compiled within `only_compiled`."""


@contextmanager
def only_compiled() -> Iterator[None]:
    """Within, in any thread, a loop of bodyfit that is not compiled raises `NotCompiledError`."""
    _watch.forbidden += 1
    try:
        yield
    finally:
        _watch.forbidden -= 1


def compiled_so_far() -> tuple[int, float]:
    """How many loops this process has compiled, and for how many seconds."""
    return _watch.loops, _watch.seconds


class _Watch(event.Listener):
    """Sees every loop of bodyfit that is compiled, and tells once in a process, for it takes long.

    numba compiles one at a time, each with those that it calls within.
    """

    def __init__(self) -> None:
        self.forbidden = self.loops = self.depth = 0
        self.seconds = self.start_s = 0.0
        self.told = False

    def on_start(self, event: event.Event) -> None:
        dispatcher = _ours(event)
        if dispatcher is None:
            return
        self.start_s = time.perf_counter() if self.depth == 0 else self.start_s
        self.depth += 1
        if self.forbidden:
            raise NotCompiledError(dispatcher.py_func.__name__)
        self.loops += 1
        if not self.told and self.seconds + time.perf_counter() - self.start_s > _SILENT_S:
            self.told = True
            self._tell(loop_cache(dispatcher.py_func))  # a part of a kernel has no cache of its own

    def on_end(self, event: event.Event) -> None:
        if _ours(event) is None:
            return
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.start_s

    def _tell(self, cache: LoopCache | None) -> None:
        what = "bodyfit compiles its loops for this processor, which takes about half a minute"
        if cache is not None:
            _log.warning("%s, once; they are kept in %s", what, cache.cache_path)
        else:
            _log.warning("%s, and cannot keep them: %s", what, ANOTHER_PLACE)


def _ours(event: event.Event) -> Any:
    """The dispatcher of a loop of bodyfit, None for another's."""
    dispatcher = (event.data or {}).get("dispatcher")
    return dispatcher if dispatcher is not None and dispatcher.py_func.__module__.startswith("bodyfit.") else None


_watch = _Watch()
event.register("numba:compile", _watch)
