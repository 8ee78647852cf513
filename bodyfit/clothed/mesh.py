"""The coarse meshes on the open body's skin that the network of clothed surfaces works on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.geometry.mesh_tree import vertex_normals

__all__ = ["SurfaceMesh", "surface_mesh"]


@dataclass(frozen=True, eq=False)
class SurfaceMesh:
    """Two coarse meshes over some of the open body's vertices: M medium ones, of which the first A are anchors.

    The network moves the anchors, whose moves are interpolated to all vertices; it is shown, and trained by, the medium
    mesh. Made by `scripts/train/clothed/mesh.py`.
    """

    vertices: Int[np.ndarray, "M"]
    """Rows of the body's vertices, by farthest points: any first ones lie evenly over the skin."""
    faces: Int[np.ndarray, "F 3"]
    """Outward triangles over the medium vertices."""
    anchors: int
    """A, how many of them are anchors."""
    neighbours: Int[np.ndarray, "A K"]
    """Anchors joined to each anchor; its own row where it has fewer than K."""
    edges: Int[np.ndarray, "E 2"]
    """Pairs of anchors that are joined."""
    near: Int[np.ndarray, "V 4"]
    """The anchors that move each of the body's vertices."""
    near_weights: Float[np.ndarray, "V 4"]
    """Their weights; rows sum to 1."""
    outer: Bool[np.ndarray, "V"]
    """Vertices that can be seen from outside: not those of the mouth and of the eyeballs."""
    fixed: Bool[np.ndarray, "A"]
    """Anchors that a mask's outline does not move: fingers, toes and ears, which are thin, and the face."""

    def spread(self, at_anchors: Float[np.ndarray, "A C"]) -> Float[np.ndarray, "V C"]:
        """Interpolate what is at the anchors to all of the body's vertices."""
        return self.spreading @ at_anchors

    @cached_property
    def spreading(self) -> csr_array:
        """The (V, A) matrix of `spread`."""
        count, each = self.near.shape
        rows = np.repeat(np.arange(count), each)
        return csr_array((self.near_weights.ravel(), (rows, self.near.ravel())), (count, self.anchors))

    def normals(self, points: Float[np.ndarray, "M 3"]) -> Float[np.ndarray, "M 3"]:
        """Compute unit normals of the medium vertices."""
        return vertex_normals(points, self.faces)


@lru_cache(maxsize=1)
def surface_mesh() -> SurfaceMesh:
    """Read the meshes that ship. Raises `AssetError`."""
    stored = read_archive(asset_path("clothed", "mesh.npz"))
    weights = stored["near_weights"].astype(np.float64)
    return SurfaceMesh(
        vertices=stored["vertices"].astype(np.int64),
        faces=stored["faces"].astype(np.int64),
        anchors=int(stored["neighbours"].shape[0]),
        neighbours=stored["neighbours"].astype(np.int64),
        edges=stored["edges"].astype(np.int64),
        near=stored["near"].astype(np.int64),
        near_weights=weights / weights.sum(1, keepdims=True),
        outer=np.unpackbits(stored["outer"], count=len(weights)).astype(bool),
        fixed=np.unpackbits(stored["fixed"], count=len(stored["neighbours"])).astype(bool),
    )
