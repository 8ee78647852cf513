"""Lay out a kinematic tree and its points as plain arrays for the loops; see `posed` for the equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["PointTables", "TreeTables"]


class TreeTables(NamedTuple):
    """A kinematic tree and the columns of its variables; a named tuple, which numba accepts as an argument."""

    bones: Float[np.ndarray, "J 3"]
    """Rest bone vectors, from the parent's joint to the joint; the root's is its position."""
    bones_shape: Float[np.ndarray, "J 3 S"]
    """Derivatives of the bone vectors by the coefficients of the shape."""
    parents: Int[np.ndarray, "J"]
    """Parent of each joint, -1 for the root."""
    order: Int[np.ndarray, "J"]
    """Joints in topological order, parents before children."""
    features: int
    """Number of pose features of a joint: the 9 entries of R - I or the 4 of a quaternion."""
    transl: int
    """First column of the translation in the solver's vector."""
    column: Int[np.ndarray, "J"]
    """First column of each joint's axis-angle in the solver's vector."""
    betas: int
    """First column of the betas in the solver's vector."""
    shape: Int[np.ndarray, "S"]
    """Columns of the shape's coefficients in the solver's vector: betas, then the expression if it is a variable."""
    about: Float[np.ndarray, "J 3"]
    """Axis-angles to which the variables are added."""

    @classmethod
    def of(
        cls,
        joints: np.ndarray,
        joints_shape: np.ndarray,
        parents: tuple[int, ...],
        features: int,
        *,
        transl: int,
        columns: tuple[int, ...],
        shape: Sequence[int],
        about: np.ndarray | None = None,
    ) -> TreeTables:
        """Make the tables from rest joints (J, 3), their derivatives by S coefficients (J, 3, S), and the variables'
        columns."""
        above = np.array(parents, dtype=np.int64)
        rest = np.concatenate([joints[..., None], joints_shape], 2)
        bones = rest - np.where((above < 0)[:, None, None], 0, rest[above])
        return cls(
            np.ascontiguousarray(bones[..., 0]),
            np.ascontiguousarray(bones[..., 1:]),
            above,
            np.argsort(depths(parents), kind="stable"),
            features,
            transl,
            np.array(columns, dtype=np.int64),
            shape[0],
            np.array(shape, dtype=np.int64),
            np.zeros((len(parents), 3)) if about is None else np.array(about, dtype=np.float64),
        )


class PointTables(NamedTuple):
    """Points, each a sum of pieces that are rigid to a bone b: piece = R_b l_b + w_b p_b.

    Compressed rows on three levels: points, their pieces, and the joints whose pose blend shapes move the pieces.
    """

    piece_ptr: Int[np.ndarray, "K1"]
    """Point k has the pieces piece_ptr[k] to piece_ptr[k + 1] - 1."""
    bone: Int[np.ndarray, "Q"]
    """b, the bone of each piece."""
    weight: Float[np.ndarray, "Q"]
    """w_b, the weight of the bone's joint."""
    offset: Float[np.ndarray, "Q 3"]
    """l_b, the offset in the bone's axes, of the mean shape in the rest pose."""
    offset_shape: Float[np.ndarray, "Q 3 S"]
    """Derivative of l_b by betas."""
    response_ptr: Int[np.ndarray, "Q1"]
    """Piece q responds to the joints at rows response_ptr[q] to response_ptr[q + 1] - 1 of the next two."""
    joint: Int[np.ndarray, "N"]
    """The joints whose pose blend shapes move the piece."""
    response: Float[np.ndarray, "N 3 C"]
    """Derivative of l_b by the joint's pose features."""
    mover_ptr: Int[np.ndarray, "K1"]
    """Point k is moved by the joints mover[mover_ptr[k]] to mover[mover_ptr[k + 1] - 1]."""
    mover: Int[np.ndarray, "M"]
    """Joints that move a point, children before parents."""

    @classmethod
    def of(
        cls, pieces: list[tuple[int, int, Any]], moves: np.ndarray, parents: tuple[int, ...], like: np.ndarray
    ) -> PointTables:
        """Make the tables from pieces and a mask of the joints that move each point.

        pieces: (point, bone, piece) in order of the points. moves: (K, J). like: (S, C), of the dtype and the numbers
        of betas and pose features to use.
        """
        (n_s, n_f), dtype, n_k = like.shape, like.dtype, len(moves)
        points, bones = (np.array([p[i] for p in pieces], dtype=np.int64) for i in (0, 1))
        responses = [(q, m) for q, (*_, p) in enumerate(pieces) for m in p.by_features.any((0, 2)).nonzero()[0]]
        response = [pieces[q][2].by_features[:, m] for q, m in responses]
        leaves_first = np.argsort(-depths(parents), kind="stable")
        movers = [leaves_first[moves[k, leaves_first]] for k in range(n_k)]

        def numbers(rows: list[np.ndarray], *shape: int) -> np.ndarray:
            return np.ascontiguousarray(np.array(rows, dtype=dtype).reshape(-1, *shape))

        return cls(
            piece_ptr=np.searchsorted(points, np.arange(n_k + 1)),
            bone=bones,
            weight=np.array([p.weight for *_, p in pieces], dtype=dtype),
            offset=numbers([p.offset for *_, p in pieces], 3),
            offset_shape=numbers([p.by_betas for *_, p in pieces], 3, n_s),
            response_ptr=np.searchsorted([q for q, _ in responses], np.arange(len(pieces) + 1)),
            joint=np.array([m + 1 for _, m in responses], dtype=np.int64),
            response=numbers(response, 3, n_f),
            mover_ptr=np.cumsum([0, *map(len, movers)]),
            mover=np.concatenate([*movers, np.zeros(0, np.int64)]),
        )

    def rows(self, points: Sequence[int]) -> PointTables:
        """Select some of the points."""
        pieces = [np.arange(int(self.piece_ptr[k]), int(self.piece_ptr[k + 1])) for k in points]
        chosen = np.concatenate([*pieces, np.zeros(0, np.int64)])
        responses = [np.arange(int(self.response_ptr[q]), int(self.response_ptr[q + 1])) for q in chosen]
        response = np.concatenate([*responses, np.zeros(0, np.int64)])
        movers = [self.mover[self.mover_ptr[k] : self.mover_ptr[k + 1]] for k in points]
        return PointTables(
            piece_ptr=np.cumsum([0, *map(len, pieces)]),
            bone=self.bone[chosen],
            weight=self.weight[chosen],
            offset=self.offset[chosen],
            offset_shape=self.offset_shape[chosen],
            response_ptr=np.cumsum([0, *map(len, responses)]),
            joint=self.joint[response],
            response=self.response[response],
            mover_ptr=np.cumsum([0, *map(len, movers)]),
            mover=np.concatenate([*movers, np.zeros(0, np.int64)]),
        )


def depths(parents: tuple[int, ...]) -> Int[np.ndarray, "J"]:
    """Count the ancestors of each joint."""
    depth: list[int] = []
    for parent in parents:  # a parent comes before its children
        depth.append(0 if parent < 0 else depth[parent] + 1)
    return np.array(depth)
