"""How much a file of others may ask for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODEL_LIMITS", "MOTION_LIMITS", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds on reading one file."""

    what: str
    """What such a file is expected to hold, for messages: "body model"."""
    file_bytes: int
    """Of the file as it lies on the disk."""
    made_bytes: int
    """Of all arrays that are made from it, and of what it unpacks to."""
    steps: int
    """Opcodes of its pickles: the reader takes about a microsecond each."""


MODEL_LIMITS = Limits("body model", 1 << 30, 1 << 30, 2_000_000)
"""The largest model known, SMPL-X as a pickle, has 544 MiB and some thousand steps."""
MOTION_LIMITS = Limits("motion", 1 << 33, 1 << 30, 20_000_000)
"""VIBE's results hold 80 KiB of mesh a frame, which are passed over; PHALP's take about 400 steps a person and
frame."""
