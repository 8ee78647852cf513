"""Ctrl-C ends the program, whatever becomes of the exception."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bodyfit.cli.main import main
from bodyfit.cli.support import interrupt

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def _ended(code: str, arguments: tuple[str, ...] = ()) -> tuple[int, float, str]:
    """Run code that says "now" when Ctrl-C is to come: (exit code, seconds from then, standard error)."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # pytest itself may run in the background
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, time.monotonic() - start, err


_SWALLOWING = """
import time
from bodyfit.cli.support import interrupt
with interrupt.as_keyboard_interrupt():
    {with_}
        said = False
        while True:
            try:
                if not said:
                    said = True
                    print("now", flush=True)
                time.sleep(0.01)
            except BaseException:
                print("swallowed", flush=True)
"""


@pytest.mark.parametrize("with_", ["if True:", "with interrupt.at_once():"])
def test_an_exception_that_is_swallowed_ends_the_program_all_the_same(with_):
    code, seconds, err = _ended(_SWALLOWING.format(with_=with_))
    assert (code, err) == (130, "bodyfit: stopped by Ctrl-C\n")
    assert seconds < (2.5 if with_ == "if True:" else 1.0)  # 1.5 s and at once, on a machine with other work


def test_threads_that_compute_do_not_keep_it():
    code = """
import sys, threading, time
from bodyfit.cli import __main__ as program, main
def work(*_, **__):
    threading.Thread(target=time.sleep, args=(30,)).start()
    print("now", flush=True)
    time.sleep(30)
main.app = work
sys.argv = ["bodyfit", "fit"]
program.run()
"""
    code, seconds, err = _ended(code)
    assert (code, err) == (130, "bodyfit: stopped by Ctrl-C\n")
    assert seconds < 2.5


def test_a_fault_after_ctrl_c_is_ctrl_c(monkeypatch, capsys):
    """Some libraries make an error of their own of it."""
    import bodyfit.cli.main as program

    def stumble(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise ImportError("cannot import name of all things") from None

    monkeypatch.setattr(program, "app", stumble)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "bodyfit: stopped by Ctrl-C\n"


def test_a_program_that_ignores_ctrl_c_goes_on_ignoring_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt.as_keyboard_interrupt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handler_of_before_comes_back():
    before = signal.getsignal(signal.SIGINT)
    assert main(["--version"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
