"""Ctrl-C ends the program within two seconds, whatever libraries make of the exception that Python raises for it.

An exception can be lost: some libraries catch everything while they are imported, and what is raised within a callback
of theirs is printed and forgotten. So a clock runs from the first Ctrl-C on; and while libraries are loaded, where
nothing is at stake, there is no exception.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

__all__ = ["EXIT_CODE", "as_keyboard_interrupt", "at_once", "came", "leave", "listen"]

EXIT_CODE = 130
_GRACE_S = 1.5
"""How long the program may take to end by itself."""


class _State:
    """State of the process, which has one terminal."""

    at_once = False
    came = False
    clock: threading.Timer | None = None


def listen() -> None:
    """Let Ctrl-C end the process at once from now on, except within `as_keyboard_interrupt`."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _on_ctrl_c)
        _State.at_once = True


@contextmanager
def as_keyboard_interrupt() -> Iterator[None]:
    """Within the block, Ctrl-C raises `KeyboardInterrupt`, and ends the process if that does not.

    Where Ctrl-C is ignored (by a background job) it stays so. Only in the main thread, as Python has it.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before, hurried = signal.signal(signal.SIGINT, _on_ctrl_c), _State.at_once
    _State.came = _State.at_once = False
    try:
        yield
    finally:
        _State.at_once = hurried
        if _State.clock is not None:
            _State.clock.cancel()
        signal.signal(signal.SIGINT, before)


@contextmanager
def at_once() -> Iterator[None]:
    """Within, Ctrl-C ends the process on the spot: for imports, while nothing has been written."""
    before, _State.at_once = _State.at_once, True
    try:
        yield
    finally:
        _State.at_once = before


def came() -> bool:
    """Whether Ctrl-C has been pressed since `as_keyboard_interrupt`."""
    return _State.came


def _on_ctrl_c(number: int, frame: FrameType | None) -> None:
    if _State.at_once:
        _end()
    if not _State.came:
        _State.came = True
        _State.clock = threading.Timer(_GRACE_S, _end)
        _State.clock.daemon = True
        _State.clock.start()
    raise KeyboardInterrupt


def leave() -> NoReturn:
    """End the process now that all is said and written, without waiting for threads that still compute."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads
            stream.flush()
    os._exit(EXIT_CODE)


def _end() -> None:
    """No exception, no clean-up: what is written is whole or has a temporary name."""
    with suppress(OSError):
        reset = b"\r\x1b[K\x1b[?25h" if os.isatty(2) else b""  # a progress bar's line goes, its cursor comes back
        os.write(2, reset + b"bodyfit: stopped by Ctrl-C\n")
    os._exit(EXIT_CODE)
