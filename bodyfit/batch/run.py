"""A batch on this machine: workers look, people are fitted many at once, results are written as they come."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bodyfit.batch.crew import Crew, Failure
from bodyfit.batch.items import Item, find_items
from bodyfit.batch.ledger import DONE, FAILED, NO_PERSON, Ledger, is_hopeless, stopped_by
from bodyfit.batch.stages import Fitting, Looking, Seen
from bodyfit.body.model import BodyModel, load_model
from bodyfit.errors import BodyfitError, OptionError, OutputError
from bodyfit.io.summary import write_json
from bodyfit.pipeline import Lens

__all__ = ["BatchSummary", "Engine", "run_batch"]

Engine = Callable[[Sequence[Item], Looking], "Iterator[tuple[Item, Seen | Failure] | None]"]
"""What has items looked at: each with what was seen, as they come, in any order; None when nothing has come for a
moment."""

_PEOPLE_AT_ONCE = 64
_WAIT_S = 0.5
"""So many people are fitted together, or whoever has come since this long."""


@dataclass(frozen=True)
class BatchSummary:
    """How a run went, earlier runs that it went on from included."""

    items: int
    """Pictures that were asked for."""
    done: int
    """With a body at least."""
    no_person: int
    """Where nobody was found."""
    failed: int
    """status.jsonl says why."""
    skipped: int
    """Of these, finished by an earlier run."""
    seconds: float
    """Of this run."""
    interrupted: bool = False
    """Ctrl-C stopped it."""


def run_batch(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    workers: int | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    model: BodyModel | None = None,
    detector: str = "movenet",
    lens: Lens | None = None,
    timeout_s: float = 120.0,
    engine: Engine | None = None,
    progress: Callable[[int, int, dict[str, Any] | None], None] | None = None,
) -> BatchSummary:
    """Fit everyone in the pictures that files, folders (searched to the bottom) and addresses name.

    OUT/status.jsonl gets a line for each item as it ends: done (with the file of its people, `load_result` reads it),
    no_person or failed (why); OUT/batch.json the counts. `resume` goes on with what has no line there; `retry_failed`
    takes what failed once more. `workers` processes look for people (default: one a core); memory is bounded whatever
    the number of items. A picture that kills its worker, or takes longer than `timeout_s`, costs itself alone.
    `progress(finished, items, entry)` is called after each.

    Raises `OptionError` (another run is on, a run is there already), `ImageError` (nothing to do) and `OutputError`
    (disk full, folder gone): what is finished is safe then.
    """
    begin = time.monotonic()
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise OptionError(f"workers must be at least 1, got {workers}")
    out = Path(out)
    items = find_items([str(path) for path in paths], out)
    engine = local_engine(workers, timeout_s) if engine is None else engine
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made: {error.strerror or error}") from error
    with Ledger(out, resume=resume or retry_failed) as ledger:
        finished = {key for key, e in ledger.finished.items() if not (retry_failed and e["status"] == FAILED)}
        todo = [item for item in items if item.source not in finished]
        run = _Run(
            ledger=ledger,
            fitting=Fitting(out, load_model() if model is None else model, Lens() if lens is None else lens),
            total=len(items),
            skipped=len(items) - len(todo),
            progress=progress,
        )
        interrupted = run.through(engine(todo, Looking(detector))) if todo else False
        became = Counter(ledger.finished.get(item.source, {}).get("status") for item in items)
        summary = BatchSummary(
            items=len(items),
            done=became[DONE],
            no_person=became[NO_PERSON],
            failed=became[FAILED],
            skipped=run.skipped,
            seconds=time.monotonic() - begin,
            interrupted=interrupted,
        )
        ledger.check_in_place()
        write_json(out / "batch.json", vars(summary))
    return summary


def local_engine(workers: int, timeout_s: float = 120.0) -> Engine:
    """Processes on this machine."""

    def looked_at(items: Sequence[Item], looking: Looking) -> Iterator[tuple[Item, Seen | Failure] | None]:
        with Crew(looking, min(workers, len(items)), timeout_s=timeout_s) as crew:
            yield from crew.answers(iter(items))

    return looked_at


@dataclass
class _Run:
    """What is between looking and the record."""

    ledger: Ledger
    fitting: Fitting
    total: int
    skipped: int
    progress: Callable[[int, int, dict[str, Any] | None], None] | None
    waiting: list[tuple[Item, Seen]] = field(default_factory=list)
    since: float = 0.0
    finished: int = 0

    def through(self, answers: Iterator[tuple[Item, Seen | Failure] | None]) -> bool:
        """Fit and record all that comes; returns whether Ctrl-C ended it."""
        if self.progress:
            self.progress(self.skipped, self.total, None)
        try:
            for answer in answers:
                if answer is not None:
                    self._take(*answer)
                people = sum(len(seen.people) for _, seen in self.waiting)
                if people >= _PEOPLE_AT_ONCE or (self.waiting and time.monotonic() - self.since > _WAIT_S):
                    self._fit()
            self._fit()
        except KeyboardInterrupt:
            return True
        finally:
            close = getattr(answers, "close", None)  # a generator: ends its workers now
            if close is not None:
                close()
        return False

    def _take(self, item: Item, seen: Seen | Failure) -> None:
        if isinstance(seen, Failure):
            self._record(item, {"status": FAILED, "why": seen.why})
        elif not seen.people:
            self._record(item, {"status": NO_PERSON})
        else:
            if not self.waiting:
                self.since = time.monotonic()
            self.waiting.append((item, seen))

    def _fit(self) -> None:
        """Whoever waits; where that fails, one picture after the other, so that it costs the one whose fault it is."""
        waiting, self.waiting = self.waiting, []
        try:
            results = self.fitting([seen for _, seen in waiting]) if waiting else []
        except Exception as fault:
            if len(waiting) == 1:
                self._record(waiting[0][0], {"status": FAILED, "why": _words(fault)})
            for one in waiting if len(waiting) > 1 else ():
                self.waiting = [one]
                self._fit()
            return
        for (item, _), result in zip(waiting, results, strict=True):
            self.ledger.check_in_place()
            try:
                entry = self.fitting.write(item, result)
            except OutputError as fault:
                if is_hopeless(fault.__cause__):
                    raise stopped_by(self.fitting.out, fault.__cause__) from fault
                entry = {"status": FAILED, "why": str(fault)}
            self._record(item, entry)

    def _record(self, item: Item, entry: dict[str, Any]) -> None:
        entry = {"item": item.source, **entry}
        self.ledger.record(entry)
        self.finished += 1
        if self.progress:
            self.progress(self.skipped + self.finished, self.total, entry)


def _words(fault: Exception) -> str:
    told = " ".join(str(fault).split())
    return told if isinstance(fault, BodyfitError) else f"internal error: {type(fault).__name__}: {told}"
