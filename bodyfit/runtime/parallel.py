"""Divide the jobs of a compiled loop over threads."""

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


class _ProcessState:
    """State of the process for `loops_alone`: the number of threads inside it, and torch's thread count before."""

    lock = threading.Lock()
    inside = 0
    threads = 1


_thread_state = threading.local()


def _begin_child() -> None:
    """Make the loops, and torch, work in a forked child.

    The child has the pools without their threads, a lock may be held by a thread that does not exist there, and GNU
    OpenMP waits for ever for its threads at the first parallel region: with one thread torch enters none. (torch's own
    workers do the same.)
    """
    _pools.clear()
    _ProcessState.lock, _ProcessState.inside, _ProcessState.threads = threading.Lock(), 0, 1
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_begin_child)
if type(multiprocessing.current_process()).__name__ == "ForkProcess":  # the parent may have run torch before bodyfit
    torch.set_num_threads(1)


@contextmanager
def loops_alone() -> Iterator[None]:
    """Within the block, run loops on as many threads as torch used, and torch's own operations on one.

    Between small operations torch's other threads spin: a fit of one person took 6 times the processor time, and on a
    busy machine 6 times the wall time. The thread count is the process's, with a copy in each thread: of several
    threads inside, the first reads it, and each restores it for itself.
    """
    outer = getattr(_thread_state, "threads", None)
    with _ProcessState.lock:
        if _ProcessState.inside == 0:
            _ProcessState.threads = torch.get_num_threads()
        _ProcessState.inside += 1
        _thread_state.threads = threads = _ProcessState.threads if outer is None else outer
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _ProcessState.lock:
            _ProcessState.inside -= 1
            torch.set_num_threads(threads if outer is None else 1)
        _thread_state.threads = outer


def run(kernel: Callable[..., None], jobs: int, *arguments: Any, grain: int = 1) -> None:
    """Call `kernel(first, stop, *arguments)` over all jobs on torch's number of threads, each with at least `grain`.

    These are Python threads over a kernel without the GIL: numba's own threads are not fork-safe nor, in the default
    layer, thread-safe. The calling thread works too, so that a busy pool delays nobody.
    """
    threads = min(getattr(_thread_state, "threads", None) or torch.get_num_threads(), jobs // grain)
    if threads <= 1:
        kernel(0, jobs, *arguments)
        return
    pieces = min(jobs // grain, 4 * threads)
    counter = itertools.count()  # next() is atomic

    def work() -> None:
        for piece in counter:
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
