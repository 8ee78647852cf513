"""What the loops over keypoints read of a model and its points, as plain arrays; see `points` for the equations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

__all__ = ["PointTables", "TreeTables"]


class TreeTables(NamedTuple):
    """The kinematic tree of a model's body joints. A tuple with names: numba takes it as it is."""

    bones: Float[np.ndarray, "J 3"]
    """From the parent's rest joint to the joint's; the root's is its place."""
    bones_shape: Float[np.ndarray, "J 3 S"]
    """Its derivative by betas."""
    parents: Int[np.ndarray, "J"]
    """-1 for the root."""
    order: Int[np.ndarray, "J"]
    """Parents before children."""
    features: int
    """What pose blend shapes respond to, of a joint: 9 entries of R - I or 4 of a quaternion."""
    transl: int
    """The first column of the translation in the solver's vector."""
    column: Int[np.ndarray, "J"]
    """That of each joint's axis-angle."""
    betas: int
    """That of the betas."""

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
        betas: int,
    ) -> TreeTables:
        """From the rest joints (J, 3) and their derivative by betas (J, 3, S), and where variables stand."""
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
            betas,
        )


class PointTables(NamedTuple):
    """Points, each a sum of pieces that are rigid to a bone: piece = R_b l_b + w_b p_b.

    Three levels, each with pointers into the next: points, their pieces, what of the pose these respond to.
    """

    piece: Int[np.ndarray, "K1"]
    """Where each point's pieces begin."""
    bone: Int[np.ndarray, "Q"]
    """b."""
    weight: Float[np.ndarray, "Q"]
    """w_b."""
    offset: Float[np.ndarray, "Q 3"]
    """l_b of the mean shape in the rest pose."""
    offset_shape: Float[np.ndarray, "Q 3 S"]
    """Its derivative by betas."""
    answer: Int[np.ndarray, "Q1"]
    """Where the joints begin whose pose moves l_b."""
    joint: Int[np.ndarray, "N"]
    """These joints."""
    response: Float[np.ndarray, "N 3 C"]
    """Derivative of l_b by their pose features."""
    moved: Int[np.ndarray, "K1"]
    """Where the joints begin that move each point."""
    mover: Int[np.ndarray, "M"]
    """These joints, children before parents."""

    @classmethod
    def of(
        cls, pieces: list[tuple[int, int, Any]], moves: np.ndarray, parents: tuple[int, ...], like: np.ndarray
    ) -> PointTables:
        """From (point, bone, piece) in order of the points, and which joint moves which point (K, J); numbers of the
        type of `like` (S, C): betas and pose features."""
        (n_s, n_f), kind, n_k = like.shape, like.dtype, len(moves)
        points, bones = (np.array([p[i] for p in pieces], dtype=np.int64) for i in (0, 1))
        answers = [(q, m) for q, (*_, p) in enumerate(pieces) for m in p.by_features.any((0, 2)).nonzero()[0]]
        response = [pieces[q][2].by_features[:, m] for q, m in answers]
        deep = np.argsort(-depths(parents), kind="stable")
        movers = [deep[moves[k, deep]] for k in range(n_k)]

        def numbers(rows: list[np.ndarray], *shape: int) -> np.ndarray:
            return np.ascontiguousarray(np.array(rows, dtype=kind).reshape(-1, *shape))

        return cls(
            piece=np.searchsorted(points, np.arange(n_k + 1)),
            bone=bones,
            weight=np.array([p.weight for *_, p in pieces], dtype=kind),
            offset=numbers([p.offset for *_, p in pieces], 3),
            offset_shape=numbers([p.by_betas for *_, p in pieces], 3, n_s),
            answer=np.searchsorted([q for q, _ in answers], np.arange(len(pieces) + 1)),
            joint=np.array([m + 1 for _, m in answers], dtype=np.int64),
            response=numbers(response, 3, n_f),
            moved=np.cumsum([0, *map(len, movers)]),
            mover=np.concatenate([*movers, np.zeros(0, np.int64)]),
        )


def depths(parents: tuple[int, ...]) -> Int[np.ndarray, "J"]:
    """How many joints are above each."""
    found: list[int] = []
    for parent in parents:  # a parent comes before its children
        found.append(0 if parent < 0 else found[parent] + 1)
    return np.array(found)
