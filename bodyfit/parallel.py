"""Jobs of a compiled loop shared among threads."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

__all__ = ["run"]

_pools: dict[int, ThreadPoolExecutor] = {}


def _forget_pools() -> None:
    """A forked child has the pools but not their threads."""
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def run(kernel: Callable[..., None], jobs: int, *arguments: Any, grain: int = 1) -> None:
    """`kernel(first, stop, *arguments)` over all jobs, on as many threads as torch uses; `grain` jobs are worth one.

    Python threads over a kernel that holds no lock: numba's own are not safe to fork nor, in its default layer, to call
    from several threads. The caller works too, so that a busy pool delays nobody.
    """
    threads = min(torch.get_num_threads(), jobs // grain)
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
