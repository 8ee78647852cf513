"""Worker processes that survive what they are given: a crash or a hang costs one item, and a fresh process goes on.

Each worker has a pipe of its own, so that one killed in the middle of a message takes nothing with it. The pools of
loky and pebble share one queue and its locks: in loky a killed worker fails all items that wait, in pebble one killed
while idle or while it answers breaks the pool, and limits of time follow the wall clock
(`scripts/bench/worker_pools.py` kills workers of each).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import Any, Generic, TypeVar

from bodyfit.errors import BodyfitError

__all__ = ["Failure", "WorkerPool", "in_words"]

T = TypeVar("T")
_AHEAD = 8
"""Items that a worker holds at a time, so that it need not wait while the caller is busy with the answers."""
_GRACE_S = 1.0
"""How long a worker may take to end by itself."""
_START_S = 600.0
"""How long a worker may take to load what it needs."""
_LONGEST_TICK_S = 1.0
"""What counts at most of the time between two looks at the workers: a machine that sleeps or a run that is stopped and
continued (Ctrl-Z) is no item's fault."""
_MAX_FAILED_STARTS = 3
"""So many workers in a row may die before they are ready, killed by somebody, until it is taken for the machine's
fault."""


@dataclass(frozen=True)
class Failure:
    """Why there is no answer for an item."""

    why: str
    """In words for the user."""


@dataclass
class _Worker(Generic[T]):
    """A worker process and the items it holds."""

    process: Any
    pipe: connection.Connection
    started_s: float
    """When it was started, by the pool's clock."""
    items: deque[tuple[T, float]] = field(default_factory=deque)
    """Items without an answer, and when each became the first of them, by that clock."""
    ready: bool = False


class WorkerPool(Generic[T]):
    """Processes that answer items in any order; `make` runs in each worker and returns what answers one item.

    `make` and the items go through pickle to a fresh interpreter. An item whose worker dies is tried once more, for it
    may have been killed for another's sake; the second time it is the item's fault. Time is measured by a clock that
    cannot be set. A script that makes a pool needs `if __name__ == "__main__":` about it, as for all of
    multiprocessing.
    """

    def __init__(
        self, make: Callable[[], Callable[[T], Any]], workers: int, *, threads: int = 1, timeout_s: float = 120.0
    ) -> None:
        self._make, self._threads, self._timeout_s = make, threads, timeout_s
        self._context = get_context("spawn")
        self._workers: list[_Worker[T]] = []
        self._count = workers
        self._suspects: set[T] = set()
        self._failed_starts = 0
        self._now_s, self._last_tick = 0.0, time.monotonic()

    def __enter__(self) -> WorkerPool[T]:
        self._workers = [self._start() for _ in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def answers(self, items: Iterator[T], *, tick_s: float = 0.2) -> Iterator[tuple[T, Any] | None]:
        """Each item with its answer, or a `Failure`, as they come; None every `tick_s` in which nothing came.

        Items are taken as workers ask for them. Raises `BodyfitError` where a worker cannot start.
        """
        again: deque[T] = deque()
        source = iter(items)

        def following() -> T | None:
            return again.popleft() if again else next(source, None)

        more = True
        while more or again or any(worker.items for worker in self._workers):
            for worker in self._workers:
                while worker.ready and len(worker.items) < _AHEAD and (item := following()) is not None:
                    self._send(worker, item)
                more = more and not (worker.ready and len(worker.items) < _AHEAD)
            pipes: list[Any] = [worker.pipe for worker in self._workers]
            readable = connection.wait(pipes, timeout=tick_s)
            self._tick()
            for worker in list(self._workers):
                if worker.pipe in readable:
                    yield from self._receive(worker, again)
                elif worker.items and self._now_s - worker.items[0][1] > self._timeout_s:
                    item = worker.items.popleft()[0]
                    self._replace(worker, again)
                    yield item, Failure(f"took longer than {self._timeout_s:g} s; a larger timeout_s allows more")
                elif not worker.ready and self._now_s - worker.started_s > _START_S:
                    raise BodyfitError(f"a worker process is not ready after {_START_S:g} s; is the disk reachable?")
            if not readable:
                yield None

    def _tick(self) -> None:
        """Move the pool's clock on."""
        before, self._last_tick = self._last_tick, time.monotonic()
        self._now_s += min(self._last_tick - before, _LONGEST_TICK_S)

    def _start(self) -> _Worker[T]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._make, self._threads), daemon=True)
        with _deaf_to_ctrl_c():
            process.start()
        theirs.close()
        return _Worker(process, ours, self._now_s)

    def _send(self, worker: _Worker[T], item: T) -> None:
        worker.items.append((item, self._now_s))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end shows when its pipe is read
            worker.pipe.send(item)

    def _receive(self, worker: _Worker[T], again: deque[T]) -> Iterator[tuple[T, Any]]:
        """Take a worker's message, or notice that it is dead."""
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):  # it has closed, maybe within a message
            yield from self._after_death(worker, again)
            return
        if kind == "ready":
            worker.ready, self._failed_starts = True, 0
        elif kind == "cannot start":
            raise BodyfitError(value)
        else:
            item, _ = worker.items.popleft()
            if worker.items:
                worker.items[0] = (worker.items[0][0], self._now_s)
            yield item, value

    def _after_death(self, worker: _Worker[T], again: deque[T]) -> Iterator[tuple[T, Any]]:
        """Replace a dead worker. Its first item is the suspect; the others were only waiting."""
        worker.process.join(_GRACE_S)
        code = worker.process.exitcode
        self._failed_starts += not worker.ready
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise BodyfitError(
                f"worker processes end before they are ready ({_ended(code)}); try fewer workers, and in a script of "
                'your own call under: if __name__ == "__main__"'
            )
        suspect = worker.items.popleft()[0] if worker.items else None
        self._replace(worker, again)
        if suspect is None:
            return
        if suspect in self._suspects:
            yield suspect, Failure(f"ended its worker process twice ({_ended(code)}); is it damaged, or too large?")
        else:
            self._suspects.add(suspect)
            again.append(suspect)

    def _replace(self, worker: _Worker[T], again: deque[T]) -> None:
        """Start a worker in the place of one that is dead or hangs; what it had not begun goes back."""
        worker.pipe.close()
        worker.process.kill()
        worker.process.join()
        again.extend(item for item, _ in worker.items)
        self._workers[self._workers.index(worker)] = self._start()


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
    return f"exit code {code}"


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started within, even while they import: the parent ends them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its own start unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: connection.Connection, make: Callable[[], Callable[[Any], Any]], threads: int) -> None:
    """Answer items until the pipe closes: what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before anything that counts the cores is imported
    try:
        answer = make()
    except Exception as fault:
        pipe.send(("cannot start", in_words(fault)))
        return
    pipe.send(("ready", None))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone
        while True:
            item = pipe.recv()
            try:
                value = answer(item)
            except Exception as fault:  # ours, or a library's: it must not cost the other items
                value = Failure(in_words(fault))
            pipe.send(("answer", value))


def _end_with_the_parent() -> None:
    """End this process when the one that started it is killed, even in the middle of an item."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def in_words(fault: Exception) -> str:
    """Put a fault into one line for the user."""
    text = " ".join(str(fault).split())
    return text if isinstance(fault, BodyfitError) else f"internal error: {type(fault).__name__}: {text}"
