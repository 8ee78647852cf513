"""Compute plane cross-sections of regions of a surface, for many bodies of one topology at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

__all__ = ["Region", "close_holes", "hull_perimeters", "mesh_edges", "smooth_over_edges"]


@dataclass(frozen=True)
class Region:
    """A region of the surface, bounded by an isoline of a vertex function, as the edges that planes may cross.

    The isoline splits triangles, so that the end of a cross-section moves smoothly with the plane and the body.
    """

    vertices: Int[np.ndarray, " N"]
    """Vertices of the mesh inside the region."""
    cut: Int[np.ndarray, "K 2"]
    """Edges of the mesh that the isoline crosses, the inner vertex first."""
    at: Float[np.ndarray, " K"]
    """Where it crosses them, 0 at the inner vertex and 1 at the outer."""
    edges: Int[np.ndarray, "E 2"]
    """Edges of the region, as pairs of rows of its points: `vertices`, then the crossings `cut`."""

    @classmethod
    def where(
        cls, value: Float[np.ndarray, " V"], edges: Int[np.ndarray, "E 2"], sides: Int[np.ndarray, "F 3"]
    ) -> Region:
        """Make the region where `value` (a number a vertex) is negative; `sides` are the rows of each face's edges."""
        inside = value[edges] < 0
        crossed = inside[:, 0] != inside[:, 1]
        cut = np.where(inside[crossed, :1], edges[crossed], edges[crossed, ::-1])  # the inner end first
        vertices = np.flatnonzero(value < 0)
        row = np.full(len(value), -1)
        row[vertices] = np.arange(len(vertices))
        cut_row = np.where(crossed, len(vertices) + np.cumsum(crossed) - 1, -1)
        around = cut_row[sides]
        line = np.sort(around, 1)[(around >= 0).sum(1) == 2, 1:]
        parts = [row[edges[inside.all(1)]], np.stack([row[cut[:, 0]], cut_row[crossed]], 1), line]
        at = value[cut[:, 0]] / (value[cut[:, 0]] - value[cut[:, 1]])
        return cls(vertices, cut, at, np.concatenate(parts))

    def points(self, mesh: Float[np.ndarray, "V B 3"]) -> Float[np.ndarray, "M B 3"]:
        """Compute the region's points on bodies, from their vertices."""
        inner, outer = mesh[self.cut[:, 0]], mesh[self.cut[:, 1]]
        return np.concatenate([mesh[self.vertices], inner + self.at[:, None, None] * (outer - inner)])


def hull_perimeters(
    section: Int[np.ndarray, " P"], xy: Float[np.ndarray, "P 2"], count: int
) -> Float[np.ndarray, " count"]:
    """Compute the perimeter of the convex hull of each section's points; NaN for a section without area.

    section: each point's section number, below `count`. Sorted by angle about their mean, the points of a section form
    a star-shaped polygon; reflex and straight vertices are removed until none is left, which leaves the hull. All
    sections are processed at once: qhull takes 0.1 ms for each, and a body has 30.
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
        # Of coincident points the last is kept: it alone has a step after it.
        convex = (turn > 0) | ((length[before] == 0) & (length > 0))
        finished = np.bincount(section, ~convex, count)[section] == 0
        perimeter += np.bincount(section[finished], length[finished], count)
        section, xy = section[convex & ~finished], xy[convex & ~finished]
    return np.where(perimeter > 0, perimeter, np.nan)


def mesh_edges(faces: Int[np.ndarray, "F 3"], count: int) -> tuple[Int[np.ndarray, "E 2"], Int[np.ndarray, "F 3"]]:
    """List the edges of a mesh, each once, and the rows of each face's edges in that list; `count` vertices."""
    ends = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]], -1)
    numbers, sides = np.unique(ends @ (count, 1), return_inverse=True)  # integers sort ten times faster than pairs
    return np.stack(np.divmod(numbers, count), 1), sides.reshape(-1, 3)


def smooth_over_edges(
    value: Float[np.ndarray, " V"], edges: Int[np.ndarray, "E 2"], times: int
) -> Float[np.ndarray, " V"]:
    """Replace a value a vertex by the mean with its neighbours, so many times."""
    ends = np.concatenate([edges, edges[:, ::-1]])
    count = np.bincount(ends[:, 0], minlength=len(value)) + 1
    for _ in range(times):
        value = (value + np.bincount(ends[:, 0], value[ends[:, 1]], len(value))) / count
    return value


def close_holes(
    faces: Int[np.ndarray, "F 3"], count: int
) -> tuple[Int[np.ndarray, "G 3"], list[Int[np.ndarray, " R"]]]:
    """Close every hole by a fan of triangles about the mean of its rim; return all faces and the rims' vertices.

    The rims' means are numbered as vertices after the last. Without the fans, the volume would depend on the body's
    position.
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
