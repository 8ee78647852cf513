"""Lay what hangs free on the posed body: skirts on the thighs, long hair on shoulders and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from bodyfit.appearance.catalogue import piece_arrays
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.raster.coverage import normals_of

__all__ = ["hangs_free", "settle"]

_ROUNDS = 4
"""Times that offsets are carried over to neighbours, so that cloth gives way around what pushes it."""
_SUNK_M = 0.15
"""A vertex farther than this below the nearest skin is not lifted: it is on the other side of the limb."""


@dataclass(frozen=True)
class _Rest:
    """What a kind of piece rests on."""

    parts: tuple[str, ...]
    """Of the body."""
    gap_m: float
    """How far off the skin it lies: over clothes more."""


_RESTS = {
    "skirt": _Rest(("left_hip", "right_hip", "left_knee", "right_knee", "pelvis"), 0.008),
    **dict.fromkeys(
        ("long01", "braid01", "ponytail01", "bob01", "bob02"),
        _Rest(("spine2", "spine3", "neck", "left_collar", "right_collar", "left_shoulder", "right_shoulder"), 0.014),
    ),
}


@dataclass(frozen=True, eq=False)
class _Loose:
    """A piece that hangs free, and the skin that it may lie on."""

    free: Bool[np.ndarray, "P"]
    """Vertices that may move."""
    mean: scipy.sparse.csr_matrix
    """(P, P) of a vertex's neighbours."""
    skin: Int[np.ndarray, "N"]
    """Vertices of the body."""
    gap_m: float


def hangs_free(name: str) -> bool:
    """Tell whether a piece is to be settled."""
    return name in _RESTS


def settle(
    name: str,
    vertices: Float[np.ndarray, "P 3"],
    skin: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
) -> Float[np.ndarray, "P 3"]:
    """Lift the vertices of a piece out of the posed skin, metres, and their neighbours with them.

    A vertex under the tangent plane of the nearest skin vertex, or nearer above it than the gap, goes up along the
    normal. Nothing falls: what is lifted from has no weight of its own.
    """
    loose = _loose(name)
    normals = normals_of(np.ascontiguousarray(skin, np.float32), faces.astype(np.int32))[loose.skin]
    points = skin[loose.skin]
    distance, near = KDTree(points).query(vertices[loose.free])
    height = ((vertices[loose.free] - points[near]) * normals[near]).sum(1)
    lift = np.where((distance < _SUNK_M) & (height < loose.gap_m), loose.gap_m - height, 0.0)
    if not lift.any():
        return vertices
    offset = np.zeros_like(vertices)
    offset[loose.free] = lift[:, None] * normals[near]
    own = np.linalg.norm(offset, axis=1)
    for _ in range(_ROUNDS):
        spread = loose.mean @ offset
        more = (np.linalg.norm(spread, axis=1) > own) & loose.free
        offset[more] = spread[more]
        own = np.linalg.norm(offset, axis=1)
    return vertices + offset


@lru_cache(maxsize=16)
def _loose(name: str) -> _Loose:
    piece, rest = piece_arrays(name), _RESTS[name]
    shared = read_archive(asset_path("body", "open.npz"))
    names, joints = ([str(one) for one in shared[key]] for key in ("part_names", "joint_names"))
    skin = np.flatnonzero(np.isin(shared["part_labels"], [names.index(part) for part in rest.parts]))
    fixed = piece.weights[:, joints.index("head")] > 0.97
    if name == "skirt":
        fixed = piece.weights[:, [joints.index(one) for one in ("left_hip", "right_hip")]].sum(1) < 0.25
    count = len(fixed)
    edges = np.concatenate([piece.faces[:, [0, 1]], piece.faces[:, [1, 2]], piece.faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    edges = np.unique(edges, axis=0)
    share = 1 / np.bincount(edges[:, 0], minlength=count)[edges[:, 0]]
    mean = scipy.sparse.csr_matrix((share, (edges[:, 0], edges[:, 1])), shape=(count, count))
    return _Loose(~fixed, mean, skin, rest.gap_m)
