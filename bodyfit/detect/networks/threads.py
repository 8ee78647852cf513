"""How many threads a detector may use, and calls that share them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["look_threads", "started", "threads_from_environment"]

T = TypeVar("T")
_MOST = 8
"""Threads of looks at people: each has a landmark network of its own, of about 20 MB."""


def threads_from_environment() -> int:
    """What OMP_NUM_THREADS asks for; 0, a thread for each core, where it says nothing sensible."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    return int(setting) if setting.isdecimal() else 0


def look_threads() -> int:
    """How many people are looked at at a time: as many as OMP_NUM_THREADS or the cores allow, at most eight."""
    return min(_MOST, threads_from_environment() or _cores())


@contextmanager
def started(calls: Sequence[Callable[[], T]], threads: int) -> Iterator[list[Callable[[], T]]]:
    """Functions that return what the calls return, in whatever order they are asked.

    With more than one thread, and call, the calls run ahead, in order; otherwise each runs when it is asked for. What
    has not begun when the block ends is dropped.
    """
    if min(threads, len(calls)) < 2:
        yield list(calls)
        return
    pool = ThreadPoolExecutor(min(threads, len(calls)), "bodyfit-look")
    try:
        yield [future.result for future in [pool.submit(call) for call in calls]]
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
