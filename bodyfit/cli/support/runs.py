"""What commands with many inputs share: each is done whatever becomes of the others; in the end the run is told of."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import bodyfit
from bodyfit.cli.support import common
from bodyfit.cli.support.wording import in_options
from bodyfit.errors import BodyfitError, OutputError
from bodyfit.runtime.json_text import plain

if TYPE_CHECKING:
    from bodyfit.body.model import BodyModel

__all__ = [
    "emptied_folder",
    "failed",
    "finish",
    "folder_names",
    "one_input",
    "poor_words",
    "run_summary",
    "say_legs",
    "say_poor",
    "timed",
]


@runtime_checkable
class Worker(Protocol):
    """What stays the same from input to input."""

    def run(self, path: Path, folder: str, /) -> dict[str, Any]:
        """Do one input, write its files and return its entry in the summary."""
        ...


def folder_names(pictures: Sequence[Path]) -> list[str]:
    """A folder for each picture, named after it; a second of the same name (in any case) gets a number."""
    used_names = {"summary.json"}
    names = []
    for picture in pictures:
        # Dots and blanks at the end cannot end a folder's name everywhere.
        stem = picture.stem.rstrip(". ") or "picture"
        name = next(
            n
            for i in range(1, len(pictures) + 3)
            if (n := stem if i == 1 else f"{stem}_{i}").casefold() not in used_names
        )
        used_names.add(name.casefold())
        names.append(name)
    return names


def one_input(worker: Worker, path: Path, folder: str, verbose: bool) -> dict[str, Any]:
    """One input, whatever happens to it."""
    try:
        entry = worker.run(path, folder)
    except BodyfitError as fault:
        message = in_options(str(fault))
        common.error(message if str(path) in message else f"{path}: {message}")
        return failed(path, "error", message)
    except Exception as fault:  # ours: it must not cost the other inputs
        return failed(path, "internal_error", common.internal_error(fault, verbose, about=f"{path}: "))
    if entry["status"] != "ok":
        common.error(f"{path}: {entry['message']}")
    return entry


def failed(path: Path, status: str, message: str) -> dict[str, Any]:
    """The entry of an input that gave nothing."""
    return {"input": str(path), "status": status, "message": message, "people": [], "files": []}


def poor_words(people: Sequence[tuple[int, str | None]]) -> str:
    """What to say of an input all of whose bodies are poor: each person's number with the reason."""
    reasons = "; ".join(f"person {number}: {reason}" for number, reason in people)
    return f"no body of it is to be relied on ({reasons})"


def say_poor(entry: dict[str, Any]) -> None:
    """A line on standard output for each poor person of an input; where all are, the error has said it."""
    for person in entry["people"] if entry["status"] == "ok" else ():
        if person["status"] == "poor":
            dropped = "" if person["files"] else ", not written"
            common.say(f"  person {person['person']}: poor{dropped}: {person['reason']}")


def say_legs(entry: dict[str, Any]) -> None:
    """A line on standard output that names the people of a picture whose legs are not visible."""
    resting = [str(person["person"]) for person in entry["people"] if person["files"] and person["legs_at_rest"]]
    if resting:
        whose = "person " + resting[0] if len(resting) == 1 else "people " + ", ".join(resting)
        common.say(f"  {whose}: legs not visible, put at rest")


def emptied_folder(out: Path, name: str, ours: re.Pattern[str]) -> Path:
    """The folder of an input, without what an earlier run left there: files whose names are `ours`, and those that it
    was writing when it was killed.

    Raises `OutputError`.
    """
    from bodyfit.runtime.atomic import is_temporary

    folder = out / name
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            if (ours.fullmatch(old.name) or is_temporary(old.name)) and old.is_file():
                old.unlink()
    except OSError as fault:
        raise OutputError(f"cannot write the folder {folder}: {fault.strerror or fault}") from None
    return folder


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Note the seconds that a step takes."""
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start


def run_summary(
    model: BodyModel,
    detector_name: str,
    entries: list[dict[str, Any]],
    *,
    seconds: float,
    interrupted: bool,
    part: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What goes into summary.json; `part` is which part of clips was taken."""
    return plain(
        {
            "bodyfit": bodyfit.__version__,
            "model": model.name,
            "gender": model.gender,
            "detector": detector_name,
            "device": str(model.device),
            **({} if part is None else {"part": part}),
            "seconds": seconds,
            "interrupted": interrupted,
            "inputs": entries,
        },
        common.DIGITS,
    )


def finish(summary: dict[str, Any], out: Path, as_json: bool) -> int:
    """Write the summary and choose the exit code."""
    from bodyfit.io import write_summary

    summary = write_summary(out, summary)
    if as_json:
        common.say_json(summary)
    if summary["interrupted"]:
        return common.INTERRUPTED
    whole = all(entry["status"] == "ok" and not entry.get("faults") for entry in summary["inputs"])
    return common.OK if whole else common.SOME_FAILED
