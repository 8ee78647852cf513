"""Kill workers of bodyfit's pool, pebble's and loky's, and count what becomes of the items.

pip install pebble loky; python -m scripts.bench.others.worker_pools [ours pebble loky] [--json FILE]

Each trial gives two workers 60 items and kills one of them: while it works, while all are idle, or while answers of
3 MB are on their way. An item of a killed worker may fail; the others should not.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess

from bodyfit.app.batch.pool import Failure, WorkerPool
from scripts.bench.records import harness

ITEMS, PATIENCE_S = 60, 15.0
TRIALS = {"busy": 5, "idle": 2, "answering": 5}
"""How often each is tried."""


def answer(item: str) -> tuple[int, bytes]:
    """Work for a moment; say by whom, in 3 MB where the item asks for that."""
    time.sleep(0.002 if item.startswith("answering") else 0.03)
    return os.getpid(), bytes(3_000_000 if item.startswith("answering") else 1)


def make() -> Callable[[str], tuple[int, bytes]]:
    """What a worker of ours answers by."""
    return answer


class Ours:
    """bodyfit's pool."""

    def __enter__(self) -> Ours:
        self.pool = WorkerPool(make, 2).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.__exit__()

    def outcomes(self, items: list[str], strike: Callable[[], None]) -> Iterator[str]:
        """What became of each item, killing a worker at the tenth."""
        begin, count = time.monotonic(), 0
        for found in self.pool.answers(iter(items)):
            if time.monotonic() - begin > PATIENCE_S:
                return
            if found is not None:
                count += 1
                if count == 10:
                    strike()
                yield "failed" if isinstance(found[1], Failure) else "ok"


class Futures:
    """A pool of another library, by its futures."""

    def __init__(self, library: str) -> None:
        self.library = library

    def __enter__(self) -> Futures:
        if self.library == "pebble":
            import pebble  # pyright: ignore[reportMissingImports]

            self.pool = pebble.ProcessPool(2, context=get_context("spawn"))
            self.submit = lambda item: self.pool.schedule(answer, [item])
        else:
            import loky  # pyright: ignore[reportMissingImports]

            self.pool = loky.ProcessPoolExecutor(2)
            self.submit = lambda item: self.pool.submit(answer, item)
        return self

    def __exit__(self, *_: object) -> None:
        kill(active_children())  # its own end may wait for a lock that a dead worker holds

    def outcomes(self, items: list[str], strike: Callable[[], None]) -> Iterator[str]:
        """What became of each item, killing a worker at the tenth."""
        try:
            futures = [self.submit(item) for item in items]
        except Exception as fault:  # a pool that is broken takes nothing
            print(f"  {type(fault).__name__}: {str(fault)[:60]}")
            return
        if len(futures) > 10:
            wait(futures[:10], PATIENCE_S)
            strike()
        yield from ("failed" if f.exception() else "ok" for f in wait(futures, PATIENCE_S)[0])


def kill(workers: Sequence[BaseProcess]) -> None:
    """Kill processes."""
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid or 0, signal.SIGKILL)


def kill_one() -> None:
    """Kill one of the workers, whichever."""
    kill([random.choice(active_children())])


def trial(pool: Ours | Futures, kind: str) -> Counter[str]:
    """What became of 60 items."""
    with pool:
        list(pool.outcomes(["warm up 0", "warm up 1"], lambda: None))
        if kind == "idle":
            time.sleep(0.5)
            kill_one()
            time.sleep(0.5)
        items = [f"{kind} {i}" for i in range(ITEMS)]
        found = Counter(pool.outcomes(items, (lambda: None) if kind == "idle" else kill_one))
    found["never answered"] = ITEMS - found.total()
    return found


def main() -> None:
    """Print a line for each pool and kind of death."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="*", default=["ours", "pebble", "loky"])
    harness.add_json_option(parser)
    args, counts = parser.parse_args(), {}
    for name in args.pools:
        for kind, times in TRIALS.items():
            for _ in range(times):
                found = trial(Ours() if name == "ours" else Futures(name), kind)
                counts.setdefault(f"{name}, {kind}", []).append(found)
                said = ", ".join(f"{found[what]} {what}" for what in ("ok", "failed", "never answered"))
                print(f"{name:7} a worker killed while {kind:10} {said}", flush=True)
    harness.write_json(args, counts)
    os._exit(0)  # threads of broken pools never end


if __name__ == "__main__":
    main()
