"""Plane sections of parts of a surface, for many bodies of one mesh at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

__all__ = ["Region", "closed", "hull_perimeters", "mesh_edges", "smoothed"]


@dataclass(frozen=True)
class Region:
    """A part of the surface, cut out along a line of equal weight, as the edges that planes may cross.

    The line cuts triangles in two, so that a section's end moves smoothly as the plane or the body does.
    """

    vertices: Int[np.ndarray, " N"]
    """The mesh's vertices inside."""
    cut: Int[np.ndarray, "K 2"]
    """Edges of the mesh that the line crosses, and where:"""
    at: Float[np.ndarray, " K"]
    edges: Int[np.ndarray, "E 2"]
    """Pairs of rows: first `vertices`, then `cut`."""

    @classmethod
    def where(
        cls, value: Float[np.ndarray, " V"], edges: Int[np.ndarray, "E 2"], sides: Int[np.ndarray, "F 3"]
    ) -> Region:
        """The part of the surface with a negative value; `sides` are the rows of each face's edges."""
        inside = value[edges] < 0
        crossed = inside[:, 0] != inside[:, 1]
        cut = np.where(inside[crossed, :1], edges[crossed], edges[crossed, ::-1])  # the inner end first
        vertices = np.flatnonzero(value < 0)
        row = np.full(len(value), -1)
        row[vertices] = np.arange(len(vertices))
        cut_row = np.where(crossed, len(vertices) + np.cumsum(crossed) - 1, -1)
        around = cut_row[sides]
        line = np.sort(around, 1)[(around >= 0).sum(1) == 2, 1:]
        kept = [row[edges[inside.all(1)]], np.stack([row[cut[:, 0]], cut_row[crossed]], 1), line]
        at = value[cut[:, 0]] / (value[cut[:, 0]] - value[cut[:, 1]])
        return cls(vertices, cut, at, np.concatenate(kept))

    def points(self, mesh: Float[np.ndarray, "V B 3"]) -> Float[np.ndarray, "M B 3"]:
        """Where the region's points are on bodies."""
        inner, outer = mesh[self.cut[:, 0]], mesh[self.cut[:, 1]]
        return np.concatenate([mesh[self.vertices], inner + self.at[:, None, None] * (outer - inner)])


def hull_perimeters(
    section: Int[np.ndarray, " P"], xy: Float[np.ndarray, "P 2"], count: int
) -> Float[np.ndarray, " count"]:
    """The perimeter of the convex hull of each section's points; NaN of a section without area.

    Points in their order about the middle make a star; a point where a star does not turn left is on no hull, and when
    there is none left the star is the hull. All sections at once: qhull takes 0.1 ms for each, 30 a body.
    """
    size = np.maximum(np.bincount(section, minlength=count), 1)
    middle = np.stack([np.bincount(section, xy[:, k], count) / size for k in (0, 1)], 1)
    ray = xy - middle[section]
    order = np.argsort(8.0 * section + np.arctan2(ray[:, 1], ray[:, 0]))
    section, xy = section[order], xy[order]
    perimeter = np.zeros(count)
    while len(section):
        rows = np.arange(len(section))
        first = np.flatnonzero(np.diff(section, prepend=-1))
        last = np.append(first[1:], len(section)) - 1
        after, before = rows + 1, rows - 1
        after[last], before[first] = first, last
        step = xy[after] - xy
        length = np.hypot(step[:, 0], step[:, 1])
        turn = step[before, 0] * step[:, 1] - step[before, 1] * step[:, 0]
        # Of points on top of each other the last stays: it has no step before it, the others have none after them.
        kept = (turn > 0) | ((length[before] == 0) & (length > 0))
        done = np.bincount(section, ~kept, count)[section] == 0
        perimeter += np.bincount(section[done], length[done], count)
        section, xy = section[kept & ~done], xy[kept & ~done]
    return np.where(perimeter > 0, perimeter, np.nan)


def mesh_edges(faces: Int[np.ndarray, "F 3"], count: int) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, "F 3"]]:
    """The edges of a mesh, each once, and the rows of each face's."""
    ends = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], -1)
    numbers, sides = np.unique(ends @ (count, 1), return_inverse=True)  # a number sorts ten times faster than a pair
    return np.stack(np.divmod(numbers, count), 1), sides.reshape(-1, 3)


def smoothed(value: Float[np.ndarray, " V"], edges: Int[np.ndarray, "E 2"], times: int) -> Float[np.ndarray, " V"]:
    """A value of vertices, averaged with the neighbours' so many times."""
    ends = np.concatenate([edges, edges[:, ::-1]])
    count = np.bincount(ends[:, 0], minlength=len(value)) + 1
    for _ in range(times):
        value = (value + np.bincount(ends[:, 0], value[ends[:, 1]], len(value))) / count
    return value


def closed(faces: Int[np.ndarray, "F 3"], count: int) -> tuple[Int[np.ndarray, "G 3"], list[Int[np.ndarray, " R"]]]:
    """Faces with every hole covered by a fan about the middle of its rim, and the rims' vertices.

    The middles are the vertices after the last. A volume without lids would depend on where the body stands.
    """
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    numbers = sides @ (count, 1)
    rim = sides[~np.isin(numbers, sides[:, ::-1] @ (count, 1))]
    if not len(rim):
        return faces, []
    graph = coo_matrix((np.ones(len(rim)), rim.T), shape=(count, count))
    _, piece = connected_components(graph, directed=False)
    pieces, which = np.unique(piece[rim[:, 0]], return_inverse=True)
    lids = np.stack([rim[:, 1], rim[:, 0], count + which], 1)
    return np.concatenate([faces, lids]), [np.unique(rim[which == k]) for k in range(len(pieces))]
