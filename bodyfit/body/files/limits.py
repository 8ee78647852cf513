"""Bound what reading an untrusted file may cost."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODEL_LIMITS", "MOTION_LIMITS", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds on reading one file."""

    what: str
    """The expected content, for messages: "body model"."""
    file_bytes: int
    """Most bytes of the file on disk."""
    unpacked_bytes: int
    """Most bytes of all arrays made from it, and of its decompressed content."""
    steps: int
    """Most opcodes of its pickles, each about a microsecond."""


MODEL_LIMITS = Limits("body model", 1 << 30, 1 << 30, 2_000_000)
"""The largest model, SMPL-X as a pickle, has 544 MiB and some thousand opcodes."""
MOTION_LIMITS = Limits("motion", 1 << 33, 1 << 30, 20_000_000)
"""VIBE's results hold 80 KiB of mesh a frame, which are skipped; PHALP's take about 400 opcodes a person and frame."""
