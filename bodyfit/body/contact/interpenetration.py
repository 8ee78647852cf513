"""How deep a body's mesh runs into itself, exact for the mesh.

A vertex is inside where the winding number of the rest of the mesh about it is 1 or more; its depth is its distance
from that rest. The rest leaves out the vertex's own neighbourhood, the skin nearer than `near_m` along the surface, so
that a crease at an elbow, an armpit or the crotch, where neighbours fold onto each other, does not count.
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

from bodyfit.body.anthropometry.cross_section import closed
from bodyfit.errors import OptionError, ShapeError

__all__ = ["Interpenetration", "interpenetration"]

_ASIDE_M = 1e-4
"""How far before the skin its winding number is asked for: there the skin itself counts 0."""
_ORGAN = 0.05
"""A piece of its own with less than this part of the vertices (eyes, teeth, tongue) belongs where it sits."""
_CELL_M = 0.01
_SHARE_M = 0.02
"""Vertices this near along the surface share one neighbourhood, which saves most of the time."""
_R_RAY = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
"""A rotation after which no body's plane of symmetry, nor a box's side, holds the ray."""


@dataclass(frozen=True)
class Interpenetration:
    """Self-penetration of a batch of meshes."""

    depth_m: Float[Tensor, "B V"]
    """How far each vertex lies inside another part of the body; 0 outside."""
    other: Int[Tensor, "B V"]
    """A vertex of the skin that this depth is measured from; -1 where there is no depth."""
    area_m2: Float[Tensor, "B V"]
    """A third of the area of each vertex's faces: the skin that it stands for."""

    @property
    def deepest_m(self) -> Float[Tensor, "B"]:
        """Depth of the deepest vertex."""
        return self.depth_m.amax(1)

    @property
    def volume_m3(self) -> Float[Tensor, "B"]:
        """About the volume that parts share: half of depth times area, for a thin overlap has two such skins."""
        return 0.5 * (self.depth_m * self.area_m2).sum(1)


def interpenetration(
    vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"], *, near_m: float = 0.3
) -> Interpenetration:
    """What of each mesh lies inside another part of it; `vertices` in metres, faces counter-clockwise from outside.

    Holes are closed before anything is asked. Pieces of their own count as the rest does, but for those with less than
    a twentieth of the vertices, such as eyes, which are left out. No gradients flow.
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
    found = [_depth_area(np.ascontiguousarray(mesh), surface, near_m) for mesh in meshes]
    depth, other, area = (torch.from_numpy(np.array(part).reshape(-1, n_v)) for part in zip(*found, strict=True))
    return Interpenetration(depth.to(vertices), other.to(vertices.device), area.to(vertices))


class _Surface(NamedTuple):
    """What the check needs of a closed topology."""

    faces: Int[np.ndarray, "F 3"]
    """Of the large pieces, closed by fans about added vertices."""
    fans: tuple[Int[np.ndarray, " _"], ...]
    """Rim of each hole, whose mean is an added vertex."""
    edge_ptr: Int[np.ndarray, " _"]
    edge_to: Int[np.ndarray, " E"]
    face_ptr: Int[np.ndarray, " _"]
    face_of: Int[np.ndarray, " _"]


@lru_cache(maxsize=4)
def _surface(triangles: bytes, n_v: int) -> _Surface:
    faces = np.frombuffer(triangles, np.int64).reshape(-1, 3)
    faces = faces[(faces != np.roll(faces, 1, 1)).all(1)]
    piece = _pieces(faces, n_v)
    size = np.bincount(piece)
    faces = faces[size[piece[faces[:, 0]]] >= _ORGAN * size.max()]
    faces, fans = closed(faces, n_v)
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
    """Label of each vertex's connected piece."""
    to = np.roll(joined, 1, 1).ravel()
    return connected_components(coo_array((np.ones(joined.size), (joined.ravel(), to)), (n, n)), directed=False)[1]


def _depth_area(
    mesh: Float[np.ndarray, "V 3"], surface: _Surface, near_m: float
) -> tuple[Float[np.ndarray, " V"], Int[np.ndarray, " V"], Float[np.ndarray, " V"]]:
    """Depth, other skin and area of every vertex of one mesh."""
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
    queries = mesh + _ASIDE_M * outward
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
    # A fan's last corner is an added vertex, its first never is.
    other[inside] = np.where(face >= 0, faces[face, 0], -1)
    return depth, other, area[:n_v]
