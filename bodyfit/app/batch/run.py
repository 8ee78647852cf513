"""Batches: an engine detects and fits people, and results are written and logged as they arrive."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodyfit.app.batch.items import Item, LeftOut, find_items
from bodyfit.app.batch.pool import Failure, WorkerPool
from bodyfit.app.batch.stages import Fitting, Looking, fitted
from bodyfit.app.batch.status_log import DONE, FAILED, NO_PERSON, POOR, WITH_FILE, StatusLog, is_hopeless, stopped_by
from bodyfit.app.estimates import EstimateFiles
from bodyfit.app.parts import parts_to_fit, without_parts
from bodyfit.app.pipeline import Lens
from bodyfit.body.model import BodyModel, load_model
from bodyfit.errors import OptionError, OutputError
from bodyfit.fit.config import FitConfig
from bodyfit.fit.result import FitResult, FitStatus, take
from bodyfit.io.keypoints import KeypointFiles
from bodyfit.io.masks import MaskFiles
from bodyfit.io.results.params import save
from bodyfit.io.results.summary import write_json
from bodyfit.runtime.file_names import as_path, as_text

__all__ = ["BatchSummary", "Engine", "local_engine", "run_batch"]

Engine = Callable[[Sequence[Item], Looking, Fitting], "Iterator[tuple[Item, FitResult | Failure | None]]"]
"""What has items looked at and fitted: each with its people, as they come, in any order; None where nobody is seen."""

_ABOUT = "batch.json"


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
    left_out: int = 0
    """Files in folders that are no pictures by their names and first bytes, hidden ones included."""
    left_out_names: tuple[str, ...] = ()
    """The first of these."""
    poor: int = 0
    """Of those with a body, with none that is to be relied on."""


def run_batch(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    workers: int | None = None,
    resume: bool = False,
    retry_failed: bool = False,
    model: BodyModel | None = None,
    detector: str = "movenet",
    tta: bool = False,
    hands: bool | None = None,
    face: bool | None = None,
    keypoints: KeypointFiles | None = None,
    silhouette: bool = False,
    masks: MaskFiles | None = None,
    depth: Path | None = None,
    estimates: Path | None = None,
    lens: Lens | None = None,
    config: FitConfig | None = None,
    timeout_s: float = 120.0,
    keep_poor: bool = True,
    engine: Engine | None = None,
    progress: Callable[[int, int, dict[str, Any] | None], None] | None = None,
) -> BatchSummary:
    """Fit all people in the images named by files, folders (searched recursively) and addresses.

    For each finished item a line is added to OUT/status.jsonl: "done" with the file of its people (`load_result`),
    "poor" if all its bodies are unreliable, "no_person" or "failed" with the reason. It also names the poor people and
    why; without `keep_poor` they are not saved. OUT/batch.json has the counts and the folders.

    `resume` continues with the items that have no line; `retry_failed` also repeats the failed ones, and the newer line
    counts. `workers` processes detect people (default: one per core). An image that kills its worker twice, or takes
    longer than `timeout_s`, fails alone. `tta`, `hands`, `face`, `keypoints` (files instead of a detector, by image
    names), `silhouette`, `masks` (files instead of the detector's masks), `depth` (a folder of depth maps) and
    `estimates` (another program's bodies, by image names) are those of `bodyfit fit`; `config` has the fit's settings.
    An image whose estimate cannot be read fails, one without is fitted without, and its line says so.
    `progress(finished, items, entry)` is called after each item. Ctrl-C ends the run with `interrupted` set.

    Raises `OptionError` (the folder has a run, or one is active), `ImageError` (no images) and `OutputError` (disk
    full, folder removed); finished items are safe in every case.
    """
    begin = time.monotonic()
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise OptionError(f"workers must be at least 1, got {workers}")
    if not timeout_s > 0:
        raise OptionError(f"timeout_s must be a positive number of seconds, got {timeout_s:g}")
    out, lens = Path(out), Lens() if lens is None else lens
    engine = local_engine(workers, timeout_s) if engine is None else engine
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made: {error.strerror or error}") from error
    with StatusLog(out, resume=resume or retry_failed) as log:
        left_out = LeftOut()
        items, folders = find_items([str(path) for path in paths], out, _folders(out), left_out)
        if keypoints is not None and not keypoints.match([Path(item.source) for item in items]).found:
            raise OptionError(f"{keypoints.path} has keypoints of none of the {len(items)} pictures; names must match")
        skip = (*WITH_FILE, NO_PERSON) if retry_failed else (*WITH_FILE, NO_PERSON, FAILED)
        todo = [item for item in items if log.finished.get(as_text(item.source)) not in skip]
        about = {"folders": {as_text(name): as_text(folder) for folder, name in folders.items()}, "items": len(items)}
        write_json(out / _ABOUT, about)
        if model is None and (todo or estimates is not None):
            model = load_model()
        bodies = None if estimates is None or model is None else EstimateFiles(estimates, model)
        run = _Run(log, out, len(items), len(items) - len(todo), progress, keypoints, bodies, keep_poor)
        interrupted = False
        if todo and model is not None:
            wanted = parts_to_fit(model, hands, face)
            fitting = Fitting(model, lens, without_parts(config, wanted), bodies)
            looking = Looking(detector, tta, keypoints, wanted, silhouette, masks, depth)
            interrupted = run.through(engine(todo, looking, fitting))
        became = Counter(log.finished.get(as_text(item.source)) for item in items)
        summary = BatchSummary(
            items=len(items),
            done=became[DONE] + became[POOR],
            poor=became[POOR],
            no_person=became[NO_PERSON],
            failed=became[FAILED],
            skipped=run.skipped,
            seconds=time.monotonic() - begin,
            interrupted=interrupted,
            left_out=left_out.count,
            left_out_names=tuple(left_out.names),
        )
        log.check_in_place()
        write_json(out / _ABOUT, about | vars(summary))
    return summary


def local_engine(workers: int, timeout_s: float = 120.0) -> Engine:
    """Make an engine whose worker processes detect while this process fits: detection takes twenty times as long."""

    def through(
        items: Sequence[Item], looking: Looking, fitting: Fitting
    ) -> Iterator[tuple[Item, FitResult | Failure | None]]:
        with WorkerPool(looking, min(workers, len(items)), timeout_s=timeout_s) as pool:
            yield from fitted(pool.answers(iter(items)), fitting())

    return through


@dataclass
class _Run:
    """Writer of results and of the status log of a run."""

    log: StatusLog
    out: Path
    total: int
    skipped: int
    progress: Callable[[int, int, dict[str, Any] | None], None] | None
    keypoints: KeypointFiles | None = None
    estimates: EstimateFiles | None = None
    keep_poor: bool = True
    finished: int = 0

    def through(self, answers: Iterator[tuple[Item, FitResult | Failure | None]]) -> bool:
        """Write and log all outcomes; return whether Ctrl-C interrupted."""
        if self.progress:
            self.progress(self.skipped, self.total, None)
        try:
            for item, answer in answers:
                self._record({"item": item.source, **self._entry(item, answer)})
        except KeyboardInterrupt:
            return True
        finally:
            close = getattr(answers, "close", None)  # a generator: ends its workers now
            if close is not None:
                close()
        return False

    def _entry(self, item: Item, answer: FitResult | Failure | None) -> dict[str, Any]:
        """Write an item's people and return its log entry."""
        if answer is None:
            return {"status": NO_PERSON}
        if isinstance(answer, Failure):
            return {"status": FAILED, "why": answer.why}
        poor = {
            i: why for i, (s, why) in enumerate(zip(answer.status, answer.reason, strict=True)) if s is FitStatus.POOR
        }
        about: dict[str, Any] = {"poor": poor} if poor else {}
        if poor and not self.keep_poor:
            reliable = [i for i in range(len(answer)) if i not in poor]
            if not reliable:
                return {"status": FAILED, "why": _poor_words(poor)} | about
            answer = take(answer, reliable)
        notes = {i: note for i, note in enumerate(answer.mask_notes) if note}
        about |= {"mask_notes": notes} if notes else {}
        if self.estimates is not None and self.estimates.file_of(item.source) is None:
            about["note"] = f"no estimate is named as {Path(item.source).name}"
        good = [status.ok for status in answer.status]
        if not any(good):
            reasons = dict.fromkeys(reason for reason in answer.reason if reason)
            return {"status": FAILED, "why": f"no body can be placed: {'; '.join(reasons)}"} | about
        self.log.check_in_place()
        try:
            save(answer, self.out / item.target)
        except OutputError as fault:
            if is_hopeless(fault.__cause__):
                raise stopped_by(self.out, fault.__cause__) from fault
            self.log.check_in_place()
            return {"status": FAILED, "why": str(fault)}
        errors = [round(float(e), 2) if e == e else None for e in answer.reprojection_error_px]
        faults = () if self.keypoints is None else self.keypoints.faults(Path(item.source))
        about |= {"faults": list(faults)} if faults else {}  # of people who could not be read beside these
        status = DONE if sum(good) > len(poor) or not self.keep_poor else POOR
        return {"status": status, "people": sum(good), "file": item.target, "reprojection_error_px": errors} | about

    def _record(self, entry: dict[str, Any]) -> None:
        self.log.record(entry)
        self.finished += 1
        if self.progress:
            self.progress(self.skipped + self.finished, self.total, entry)


def _poor_words(poor: dict[int, str | None]) -> str:
    """Describe an image all of whose bodies are poor and left out."""
    return "no body of it is to be relied on: " + "; ".join(f"person {number}: {why}" for number, why in poor.items())


def _folders(out: Path) -> dict[str, str]:
    """Read the output names of image folders of an earlier run, so that none of its results is overwritten."""
    path = out / _ABOUT
    try:
        named = json.loads(path.read_bytes())["folders"]
        return {
            str(folder) if "://" in str(folder) else str(as_path(str(folder))): as_path(str(name), out).name
            for name, folder in named.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise OptionError(f"{path}: not of a run ({error}); give another folder") from None
