"""Abandon objects that a forked process inherits and cannot use: C++ objects whose threads stayed in the parent.

A forked child has one thread, the one that called `os.fork`. A network that was opened before refers to a thread pool
that does not exist in the child: running it may wait for ever, and so may its destructor, which joins the threads.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Protocol, runtime_checkable

__all__ = ["abandon", "watch_forks"]


@runtime_checkable
class Forkable(Protocol):
    """An object that holds others with threads of their own."""

    def after_fork(self) -> None:
        """Abandon, in the only thread of a forked child, the objects that cannot be used there."""
        ...


_holders: weakref.WeakSet[Any] = weakref.WeakSet()


def watch_forks(holder: Forkable) -> None:
    """Register a holder: every child forked later calls its `after_fork()`, while the holder lives."""
    _holders.add(holder)


def abandon(thing: object) -> None:
    """Leak an object, so that its destructor never runs, not even when the interpreter exits."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _notify_holders() -> None:
    """Call `after_fork` of all living holders."""
    for holder in list(_holders):
        holder.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_notify_holders)
