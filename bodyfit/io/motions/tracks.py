"""Concatenate single frames of several people into one motion a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.errors import AssetError
from bodyfit.io.motions.recording import Recording

__all__ = ["UNTRACKED", "concatenate_people", "frame_numbers", "rows_of", "split_rows"]

UNTRACKED = "nobody says who is whom from frame to frame: people are numbered in each frame's order"


def concatenate_people(pieces: Iterable[Recording], path: Path) -> list[Recording]:
    """Concatenate pieces of one or more frames into one recording a person, in order of appearance.

    Raises `AssetError`, naming the file, where one person's pieces are of different bodies.
    """
    people: dict[str, list[Recording]] = {}
    for piece in pieces:
        people.setdefault(piece.person, []).append(piece)
    return [_concatenate(parts, path) for parts in people.values()]


def _concatenate(parts: list[Recording], path: Path) -> Recording:
    """Concatenate one person's pieces; drop what not all of them have. Raises `AssetError`."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]

    sides = set.intersection(*(set(part.hands) for part in parts))
    hands = {side: _concatenate_tables([part.hands[side] for part in parts]) for side in sorted(sides)}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    names = ("poses", "trans", "pivot", "betas", "expression", "frames")
    tables = {name: _concatenate_tables([getattr(part, name) for part in parts]) for name in names}
    if tables["poses"] is None:
        raise AssetError(f"{path}: the frames of person {first.person} are of bodies with different joints")
    complete = {side: hand for side, hand in hands.items() if hand is not None}
    return replace(first, **tables, hands=complete, notes=notes)


def _concatenate_tables(tables: list[np.ndarray | None]) -> np.ndarray | None:
    """Concatenate tables; None unless all are present with the same columns."""
    present = [table for table in tables if table is not None]
    same = len(present) == len(tables) and len({table.shape[1:] for table in present}) == 1
    return np.concatenate(present) if same else None


def rows_of(recording: Recording, rows: Any) -> Recording:
    """Select frames; values that hold for all frames are unchanged."""
    count = len(recording.poses)
    tables = {name: getattr(recording, name) for name in ("poses", "trans", "pivot", "betas", "expression", "frames")}
    some = {name: table[rows] if table is not None and len(table) == count else table for name, table in tables.items()}
    return replace(recording, **some, hands={side: hand[rows] for side, hand in recording.hands.items()})


def split_rows(recording: Recording) -> Iterator[Recording]:
    """Yield each row as a separate person, numbered from 0."""
    for row in range(len(recording.poses)):
        yield replace(rows_of(recording, slice(row, row + 1)), person=str(row))


def frame_numbers(names: Iterable[str]) -> dict[str, int]:
    """Return the frame of each file by the last number in its path, or by order where a path has none."""
    ordered = sorted(names)
    digits = {name: re.findall(r"\d+", name) for name in ordered}
    if not all(digits.values()):
        return {name: i for i, name in enumerate(ordered)}
    return {name: int(numbers[-1]) for name, numbers in digits.items()}
