"""Set environment variables temporarily, for libraries that read them when they are imported."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["environment"]

_lock = threading.RLock()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Within the block, set each variable that the user has not set, and restore the environment afterwards.

    The environment belongs to the process: other threads see the values too, and one block runs at a time.
    """
    with _lock:
        missing = [name for name in values if name not in os.environ]
        os.environ.update({name: values[name] for name in missing})
        try:
            yield
        finally:
            for name in missing:
                os.environ.pop(name, None)
