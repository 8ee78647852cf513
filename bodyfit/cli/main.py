"""The program `bodyfit`: its commands, and how every mistake ends in one line and an exit code.

Exit codes: 0 all went well, 1 some inputs gave nothing, 2 wrong use, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from bodyfit.cli.avatar import avatar
from bodyfit.cli.batch import batch
from bodyfit.cli.convert import convert
from bodyfit.cli.doctor import doctor
from bodyfit.cli.evaluate import evaluate
from bodyfit.cli.fit import fit
from bodyfit.cli.info import info
from bodyfit.cli.random import random
from bodyfit.cli.register import register
from bodyfit.cli.render import render
from bodyfit.cli.report import report
from bodyfit.cli.scene import scene
from bodyfit.cli.shape import shape
from bodyfit.cli.support import common, interrupt
from bodyfit.cli.turn import turn
from bodyfit.cli.video import video
from bodyfit.cli.view import view
from bodyfit.errors import BodyfitError

__all__ = ["app", "main"]

app = typer.Typer(
    name="bodyfit",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fit", help=common.as_help(fit))(fit)
app.command("video", help=common.as_help(video))(video)
app.command("batch", help=common.as_help(batch))(batch)
app.command("register", help=common.as_help(register))(register)
app.command("render", help=common.as_help(render))(render)
app.command("avatar", help=common.as_help(avatar))(avatar)
app.command("turn", help=common.as_help(turn))(turn)
app.command("shape", help=common.as_help(shape))(shape)
app.command("random", help=common.as_help(random))(random)
app.command("scene", help=common.as_help(scene))(scene)
app.command("convert", help=common.as_help(convert))(convert)
app.command("info", help=common.as_help(info))(info)
app.command("doctor", help=common.as_help(doctor))(doctor)
app.command("report", help=common.as_help(report))(report)
app.command("view", help=common.as_help(view))(view)
app.command("eval", help=common.as_help(evaluate))(evaluate)


def _version(wanted: bool) -> bool:
    if wanted:
        import bodyfit

        common.say(f"bodyfit {bodyfit.__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> int:
    """Posed, shaped 3D bodies from photographs: start with [bold]bodyfit fit photo.jpg -o out[/bold]."""
    return common.OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code; `arguments` default to those of the process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    arguments = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    verbose = "-v" in arguments or "--verbose" in arguments
    if "" in arguments:  # as a path it would be the folder where one stands
        common.error("an argument is empty; is it a variable of the shell that is not set?")
        return common.WRONG_USE
    with interrupt.as_keyboard_interrupt():
        code = _run(arguments, verbose)
    if verbose:
        _tell_compiled()
    return common.SOME_FAILED if common.output_lost() and code == common.OK else code


def _run(arguments: Sequence[str], verbose: bool) -> int:
    try:
        with warnings.catch_warnings():
            if not verbose:
                warnings.simplefilter("ignore")  # libraries' notes to programmers
            code = app(args=arguments, prog_name="bodyfit", standalone_mode=False)
        return code if isinstance(code, int) else common.OK
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except Exception as error:
        if interrupt.came():  # some libraries make an error of their own of it
            return _interrupted()
        if isinstance(error, BodyfitError):
            common.error(str(error))
            return common.WRONG_USE
        usage = getattr(error, "format_message", None)  # how typer's and click's own errors tell themselves apart
        if usage is not None:
            dashed = next((name for name in arguments if name.startswith("-") and os.path.exists(name)), None)
            hint = f"see: {_help_line(arguments)}" if dashed is None else f"the file {dashed} is given as ./{dashed}"
            common.error(f"{usage()} ({hint})")
            return common.WRONG_USE
        if isinstance(error, OSError) and _output_fails():
            return common.OK
        common.internal_error(error, verbose)
        return common.SOME_FAILED


def _output_fails() -> bool:
    """Whether what typer printed (help, say) still waits for a standard output that does not take it."""
    try:
        sys.stdout.flush()
    except OSError as fault:
        common.lose_output(fault)
        return True
    return False


def _tell_compiled() -> None:
    """How long the compiler took, if it has run."""
    compiled = sys.modules.get("bodyfit.runtime.compiled")
    loops, seconds = compiled.compiled_so_far() if compiled is not None else (0, 0.0)
    if loops:
        common.error(f"compiled {loops} loops in {seconds:.1f} s", label="note")


def _interrupted() -> int:
    common.error("stopped by Ctrl-C", label="bodyfit")
    return common.INTERRUPTED


def _help_line(arguments: Sequence[str]) -> str:
    names = [command.name for command in app.registered_commands]
    return " ".join(["bodyfit", *[a for a in arguments if a in names][:1], "--help"])
