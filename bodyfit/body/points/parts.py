"""Lay out the points of hands and faces for the loops: what moves a part as a whole, and what moves it within.

All joints above a hand or a face turn its points like a rigid body. Their derivatives are those by a twist (u, omega)
of the part about its anchor, the lowest of these joints, times the twist that a unit change of each joint makes. Sums
over hundreds of points then have 6 columns for the whole chain of the body's joints; only joints within the part,
joints that move some of a point, and pose blend shapes have columns of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from bodyfit.body.points.posed import Points
from bodyfit.body.points.tables import PointTables

__all__ = ["BLOCK", "SIZE", "PartTables"]

SIZE = 6
"""The reduced column of the logarithm of a part's size, after those of the twist."""
BLOCK = 4
"""Points whose sums are added up at once."""


class PartTables(NamedTuple):
    """Parts of the body by their points; a named tuple, which numba accepts as an argument.

    The reduced columns of a part: the twist's translation (3) and rotation (3), the logarithm of its size, the last
    coefficients of the shape (the expression), the axis-angles of its joints, those that move most points first.
    """

    points: PointTables
    start: Int[np.ndarray, "P1"]
    """Part p has the points start[p] to start[p + 1] - 1."""
    anchor: Int[np.ndarray, "P"]
    """The lowest joint that moves the whole part."""
    rigid_ptr: Int[np.ndarray, "P1"]
    rigid: Int[np.ndarray, "R"]
    """The joints that move the whole part, by compressed rows."""
    mover_ptr: Int[np.ndarray, "K1"]
    mover: Int[np.ndarray, "M"]
    """The other joints that move some of each point, children before parents."""
    mover_column: Int[np.ndarray, "M"]
    """Their first reduced columns."""
    response_column: Int[np.ndarray, "N"]
    """First reduced column of the joint of each pose blend shape."""
    column_ptr: Int[np.ndarray, "K1"]
    column: Int[np.ndarray, "C"]
    """Reduced columns in which the point's derivatives may differ from 0, ascending."""
    block_ptr: Int[np.ndarray, "N1"]
    """Block n has the points block[block_ptr[n]] to block[block_ptr[n + 1] - 1], which have the same columns."""
    block: Int[np.ndarray, "K"]
    part_block: Int[np.ndarray, "P1"]
    """Part p has the blocks part_block[p] to part_block[p + 1] - 1."""
    coefficients: int
    """How many of the last shape coefficients have columns."""
    reduced: Int[np.ndarray, "P"]
    """Number of reduced columns of each part."""
    full: Int[np.ndarray, "P W"]
    """The solver's column of each reduced column from the seventh (`SIZE`) on; -1 for none."""
    offset: Int[np.ndarray, "P"]
    """First of the solver's columns of each part's offset; -1 for none."""

    @classmethod
    def of(
        cls,
        points: Points,
        parts: int,
        *,
        columns: Sequence[int],
        expression: Sequence[int],
        size: Sequence[int],
        offset: Sequence[int],
        rows: Sequence[int] | None = None,
    ) -> PartTables:
        """Make the tables of equally many points for each of `parts` parts.

        `columns`: the solver's first column of each joint; `expression`: those of the last shape coefficients; `size`,
        `offset`: for each part that of its logarithmic size and the first of its offset, -1 for none. `rows`: which of
        the points are taken; all of them by default.
        """
        tables, model = points.tables, points.model
        known = np.array(points.known)
        if rows is not None:
            tables, known = tables.rows(rows), known[list(rows)]
        n_k = len(known)
        start = np.linspace(0, n_k, parts + 1).astype(np.int64)
        above = [set(_chain(model.parents, joint)) for joint in range(model.num_joints)]
        bones = [tables.bone[tables.piece_ptr[k] : tables.piece_ptr[k + 1]].tolist() for k in range(n_k)]
        responses = [
            tables.joint[tables.response_ptr[tables.piece_ptr[k]] : tables.response_ptr[tables.piece_ptr[k + 1]]]
            for k in range(n_k)
        ]
        expressive = len(expression) if _moves(points, tables, len(expression)) else 0
        rigid, anchor, joints, movers = [], [], [], []
        for p in range(parts):
            own = [k for k in range(start[p], start[p + 1]) if known[k]]
            whole = set.intersection(*(above[bone] for k in own for bone in bones[k]))
            rigid.append(sorted(whole))
            anchor.append(max(whole, key=lambda joint: len(above[joint])))
            for k in range(start[p], start[p + 1]):
                some = set().union(*(above[bone] for bone in bones[k])) - whole if known[k] else set()
                movers.append(sorted(some, key=lambda joint: -len(above[joint])))
            turned = Counter(j for k in own for j in {*movers[k], *responses[k].tolist()})
            joints.append([joint for joint, _ in turned.most_common()])
        count = np.array([SIZE + 1 + expressive + 3 * len(own) for own in joints])
        width = int(-(-count.max() // 16) * 16)
        full = np.full((parts, width), -1, dtype=np.int64)
        used, mover_column, response_column = [], [], np.zeros(len(tables.joint), np.int64)
        for p in range(parts):
            place = {joint: SIZE + 1 + expressive + 3 * i for i, joint in enumerate(joints[p])}
            for joint, at in place.items():
                full[p, at : at + 3] = columns[joint] + np.arange(3)
            full[p, SIZE] = size[p]
            full[p, SIZE + 1 : SIZE + 1 + expressive] = list(expression)[len(expression) - expressive :]
            for k in range(start[p], start[p + 1]):
                mover_column += [place[j] for j in movers[k]]
                first = tables.response_ptr[tables.piece_ptr[k]]
                response_column[first : first + len(responses[k])] = [place.get(j, 0) for j in responses[k].tolist()]
                own = {place[j] + c for j in (*movers[k], *responses[k].tolist()) if known[k] for c in range(3)}
                used.append([*range(SIZE + 1 + expressive), *sorted(own)])
        blocks, part_block = _blocks(used, start)
        return cls(
            tables,
            start,
            np.array(anchor, np.int64),
            np.cumsum([0, *map(len, rigid)]),
            np.array([j for own in rigid for j in own], np.int64),
            np.cumsum([0, *map(len, movers)]),
            np.array([j for own in movers for j in own], np.int64),
            np.array(mover_column, np.int64),
            response_column,
            np.cumsum([0, *map(len, used)]),
            np.array([c for own in used for c in own], np.int64),
            np.cumsum([0, *map(len, blocks)]),
            np.array([k for block in blocks for k in block], np.int64),
            part_block,
            expressive,
            count,
            full,
            np.array(offset, np.int64),
        )


def _blocks(used: list[list[int]], start: np.ndarray) -> tuple[list[list[int]], Int[np.ndarray, "P1"]]:
    """Group the points of each part by their columns, at most `BLOCK` in a group."""
    blocks, first = [], [0]
    for p in range(len(start) - 1):
        by_columns: dict[tuple[int, ...], list[int]] = {}
        for k in range(start[p], start[p + 1]):
            by_columns.setdefault(tuple(used[k]), []).append(k)
        blocks += [own[i : i + BLOCK] for own in by_columns.values() for i in range(0, len(own), BLOCK)]
        first.append(len(blocks))
    return blocks, np.array(first, np.int64)


def _chain(parents: Sequence[int], joint: int) -> list[int]:
    """List a joint and its ancestors."""
    found = []
    while joint >= 0:
        found.append(joint)
        joint = parents[joint]
    return found


def _moves(points: Points, tables: PointTables, count: int) -> bool:
    """Tell whether the last `count` coefficients of the shape move any of the points."""
    if not count:
        return False
    by_joints = points.model.joints_shapedirs[..., -count:].abs().amax((1, 2)).cpu().numpy()
    return bool(np.abs(tables.offset_shape[..., -count:]).max(initial=0) > 0 or by_joints[tables.bone].max() > 0)
