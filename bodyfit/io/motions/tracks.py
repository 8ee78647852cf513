"""Single frames of several people put together to one motion a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.errors import AssetError
from bodyfit.io.motions.recording import Recording

__all__ = ["NOBODY_SAYS", "apart", "joined", "numbered", "rows_of"]

NOBODY_SAYS = "nobody says who is whom from frame to frame: people are numbered in each frame's order"


def joined(pieces: Iterable[Recording], path: Path) -> list[Recording]:
    """Recordings with one motion a person, of pieces that each hold a frame or a few, in the order that people come.

    Raises `AssetError`, naming the file, where one person's pieces are of different bodies.
    """
    people: dict[str, list[Recording]] = {}
    for piece in pieces:
        people.setdefault(piece.person, []).append(piece)
    return [_one(parts, path) for parts in people.values()]


def _one(parts: list[Recording], path: Path) -> Recording:
    """One person's pieces one after another; what not all of them have is left out."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]

    sides = set.intersection(*(set(part.hands) for part in parts))
    hands = {side: _together([part.hands[side] for part in parts]) for side in sorted(sides)}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    names = ("poses", "trans", "pivot", "betas", "expression", "frames")
    tables = {name: _together([getattr(part, name) for part in parts]) for name in names}
    if tables["poses"] is None:
        raise AssetError(f"{path}: the frames of person {first.person} are of bodies with different joints")
    there = {side: hand for side, hand in hands.items() if hand is not None}
    return replace(first, **tables, hands=there, notes=notes)


def _together(tables: list[np.ndarray | None]) -> np.ndarray | None:
    """Tables one after another; None unless all are there with the same columns."""
    there = [table for table in tables if table is not None]
    same = len(there) == len(tables) and len({table.shape[1:] for table in there}) == 1
    return np.concatenate(there) if same else None


def rows_of(recording: Recording, rows: Any) -> Recording:
    """Some of the frames; what is one for all frames stays."""
    count = len(recording.poses)
    tables = {name: getattr(recording, name) for name in ("poses", "trans", "pivot", "betas", "expression", "frames")}
    some = {name: table[rows] if table is not None and len(table) == count else table for name, table in tables.items()}
    return replace(recording, **some, hands={side: hand[rows] for side, hand in recording.hands.items()})


def apart(recording: Recording) -> Iterator[Recording]:
    """Each row as a person of its own, numbered from 0."""
    for row in range(len(recording.poses)):
        yield replace(rows_of(recording, slice(row, row + 1)), person=str(row))


def numbered(names: Iterable[str]) -> dict[str, int]:
    """The frame of each file, by the last number in its name or its folder's; by their order where there is none."""
    ordered = sorted(names)
    found = {name: re.findall(r"\d+", name) for name in ordered}
    if not all(found.values()):
        return {name: i for i, name in enumerate(ordered)}
    return {name: int(numbers[-1]) for name, numbers in found.items()}
