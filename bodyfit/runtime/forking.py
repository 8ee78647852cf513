"""What a forked process inherits and cannot use: objects of C++ libraries whose threads stayed in the parent.

A forked child has one thread, the one that called `os.fork`. A network or a graph that was opened before still has its
thread pool on paper: running it may wait for ever, and so does its destructor, which joins the threads.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Protocol, runtime_checkable

__all__ = ["abandon", "watch_forks"]


@runtime_checkable
class Forkable(Protocol):
    """Holds objects with threads of their own."""

    def after_fork(self) -> None:
        """Called in a forked child, in its only thread: `abandon` what cannot be used there."""
        ...


_holders: weakref.WeakSet[Any] = weakref.WeakSet()


def watch_forks(holder: Forkable) -> None:
    """Call `holder.after_fork()` in every child that is forked from now on, for as long as the holder lives."""
    _holders.add(holder)


def abandon(thing: object) -> None:
    """Keep an object for ever, so that its destructor never runs, not even when the interpreter ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _tell_holders() -> None:
    for holder in list(_holders):
        holder.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_tell_holders)
