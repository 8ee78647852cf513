"""Jobs of a compiled loop shared among threads."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["loops_alone", "run"]

_pools: dict[int, ThreadPoolExecutor] = {}


class _Whole:
    """How many threads torch had before the first of those who are inside `loops_alone` came."""

    lock = threading.Lock()
    inside = 0
    threads = 1


_given = threading.local()


def _begin_child() -> None:
    """Make the loops, and torch, work in a forked child.

    The pools are there without their threads, a lock may be held by a thread that is not, and GNU OpenMP waits for ever
    for its threads at the first parallel region: with one thread torch enters none. (torch's own workers do the same.)
    """
    _pools.clear()
    _Whole.lock, _Whole.inside, _Whole.threads = threading.Lock(), 0, 1
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin_child)
if type(multiprocessing.current_process()).__name__ == "ForkProcess":  # its parent may have run torch, if not bodyfit
    torch.set_num_threads(1)


@contextmanager
def loops_alone() -> Iterator[None]:
    """Inside, loops run on as many threads as torch used, and torch's own operations on one.

    Where operations are small its second thread waits for the next one, spinning: a fit of one person took 6 times the
    time of the processor, and on a busy machine that of the clock. Torch's number is the process's, and each thread
    has a copy of it: of several threads inside, the first asks for it, and each one puts it back for itself.
    """
    outer = getattr(_given, "threads", None)
    with _Whole.lock:
        if _Whole.inside == 0:
            _Whole.threads = torch.get_num_threads()
        _Whole.inside += 1
        _given.threads = threads = _Whole.threads if outer is None else outer
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _Whole.lock:
            _Whole.inside -= 1
            torch.set_num_threads(threads if outer is None else 1)
        _given.threads = outer


def run(kernel: Callable[..., None], jobs: int, *arguments: Any, grain: int = 1) -> None:
    """`kernel(first, stop, *arguments)` over all jobs, on as many threads as torch uses; `grain` jobs are worth one.

    Python threads over a kernel that holds no lock: numba's own are not safe to fork nor, in its default layer, to call
    from several threads. The caller works too, so that a busy pool delays nobody.
    """
    threads = min(getattr(_given, "threads", None) or torch.get_num_threads(), jobs // grain)
    if threads <= 1:
        kernel(0, jobs, *arguments)
        return
    pieces = min(jobs // grain, 4 * threads)
    taken = itertools.count()  # next() is atomic

    def work() -> None:
        for piece in taken:
            if piece >= pieces:
                return
            kernel(piece * jobs // pieces, (piece + 1) * jobs // pieces, *arguments)

    helpers = []
    try:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads - 1, thread_name_prefix="bodyfit")
        helpers = [_pools[threads].submit(work) for _ in range(threads - 1)]
    except RuntimeError:  # the interpreter is ending and starts no threads
        pass
    work()
    for helper in helpers:
        if not helper.cancel():
            helper.result()
