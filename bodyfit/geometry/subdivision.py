"""Split the long edges of a triangle mesh in halves, without gaps between split faces and whole ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["Subdivision", "split_long_edges", "unique_edges"]


@dataclass(frozen=True)
class Subdivision:
    """A finer mesh: the vertices of a coarser one, followed by the middles of some of its edges."""

    ends: Int[np.ndarray, "E 2"]
    """End vertices of each split edge."""
    faces: Int[np.ndarray, "F 3"]
    """Faces of the finer mesh."""
    parents: Int[np.ndarray, " F"]
    """The coarser mesh's face that each is a part of."""
    uv_ends: Int[np.ndarray, "U 2"]
    """Rows of the texture coordinates between which each new row lies."""
    uv_faces: Int[np.ndarray, "F 3"]
    """Rows of the texture coordinates at each face's corners; the faces' own rows where the mesh has none."""

    def refine(self, values: Float[np.ndarray, "V *K"]) -> Float[np.ndarray, "W *K"]:
        """Append the means of each edge's ends to values of the vertices: positions, weights, colours."""
        return np.concatenate([values, 0.5 * (values[self.ends[:, 0]] + values[self.ends[:, 1]])])

    def refine_uv(self, uv: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "W 2"]:
        """Append the texture coordinates of the new vertices."""
        return np.concatenate([uv, 0.5 * (uv[self.uv_ends[:, 0]] + uv[self.uv_ends[:, 1]])])


def unique_edges(faces: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, "F 3"]]:
    """List the edges, smaller vertex first, and each face's three: those from its corner k to corner k + 1."""
    sides = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), 1)
    edges, row = np.unique(sides, axis=0, return_inverse=True)
    return edges, row.reshape(-1, 3)


def split_long_edges(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    longest: float,
    *,
    uv_faces: Int[np.ndarray, "F 3"] | None = None,
    n_uv: int = 0,
) -> Subdivision:
    """Split every edge that is longer than `longest` at its middle; a face keeps its plane and its orientation.

    A face of one split edge becomes two, of two three, of three four. `uv_faces`, with the number of rows `n_uv`, are
    split alike.
    """
    edges, of_face = unique_edges(faces)
    split = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1) > longest
    new_faces, parents = _split_faces(faces, of_face, split, len(vertices))
    if uv_faces is None:
        return Subdivision(edges[split], new_faces, parents, edges[split], new_faces)
    uv_edges, uv_of_face = unique_edges(uv_faces)
    uv_split = np.zeros(len(uv_edges), bool)
    uv_split[uv_of_face[split[of_face]]] = True
    new_uv_faces, _ = _split_faces(uv_faces, uv_of_face, uv_split, n_uv)
    return Subdivision(edges[split], new_faces, parents, uv_edges[uv_split], new_uv_faces)


def _split_faces(
    faces: Int[np.ndarray, "F 3"], of_face: Int[np.ndarray, "F 3"], split: Bool[np.ndarray, " E"], n: int
) -> tuple[Int[np.ndarray, "G 3"], Int[np.ndarray, " G"]]:
    """Replace faces by their parts, with the face that each is of; the middle of the k-th split edge is n + k."""
    middle = np.where(split, n + np.cumsum(split) - 1, -1)[of_face]
    has = split[of_face]
    count = has.sum(1)
    # Turn the corners so that one split edge comes first, and of two split edges the second is the next one.
    turn = np.where(count == 1, has.argmax(1), np.where(count == 2, (has.argmin(1) + 1) % 3, 0))
    columns = (turn[:, None] + np.arange(3)) % 3
    (a, b, c), (ab, bc, ca) = (np.take_along_axis(x, columns, 1).T for x in (faces, middle))
    parts = {
        0: [(a, b, c)],
        1: [(a, ab, c), (ab, b, c)],
        2: [(ab, b, bc), (a, ab, bc), (a, bc, c)],
        3: [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)],
    }
    found = [np.stack(part, 1)[count == number] for number, some in parts.items() for part in some]
    parents = [np.flatnonzero(count == number) for number, some in parts.items() for _ in some]
    return np.concatenate(found), np.concatenate(parents)
