"""What the commands share: exit codes, messages, output folders, options in words."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodyfit.cli.support.interrupt import EXIT_CODE, at_once
from bodyfit.cli.support.wording import in_options
from bodyfit.errors import OptionError, OutputError
from bodyfit.runtime.file_names import as_text
from bodyfit.runtime.json_text import json_text

if TYPE_CHECKING:
    from bodyfit.body.model import BodyModel

__all__ = [
    "DIGITS",
    "INTERRUPTED",
    "OK",
    "SOME_FAILED",
    "WRONG_USE",
    "DeviceOption",
    "Gender",
    "GenderOption",
    "JsonOption",
    "KeepPoorOption",
    "ModelOption",
    "OutOption",
    "VerboseOption",
    "as_help",
    "chosen_model",
    "error",
    "internal_error",
    "lose_output",
    "output_folder",
    "output_lost",
    "progress_bar",
    "say",
    "say_json",
]

OK, SOME_FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, EXIT_CODE
DIGITS = 6
"""Significant digits of the numbers in JSON."""


class Gender(str, Enum):
    """Which of the shipped bodies."""

    NEUTRAL = "neutral"
    MALE = "male"
    FEMALE = "female"


OutOption = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results; it is made if it is not there.")]
ModelOption = Annotated[
    str, typer.Option("--model", help='Body model: "open" (shipped), or the path of an SMPL-format .npz or .pkl.')
]
GenderOption = Annotated[Gender, typer.Option("--gender", help="Which of the model's bodies.")]
DeviceOption = Annotated[
    str,
    typer.Option("--device", help='Where to compute: "cpu", "cuda" or "cuda:1". A GPU pays for hundreds of people.'),
]
KeepPoorOption = Annotated[
    bool, typer.Option("--keep-poor/--drop-poor", help="Write and draw bodies that are not to be relied on, or not.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output instead of lines.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Tell more; show tracebacks of internal errors.")]


def as_help(command: Callable[..., Any]) -> str:
    """A command's docstring for typer: prose flows, a paragraph with indented lines (examples) keeps its lines."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join("\b\n" + p if "\n    " in p else " ".join(p.split("\n")) for p in paragraphs)


class _Output:
    """State of the process's standard output."""

    lost = False


def say(line: str) -> None:
    """One line on standard output; a reader that has gone away (head, say) or a full disk does not stop the work."""
    try:
        print(as_text(line), flush=True)
    except OSError as fault:
        lose_output(fault)


def say_json(value: Any) -> None:
    """Print a value as JSON on standard output, numbers to six digits, which is all that is known."""
    say(json_text(value, digits=DIGITS, ascii_only=True))


def lose_output(fault: OSError) -> None:
    """Go on without standard output; that it is lost is told, unless it was closed by who read it."""
    if not isinstance(fault, BrokenPipeError):
        _Output.lost = True
        error(f"standard output cannot be written: {fault.strerror or fault}")
    with contextlib.suppress(OSError, ValueError):  # what waits in its buffer goes nowhere, now and at the end
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (it stays open until the end)


def output_lost() -> bool:
    """Whether something that was to be said could not be written; asked once."""
    lost, _Output.lost = _Output.lost, False
    return lost


def error(message: str, *, label: str = "error") -> None:
    """One line on standard error, with options for what the library calls its arguments."""
    with contextlib.suppress(OSError):  # nobody is left to tell
        print(as_text(f"{label}: {' '.join(in_options(message).split())}"), file=sys.stderr, flush=True)


def internal_error(fault: BaseException, verbose: bool, *, about: str = "") -> str:
    """Report an exception that is our fault, with its traceback if `verbose`; returns the message."""
    message = f"{type(fault).__name__}: {' '.join(str(fault).split())}".rstrip(": ")
    hint = "" if verbose else " (a fault in bodyfit; -v shows where)"
    error(f"{about}{message}{hint}", label="internal error")
    if verbose:
        with contextlib.suppress(OSError):
            traceback.print_exception(fault, file=sys.stderr)
    return f"internal error: {message}"


def output_folder(out: Path) -> Path:
    """The folder, made if need be and tried for writing. Raises `OutputError`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out, prefix=".bodyfit-"):
            pass
    except FileExistsError:
        raise OutputError(f"--out {out} is a file; give a folder") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise OutputError(
            f"cannot write in --out {out}: {reason[:1].lower() + reason[1:]}; give another folder"
        ) from None
    return out


def chosen_model(source: str, gender: Gender, device: str) -> BodyModel:
    """The body model on its device. Raises `AssetError` and `OptionError`."""
    with at_once():
        from bodyfit.body.model import load_model

        return load_model(source, gender=gender.value, device=_device(device))


def _device(name: str) -> str:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise OptionError(f"--device must be cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device cuda: torch sees no GPU here; leave --device out to use the CPU")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(f"--device {name}: there are only {torch.cuda.device_count()} GPUs, numbered from 0")
    if device.type not in ("cpu", "cuda"):
        raise OptionError(f"--device must be cpu, cuda or cuda:N, got {name!r}")
    return name


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar on standard error if that is a terminal; yields what moves it: step, done, of how many."""
    if not sys.stderr.isatty():
        yield lambda step, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else lines meant for a file would land on the terminal
    )
    with bar:
        task = bar.add_task("", total=None)
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)
