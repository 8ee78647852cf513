"""What stands in for a part of a file that was left unread."""

from __future__ import annotations

__all__ = ["UnreadObjects"]


class UnreadObjects:
    """Stands for an array of Python objects, which an npz holds as a pickle, or for what nobody asked for: never read,
    and missed only if needed."""
