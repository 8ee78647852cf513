"""Make the coarse meshes of clothed surfaces, assets/clothed/mesh.npz, of the open body's template.

    python -m scripts.train.clothed.mesh [-o assets/clothed/mesh.npz] [--medium 3072] [--anchors 1536]

Vertices that can be seen from outside are thinned by farthest points. The triangles over those that stay are the dual
of the cells of vertices nearest to them along the mesh. Moves of anchors are interpolated by the four nearest along the
mesh, with weights that fall to zero where a fifth takes the place of the fourth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree

import bodyfit
from bodyfit.fields.casting.anchors_loops import farthest_points
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.raster.depth import nearest_faces
from scripts.build.pose_prior import write_npz

__all__ = ["directions", "inner_radii", "main"]

_VIEWS, _PIXEL_M = 60, 0.004
_NEIGHBOURS = 8
_REACH_M = 0.25
_THIN_M = 0.02
"""Radius of balls inside of the body below which it is thin: fingers, toes, ears."""
_AHEAD = 0.2
"""Cosine of normals of the head to the front from which on they are the face's."""


def directions(count: int) -> Float[np.ndarray, "N 3 3"]:
    """Rotations whose third rows, the ways that parallel cameras look, lie evenly over the sphere."""
    k = np.arange(count) + 0.5
    z, turn = 1 - 2 * k / count, np.pi * (1 + 5**0.5) * k
    ahead = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], 1)
    side = np.cross(ahead, np.where(np.abs(ahead[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    return np.stack([side, np.cross(ahead, side), ahead], 1)


def outer_vertices(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Bool[np.ndarray, "V"]:
    """Tell the vertices of faces that parallel cameras all round show, on the largest connected component."""
    shown = np.zeros(len(faces), bool)
    for R in directions(_VIEWS):
        turned = vertices @ R.T
        low = turned.min(0)
        xy = (turned[:, :2] - low[:2]) / _PIXEL_M
        size = tuple(np.ceil(xy.max(0)).astype(int) + 1)
        found, _ = nearest_faces(np.concatenate([xy, -turned[:, 2:]], 1), faces, (int(size[0]), int(size[1])))
        number, count = np.unique(found[found >= 0], return_counts=True)
        a, b, c = turned[faces[number]].transpose(1, 0, 2)
        shown[number[(np.cross(b - a, c - a)[:, 2] < 0) & (count > 1)]] = True  # not those seen from behind
    outer = np.zeros(len(vertices), bool)
    outer[faces[shown]] = True
    joined = faces.ravel(), np.roll(faces, 1, 1).ravel()
    piece = connected_components(coo_array((np.ones(faces.size), joined), (len(vertices),) * 2), directed=False)[1]
    return outer & (piece == np.bincount(piece).argmax())


def along_the_mesh(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> csr_array:
    """Lengths of the edges, (V, V)."""
    a, b = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1), axis=0).T
    length = np.linalg.norm(vertices[a] - vertices[b], axis=1)
    return csr_array((np.r_[length, length], (np.r_[a, b], np.r_[b, a])), (len(vertices),) * 2)


def inner_radii(
    points: Float[np.ndarray, "P 3"], normals: Float[np.ndarray, "P 3"], of: Int[np.ndarray, "A"]
) -> Float[np.ndarray, "A"]:
    """Radii of the largest balls inside of a surface of points that touch it at some of them.

    As in medial axes by shrinking balls (Ma et al. 2012): that of the point p with another point q on its surface has
    the radius |q - p|^2 / (2 (p - q) n).
    """
    radii = np.empty(len(of))
    for k, row in enumerate(of):
        apart = points[row] - points
        along = apart @ normals[row]
        radii[k] = ((apart**2).sum(1)[along > 1e-6] / (2 * along[along > 1e-6])).min()
    return radii


def dual(faces: Int[np.ndarray, "F 3"], cell: Int[np.ndarray, "V"]) -> Int[np.ndarray, "K 3"]:
    """Triangles between cells: of faces whose corners lie in three cells, each once, turned as they are."""
    corners = cell[faces]
    corners = corners[(corners >= 0).all(1)]
    a, b, c = corners.T
    corners = corners[(a != b) & (b != c) & (c != a)]
    first = corners.argmin(1)
    corners = np.take_along_axis(corners, (first[:, None] + np.arange(3)) % 3, 1)
    return np.unique(corners, axis=0)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("assets/clothed/mesh.npz"))
    parser.add_argument("--medium", type=int, default=3072)
    parser.add_argument("--anchors", type=int, default=1536)
    args = parser.parse_args()
    model = bodyfit.load_model()
    vertices, faces = model.v_template.double().numpy(), model.faces.numpy().astype(np.int64)
    outer = outer_vertices(vertices, faces)
    rows = np.flatnonzero(outer)
    chosen = np.empty(args.medium, np.int64)
    farthest_points(np.ascontiguousarray(vertices[rows], np.float32), chosen)
    medium = rows[chosen]
    graph = along_the_mesh(vertices, faces)
    cell = np.full((2, len(vertices)), -1)
    for row, count in zip(cell, (args.medium, args.anchors), strict=True):
        reach, _, source = dijkstra(graph, indices=medium[:count], min_only=True, return_predecessors=True)
        number = np.full(len(vertices), -1)
        number[medium[:count]] = np.arange(count)
        row[np.isfinite(reach)] = number[source[np.isfinite(reach)]]
    inner = ~outer  # mouth and eyes are no part of the coarse surface
    cell[:, inner] = -1
    medium_faces, anchor_faces = dual(faces, cell[0]), dual(faces, cell[1])
    pairs = np.concatenate([anchor_faces[:, [0, 1]], anchor_faces[:, [1, 2]], anchor_faces[:, [2, 0]]])
    edges = np.unique(np.sort(pairs, 1), axis=0)
    near, weights = _interpolation(vertices, graph, medium[: args.anchors])
    normals, own = vertex_normals(vertices, faces), np.searchsorted(rows, medium[: args.anchors])
    thin = inner_radii(vertices[rows], normals[rows], own) < _THIN_M
    head = model.weights.argmax(1).numpy() == model.skeleton.names.index("head")
    face = head & (normals[:, 2] > _AHEAD)
    write_npz(
        args.out,
        {
            "vertices": medium.astype(np.uint16),
            "faces": medium_faces.astype(np.uint16),
            "neighbours": _neighbours(edges, args.anchors, vertices[medium]).astype(np.uint16),
            "edges": edges.astype(np.uint16),
            "near": near.astype(np.uint16),
            "near_weights": np.round(65535 * weights).astype(np.uint16),
            "outer": np.packbits(outer),
            "fixed": np.packbits(thin | face[medium[: args.anchors]]),
        },
    )
    used = np.unique(medium_faces)
    print(f"{outer.sum()} outer vertices; {len(medium_faces)} medium faces over {len(used)} of {args.medium} vertices")
    print(f"{len(edges)} edges, degree {2 * len(edges) / args.anchors:.1f}, length {_lengths(vertices[medium], edges)}")


def _lengths(points: Float[np.ndarray, "M 3"], edges: Int[np.ndarray, "E 2"]) -> str:
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    return f"{1000 * length.mean():.0f} mm, at most {1000 * length.max():.0f}"


def _neighbours(edges: Int[np.ndarray, "E 2"], count: int, points: Float[np.ndarray, "M 3"]) -> Int[np.ndarray, "A K"]:
    """The nearest of each anchor's neighbours."""
    table = np.repeat(np.arange(count)[:, None], _NEIGHBOURS, 1)
    ends = np.concatenate([edges, edges[:, ::-1]])
    length = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1)
    ends = ends[np.lexsort((length, ends[:, 0]))]
    start = np.searchsorted(ends[:, 0], np.arange(count))
    place = np.arange(len(ends)) - start[ends[:, 0]]
    some = place < _NEIGHBOURS
    table[ends[some, 0], place[some]] = ends[some, 1]
    return table


def _interpolation(
    vertices: Float[np.ndarray, "V 3"], graph: csr_array, anchors: Int[np.ndarray, "A"]
) -> tuple[Int[np.ndarray, "V 4"], Float[np.ndarray, "V 4"]]:
    """The four anchors nearest to each vertex, and ((d_5 - d_k) / (d_5 d_k))^2 (Franke and Nielson 1980)."""
    distance = np.minimum(dijkstra(graph, indices=anchors, limit=_REACH_M), 1e3).T
    alone = (distance < 1e3).sum(1) < 5  # eyeballs
    distance[alone] = KDTree(vertices[anchors]).sparse_distance_matrix(KDTree(vertices[alone]), 1e3).toarray().T
    near = np.argpartition(distance, 5, axis=1)[:, :5]
    d = np.take_along_axis(distance, near, 1)
    order = d.argsort(1)
    near, d = np.take_along_axis(near, order, 1), np.maximum(np.take_along_axis(d, order, 1), 1e-6)
    weights = ((d[:, 4:] - d[:, :4]) / (d[:, 4:] * d[:, :4])) ** 2
    weights[weights.sum(1) <= 0] = 1
    return near[:, :4], weights / weights.sum(1, keepdims=True)


if __name__ == "__main__":
    main()
