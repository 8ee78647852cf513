"""Find nearest points on a triangle mesh, and the triangles of a mesh that cross each other, by a tree of boxes.

The tree halves the faces at the median of their centres along the longest side of each box, down to leaves of a few
faces. It is complete, so that the children of node i are 2 i + 1 and 2 i + 2 and a moved mesh needs new boxes only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from bodyfit.errors import ShapeError
from bodyfit.runtime.parallel import run

__all__ = ["MeshTree", "NearestPoints", "face_normals", "vertex_normals"]

_LEAF = 4
"""Most faces in a leaf."""
_GRAIN = 256
"""Fewest points that a thread takes at a time."""


@dataclass(frozen=True)
class NearestPoints:
    """The nearest points of a mesh to N given ones."""

    face: Int[np.ndarray, " N"]
    """Face that each lies on; -1 where there is none within reach, or none of an agreeing normal."""
    weights: Float[np.ndarray, "N 3"]
    """Barycentric coordinates on that face; zeros where there is none."""
    points: Float[np.ndarray, "N 3"]
    """Positions; those of the given points where there is none."""
    distance: Float[np.ndarray, " N"]
    """Distances from the given points; infinite where there is none."""

    @property
    def found(self) -> Bool[np.ndarray, " N"]:
        """Where there is a nearest point."""
        return self.face >= 0


def face_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3"]:
    """Compute normals of length twice the area, outwards where faces are counter-clockwise from outside."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Compute unit normals of vertices, the means of their faces' by area; 0 for a vertex without area about it."""
    normals = face_normals(vertices, faces)
    total = np.stack([np.bincount(faces.ravel(), np.repeat(normals[:, k], 3), len(vertices)) for k in range(3)], 1)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)


class MeshTree:
    """A tree of bounding boxes over the faces of one mesh; exact queries, any number of connected components.

    vertices: (V, 3); faces: (F, 3) rows of vertices. Raises `ShapeError` for a mesh without faces, faces out of range
    or vertices that are not finite.
    """

    def __init__(self, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
        self.faces = np.ascontiguousarray(faces, np.int64)
        if len(faces) == 0 or self.faces.min() < 0 or self.faces.max() >= len(vertices):
            raise ShapeError(f"faces must be (F, 3) rows of the {len(vertices)} vertices, got {faces.shape}")
        self._order = _median_order(np.asarray(vertices, np.float64)[self.faces].mean(1))
        self._boxes = np.empty((2 * (len(self._order) // _LEAF) - 1, 6))
        self.update(vertices)

    def update(self, vertices: Float[np.ndarray, "V 3"]) -> None:
        """Give the mesh new positions; the tree keeps its order. Raises `ShapeError`."""
        from bodyfit.geometry.mesh_tree_loops import bound

        self.vertices = np.ascontiguousarray(vertices, np.float64)
        if not np.isfinite(self.vertices).all():
            raise ShapeError("vertices of a mesh must be finite, got NaN or infinity")
        bound(self.vertices, self.faces, self._order, self._boxes)

    def nearest(
        self,
        points: Float[np.ndarray, "N 3"],
        *,
        normals: Float[np.ndarray, "N 3"] | None = None,
        min_cosine: float = 0.0,
        within: float = np.inf,
    ) -> NearestPoints:
        """Find the nearest point of the mesh to each point.

        `normals`: unit normals of the points; faces whose normal has a smaller cosine to them than `min_cosine` are
        passed over. `within`: largest distance. The search takes a few microseconds a point. Raises `ShapeError`.
        """
        from bodyfit.geometry.mesh_tree_loops import nearest

        points = np.ascontiguousarray(points, np.float64)
        if not np.isfinite(points).all():
            raise ShapeError("points must be finite, got NaN or infinity")
        if normals is not None and normals.shape != points.shape:
            raise ShapeError(f"normals must be one a point, {points.shape}, got {normals.shape}")
        wanted = np.zeros((0, 3)) if normals is None else np.ascontiguousarray(normals, np.float64)
        face = np.empty(len(points), np.int64)
        weights, places, distance = np.empty(points.shape), np.empty(points.shape), np.empty(len(points))
        outputs = (face, weights, places, distance)
        settings = (wanted, float(min_cosine), float(within) ** 2)
        arrays = (self.vertices, self.faces, self._order, self._boxes)
        run(nearest, len(points), points, *settings, *arrays, *outputs, grain=_GRAIN)
        return NearestPoints(*outputs)

    def crossings(self, of: Int[np.ndarray, " W"] | None = None) -> Int[np.ndarray, "C 2"]:
        """List the pairs of faces without a common vertex that cross, the smaller index first, in ascending order.

        `of`: only the pairs with one of these faces.
        """
        from bodyfit.geometry.mesh_tree_loops import crossings

        wanted = np.arange(len(self.faces)) if of is None else np.ascontiguousarray(of, np.int64)
        pairs = crossings(wanted, of is None, self.vertices, self.faces, self._order, self._boxes)
        return np.unique(np.sort(pairs, 1), axis=0)


def _median_order(centres: Float[np.ndarray, "F 3"]) -> Int[np.ndarray, " S"]:
    """Order the faces by leaves: halves at the median, level by level; the last face fills up a power of two."""
    slots = _LEAF
    while slots < len(centres):
        slots *= 2
    order = np.minimum(np.arange(slots), len(centres) - 1)
    nodes = 1
    while slots // nodes > _LEAF:
        members = order.reshape(nodes, -1)
        places = centres[members]
        axis = np.ptp(places, axis=1).argmax(1)
        keys = np.take_along_axis(places, axis[:, None, None], 2)[..., 0]
        order = np.take_along_axis(members, keys.argsort(1, kind="stable"), 1).ravel()
        nodes *= 2
    return order
