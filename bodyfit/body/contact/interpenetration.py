"""Measure how deeply a body's mesh penetrates itself, exactly for the mesh.

A vertex is inside where the winding number of the rest of the mesh about it is 1 or more; its depth is its distance to
that rest. The rest excludes the vertex's own neighbourhood, the skin nearer than `near_m` along the surface, so that
creases at elbows, armpits and the crotch, where neighbours fold onto each other, do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from bodyfit.body.anthropometry.cross_section import close_holes
from bodyfit.errors import OptionError, ShapeError

__all__ = ["Interpenetration", "interpenetration"]

_OFFSET_M = 1e-4
"""Distance outside the skin at which winding numbers are evaluated: there the skin itself counts 0."""
_MIN_COMPONENT = 0.05
"""Connected components with a smaller fraction of the vertices (eyes, teeth, tongue) are inside by design: ignored."""
_CELL_M = 0.01
_SHARE_M = 0.02
"""Vertices within this distance along the surface share one neighbourhood, which saves most of the time."""
_R_RAY = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
"""A rotation that takes the ray out of the planes of symmetry of bodies and boxes."""


@dataclass(frozen=True)
class Interpenetration:
    """Self-penetration of a batch of meshes."""

    depth_m: Float[Tensor, "B V"]
    """Depth of each vertex inside another part of the body; 0 outside."""
    other: Int[Tensor, "B V"]
    """A vertex of the face nearest to each penetrating vertex; -1 where the depth is 0."""
    area_m2: Float[Tensor, "B V"]
    """A third of the area of each vertex's faces."""

    @property
    def deepest_m(self) -> Float[Tensor, "B"]:
        """Depth of the deepest vertex."""
        return self.depth_m.amax(1)

    @property
    def volume_m3(self) -> Float[Tensor, "B"]:
        """Approximate volume shared by parts: half of depth times area, for both skins of a thin overlap count."""
        return 0.5 * (self.depth_m * self.area_m2).sum(1)


def interpenetration(
    vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"], *, near_m: float = 0.3
) -> Interpenetration:
    """Find the vertices of each mesh that lie inside another part of it, and their depths.

    `vertices` in metres, faces counter-clockwise from outside. Holes are closed first. Connected components count,
    except those with less than a twentieth of the vertices, such as eyes. No gradients flow. Raises `OptionError` and
    `ShapeError`.
    """
    if near_m <= 0:
        raise OptionError(f"near_m must be positive, got {near_m}")
    n_v = vertices.shape[1]
    if len(faces) == 0 or int(faces.min()) < 0 or int(faces.max()) >= n_v:
        raise ShapeError(f"faces must be (F, 3) indices of the {n_v} vertices, got {tuple(faces.shape)}")
    triangles = np.ascontiguousarray(faces.cpu().numpy(), np.int64)
    surface = _surface(triangles.tobytes(), n_v)
    if len(vertices) == 0:
        nothing = vertices.new_zeros(0, n_v)
        return Interpenetration(nothing, nothing.long(), nothing)
    meshes = vertices.detach().cpu().double().numpy()
    measured = [_depth_area(np.ascontiguousarray(mesh), surface, near_m) for mesh in meshes]
    depth, other, area = (torch.from_numpy(np.array(part).reshape(-1, n_v)) for part in zip(*measured, strict=True))
    return Interpenetration(depth.to(vertices), other.to(vertices.device), area.to(vertices))


class _Surface(NamedTuple):
    """The closed topology and its adjacency, for one list of faces."""

    faces: Int[np.ndarray, "F 3"]
    """Faces of the large components, closed by fans about added vertices."""
    fans: tuple[Int[np.ndarray, " _"], ...]
    """Rim of each hole, whose mean is an added vertex."""
    edge_ptr: Int[np.ndarray, " _"]
    """Vertex v has the neighbours edge_to[edge_ptr[v]] to edge_to[edge_ptr[v + 1] - 1]."""
    edge_to: Int[np.ndarray, " E"]
    """Neighbours along edges."""
    face_ptr: Int[np.ndarray, " _"]
    """Vertex v has the faces face_of[face_ptr[v]] to face_of[face_ptr[v + 1] - 1]."""
    face_of: Int[np.ndarray, " _"]
    """Incident faces."""


@lru_cache(maxsize=4)
def _surface(triangles: bytes, n_v: int) -> _Surface:
    """Close the mesh and list its adjacency; `triangles` are the bytes of (F, 3) int64, so that calls can be cached."""
    faces = np.frombuffer(triangles, np.int64).reshape(-1, 3)
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    piece = _pieces(faces, n_v)
    size = np.bincount(piece)
    faces = faces[size[piece[faces[:, 0]]] >= _MIN_COMPONENT * size.max()]
    faces, fans = close_holes(faces, n_v)
    n = n_v + len(fans)
    edges = np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), edges.T), (n, n))
    graph = (graph + graph.T).tocsr()
    owner = faces.ravel()
    by_vertex = owner.argsort(kind="stable")
    return _Surface(
        faces,
        tuple(fans),
        graph.indptr.astype(np.int64),
        graph.indices.astype(np.int64),
        np.searchsorted(owner[by_vertex], np.arange(n + 1)),
        by_vertex // 3,
    )


def _pieces(joined: Int[np.ndarray, "F K"], n: int) -> Int[np.ndarray, " n"]:
    """Label each vertex with its connected component."""
    to = np.roll(joined, 1, 1).ravel()
    return connected_components(coo_array((np.ones(joined.size), (joined.ravel(), to)), (n, n)), directed=False)[1]


def _depth_area(
    mesh: Float[np.ndarray, "V 3"], surface: _Surface, near_m: float
) -> tuple[Float[np.ndarray, " V"], Int[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Compute depth, nearest other vertex and area of every vertex of one mesh; NaN where it is not finite."""
    from bodyfit.body.contact import interpenetration_loops as loops

    n_v, faces = len(mesh), surface.faces
    depth, other = np.zeros(n_v), np.full(n_v, -1)
    mesh = np.concatenate([mesh, *(mesh[fan].mean(0, keepdims=True) for fan in surface.fans)]) @ _R_RAY.T
    corners = mesh[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.bincount(faces.ravel(), np.repeat(np.linalg.norm(normal, axis=1) / 6, 3), len(mesh))
    outward = np.stack([np.bincount(faces.ravel(), np.repeat(normal[:, d], 3), len(mesh)) for d in range(3)], 1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True).clip(1e-30)
    low = corners.min((0, 1))
    cells = (corners.max((0, 1)) - low) // _CELL_M + 1
    if not np.isfinite(cells).all():
        return np.full(n_v, np.nan), other, area[:n_v]
    nx, ny = int(cells[0]), int(cells[1])
    start, items = loops.faces_by_cell(corners, low, _CELL_M, nx, ny)
    queries = mesh + _OFFSET_M * outward
    count = loops.winding(queries, mesh, faces, low, _CELL_M, nx, ny, start, items)
    used = np.diff(surface.face_ptr) > 0
    inside = ((count >= 1) & used)[:n_v].nonzero()[0]
    source = np.repeat(np.arange(len(mesh)), np.diff(surface.edge_ptr))
    length = np.linalg.norm(mesh[source] - mesh[surface.edge_to], axis=1)
    centres = corners.mean(1)
    depth[inside], face = loops.depths(
        inside,
        queries[inside],
        count[inside],
        near_m,
        _SHARE_M,
        mesh,
        faces,
        centres,
        np.linalg.norm(corners - centres[:, None], axis=2).max(1),
        0.5 * normal,
        (surface.edge_ptr, surface.edge_to, length),
        (surface.face_ptr, surface.face_of),
    )
    # In faces of a fan only the last corner is an added vertex.
    other[inside] = np.where(face >= 0, faces[face, 0], -1)
    return depth, other, area[:n_v]
