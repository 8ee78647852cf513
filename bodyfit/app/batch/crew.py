"""Worker processes that survive what they are given: a crash or a hang costs one item, and a fresh process goes on."""

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

__all__ = ["Crew", "Failure", "in_words"]

T = TypeVar("T")
_AHEAD = 8
"""Items that a worker is given at a time, so that it need not wait while whoever asks is busy with the answers."""
_GRACE_S = 1.0
"""How long a worker may take to end by itself."""
_BEGIN_S = 600.0
"""How long a worker may take to load what it needs."""
_LONGEST_LOOK_S = 1.0
"""What counts at most of the time between two looks at the workers: a machine that sleeps or a run that is stopped and
continued (Ctrl-Z) is no item's fault."""
_MAX_STILLBORN = 3
"""So many workers in a row may die before they begin, by somebody's hand, until it is taken for the machine's fault."""


@dataclass(frozen=True)
class Failure:
    """Why there is no answer for an item."""

    why: str
    """In words for the user."""


@dataclass
class _Hand(Generic[T]):
    """A worker and what it has been given."""

    process: Any
    pipe: connection.Connection
    hired_s: float
    """When it was started, by the crew's clock."""
    given: deque[tuple[T, float]] = field(default_factory=deque)
    """Items without an answer, and when each became the one in work, by that clock."""
    ready: bool = False


class Crew(Generic[T]):
    """Processes that answer items in any order; `make` runs in each worker and returns what answers one item.

    `make` and the items go through pickle to a fresh interpreter. An item whose worker dies is tried once more, for it
    may have been killed for another's sake; the second time it is the item's fault. Time is measured by a clock that
    cannot be set. A script that makes a crew needs `if __name__ == "__main__":` about it, as for all of
    multiprocessing.
    """

    def __init__(
        self, make: Callable[[], Callable[[T], Any]], workers: int, *, threads: int = 1, timeout_s: float = 120.0
    ) -> None:
        self._make, self._threads, self._timeout_s = make, threads, timeout_s
        self._context = get_context("spawn")
        self._hands: list[_Hand[T]] = []
        self._workers = workers
        self._suspects: set[T] = set()
        self._stillborn = 0
        self._now_s, self._looked = 0.0, time.monotonic()

    def __enter__(self) -> Crew[T]:
        self._hands = [self._hire() for _ in range(self._workers)]
        return self

    def __exit__(self, *_: object) -> None:
        for hand in self._hands:
            hand.pipe.close()
            hand.process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for hand in self._hands:
            hand.process.join(max(0.0, deadline - time.monotonic()))
            if hand.process.is_alive():
                hand.process.kill()
                hand.process.join()

    def answers(self, items: Iterator[T], *, tick_s: float = 0.2) -> Iterator[tuple[T, Any] | None]:
        """Each item with its answer, or a `Failure`, as they come; None every `tick_s` in which nothing came.

        Items are taken as workers ask for them. Raises `BodyfitError` where a worker cannot begin.
        """
        again: deque[T] = deque()
        source = iter(items)

        def following() -> T | None:
            return again.popleft() if again else next(source, None)

        more = True
        while more or again or any(hand.given for hand in self._hands):
            for hand in self._hands:
                while hand.ready and len(hand.given) < _AHEAD and (item := following()) is not None:
                    self._give(hand, item)
                more = more and not (hand.ready and len(hand.given) < _AHEAD)
            waiting: list[Any] = [hand.pipe for hand in self._hands]
            came = connection.wait(waiting, timeout=tick_s)
            self._tick()
            for hand in list(self._hands):
                if hand.pipe in came:
                    yield from self._hear(hand, again)
                elif hand.given and self._now_s - hand.given[0][1] > self._timeout_s:
                    item = hand.given.popleft()[0]
                    self._replace(hand, again)
                    yield item, Failure(f"took longer than {self._timeout_s:g} s; a larger timeout_s allows more")
                elif not hand.ready and self._now_s - hand.hired_s > _BEGIN_S:
                    raise BodyfitError(f"a worker process has not begun after {_BEGIN_S:g} s; is the disk reachable?")
            if not came:
                yield None

    def _tick(self) -> None:
        """Move the crew's clock on."""
        before, self._looked = self._looked, time.monotonic()
        self._now_s += min(self._looked - before, _LONGEST_LOOK_S)

    def _hire(self) -> _Hand[T]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._make, self._threads), daemon=True)
        with _deaf_to_ctrl_c():
            process.start()
        theirs.close()
        return _Hand(process, ours, self._now_s)

    def _give(self, hand: _Hand[T], item: T) -> None:
        hand.given.append((item, self._now_s))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is heard of next
            hand.pipe.send(item)

    def _hear(self, hand: _Hand[T], again: deque[T]) -> Iterator[tuple[T, Any]]:
        """What a worker says, or that it is dead."""
        try:
            kind, value = hand.pipe.recv()
        except (EOFError, OSError):  # it has closed, maybe within a message
            yield from self._mourn(hand, again)
            return
        if kind == "ready":
            hand.ready, self._stillborn = True, 0
        elif kind == "cannot begin":
            raise BodyfitError(value)
        else:
            item, _ = hand.given.popleft()
            if hand.given:
                hand.given[0] = (hand.given[0][0], self._now_s)
            yield item, value

    def _mourn(self, hand: _Hand[T], again: deque[T]) -> Iterator[tuple[T, Any]]:
        """A dead worker's first item is the suspect; the others were only waiting."""
        hand.process.join(_GRACE_S)
        code = hand.process.exitcode
        self._stillborn += not hand.ready
        if self._stillborn >= _MAX_STILLBORN:
            raise BodyfitError(
                f"worker processes end before they begin ({_ended(code)}); try fewer workers, and in a script of "
                'your own call under: if __name__ == "__main__"'
            )
        suspect = hand.given.popleft()[0] if hand.given else None
        self._replace(hand, again)
        if suspect is None:
            return
        if suspect in self._suspects:
            yield suspect, Failure(f"ended its worker process twice ({_ended(code)}); is it damaged, or too large?")
        else:
            self._suspects.add(suspect)
            again.append(suspect)

    def _replace(self, hand: _Hand[T], again: deque[T]) -> None:
        """A fresh worker in the place of one that is dead or hangs; what it had not begun goes back."""
        hand.pipe.close()
        hand.process.kill()
        hand.process.join()
        again.extend(item for item, _ in hand.given)
        self._hands[self._hands.index(hand)] = self._hire()


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"by {signal.Signals(-code).name}"
    return f"exit code {code}"


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started here never hear of Ctrl-C, not even while they import: the parent sees to it."""
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
    """A worker's life: answers until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before anything that counts the cores is imported
    try:
        answer = make()
    except Exception as fault:
        pipe.send(("cannot begin", in_words(fault)))
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
    """A run that was killed leaves nobody behind, not even who is in the middle of an item."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def in_words(fault: Exception) -> str:
    """What to tell the user of a fault, in one line."""
    told = " ".join(str(fault).split())
    return told if isinstance(fault, BodyfitError) else f"internal error: {type(fault).__name__}: {told}"
