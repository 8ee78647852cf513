"""Mark a part of a file that was not read."""

from __future__ import annotations

__all__ = ["UnreadObjects"]


class UnreadObjects:
    """Marks an array of Python objects, which an npz holds as a pickle, or a value that was ignored."""
