"""Single frames of several people put together to one motion a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bodyfit.io.motions.recording import Recording

__all__ = ["NOBODY_SAYS", "apart", "joined", "numbered", "rows_of"]

NOBODY_SAYS = "nobody says who is whom from frame to frame: people are numbered in each frame's order"


def joined(pieces: Iterable[Recording]) -> list[Recording]:
    """Recordings with one motion a person, of pieces that each hold a frame or a few, in the order that people come."""
    people: dict[str, list[Recording]] = {}
    for piece in pieces:
        people.setdefault(piece.person, []).append(piece)
    return [_one(parts) for parts in people.values()]


def _one(parts: list[Recording]) -> Recording:
    """One person's pieces one after another; what not all of them have is left out."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]

    def together(name: str) -> Any:
        tables = [getattr(part, name) for part in parts]
        same = all(table is not None for table in tables) and len({table.shape[1:] for table in tables}) == 1
        return np.concatenate(tables) if same else None

    sides = set.intersection(*(set(part.hands) for part in parts))
    hands = {side: np.concatenate([part.hands[side] for part in parts]) for side in sides}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    tables = {name: together(name) for name in ("poses", "trans", "pivot", "betas", "expression", "frames")}
    return replace(first, **tables, hands=hands, notes=notes)


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
