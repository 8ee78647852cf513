"""Keep a mesh that is moved step by step free of flipped faces and of new crossings."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from bodyfit.geometry.mesh_tree import MeshTree, face_normals

__all__ = ["Guard"]

_HALVINGS = 1
"""Times that a step is halved about a fault before it is taken back whole."""


class Guard:
    """Tells flipped and newly crossing faces of a moved mesh from those of a reference.

    A face is flipped where its normal turned by more than a right angle from that of the reference; it crosses anew
    where it crosses a face that it does not cross in the reference. `parents`: rows of a coarser mesh's faces that the
    faces are parts of, by which crossings are told from the reference's.
    """

    def __init__(
        self,
        vertices: Float[np.ndarray, "V 3"],
        faces: Int[np.ndarray, "F 3"],
        parents: Int[np.ndarray, " F"] | None = None,
    ) -> None:
        self._faces = faces
        self._parents = np.arange(len(faces)) if parents is None else parents
        self._normals = face_normals(vertices, faces)
        self._tree = MeshTree(vertices, faces)
        self._old = self._codes(self._tree.crossings())

    def flipped(self, vertices: Float[np.ndarray, "V 3"]) -> Bool[np.ndarray, " F"]:
        """Tell which faces are flipped."""
        return (face_normals(vertices, self._faces) * self._normals).sum(1) <= 0

    def crossing(
        self, vertices: Float[np.ndarray, "V 3"], of: Int[np.ndarray, " W"] | None = None
    ) -> Int[np.ndarray, "C 2"]:
        """List the pairs of faces that cross and do not in the reference; `of`: those with one of these faces."""
        self._tree.update(vertices)
        pairs = self._tree.crossings(of)
        return pairs[~np.isin(self._codes(pairs), self._old)]

    def step(self, start: Float[np.ndarray, "V 3"], end: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        """Move from `start`, which has no fault, towards `end`: wholly, but less far about faults.

        It ends, for at worst all vertices of faults stay at `start`, with whatever fault they had there.
        """
        share = np.ones(len(start))
        tries = np.zeros(len(start), np.int64)
        changed = None
        while True:
            at = start + share[:, None] * (end - start)
            faults = np.unique(np.r_[np.flatnonzero(self.flipped(at)), self.crossing(at, changed).ravel()])
            vertices = np.unique(self._faces[faults])
            vertices = vertices[share[vertices] > 0]
            if len(vertices) == 0:
                return at
            tries[vertices] += 1
            share[vertices] = np.where(tries[vertices] > _HALVINGS, 0, 0.5 * share[vertices])
            moved = np.zeros(len(start), bool)
            moved[vertices] = True
            changed = np.flatnonzero(moved[self._faces].any(1))  # a pair of others is as it was, without fault

    def _codes(self, pairs: Int[np.ndarray, "C 2"]) -> Int[np.ndarray, " C"]:
        of = np.sort(self._parents[pairs], 1)
        return of[:, 0] * (self._parents.max() + 1) + of[:, 1]
