"""A body-centred cubic lattice of tetrahedra around a part of the body, with the skin embedded in it.

The lattice stands for the flesh: its elements are all well shaped, whatever the skin's triangles look like, and the
skin's vertices follow by linear interpolation (Molino et al. 2003; McAdams et al. 2011).
"""

from dataclasses import dataclass

import numba
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

# Subdivision of an element for the share of it that is inside the body.
_PROBES = np.array([[0.25, 0.25, 0.25, 0.25], *(0.55 * np.eye(4) + 0.15 * (1 - np.eye(4)))])


@dataclass(frozen=True)
class Lattice:
    """Tetrahedra that cover the flesh near a joint."""

    nodes: np.ndarray
    """(N, 3) metres."""
    tets: np.ndarray
    """(T, 4), positively oriented."""
    fill: np.ndarray
    """(T,) the part of each element that is flesh."""
    skin: np.ndarray
    """(S,) vertices of the body that are embedded."""
    embed: sp.csr_matrix
    """(S, N) the skin from the nodes."""


def build_lattice(vertices: np.ndarray, faces: np.ndarray, skin: np.ndarray, cube_m: float, keep) -> Lattice:
    """The lattice of cubes of `cube_m` around the vertices `skin`; `keep(centres)` may leave elements out.

    `faces` must close the surface, so that a ray can tell the inside.
    """
    low = vertices[skin].min(0) - 1.5 * cube_m
    # The offset keeps nodes off the middle plane, where vertices and edges lie exactly.
    low[0] = (np.floor(low[0] / cube_m) + 0.5) * cube_m
    size = np.ceil((vertices[skin].max(0) + 1.5 * cube_m - low) / cube_m).astype(int)
    nodes, tets = _bcc(size)
    nodes = low + cube_m * nodes
    centres = nodes[tets].mean(1)
    inside = np.zeros((len(tets), len(_PROBES)), dtype=bool)
    near = keep(centres)
    solid = vertices[faces]
    for k, probe in enumerate(_PROBES):
        points = np.einsum("tnc,n->tc", nodes[tets[near]], probe)
        inside[near, k] = is_inside(points, solid)
    holder = _find(vertices[skin], low, cube_m, size, nodes, tets, near)
    wanted = inside.any(1)
    wanted[holder] = True
    chosen = np.flatnonzero(wanted)
    used, local = np.unique(tets[chosen], return_inverse=True)
    where = np.full(len(tets), -1)
    where[chosen] = np.arange(len(chosen))
    small = local.reshape(-1, 4)
    nodes = nodes[used]
    weights = _barycentric(vertices[skin], nodes[small[where[holder]]])
    rows = np.repeat(np.arange(len(skin)), 4)
    embed = sp.csr_matrix(
        (weights.ravel(), (rows, small[where[holder]].ravel())), shape=(len(skin), len(nodes)), dtype=float
    )
    return Lattice(nodes, small, np.maximum(inside[chosen].mean(1), 0.1), skin, embed)


def gradients(nodes: np.ndarray, tets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, 4, 3) gradients of the linear shape functions and (T,) volumes."""
    edges = (nodes[tets[:, 1:]] - nodes[tets[:, :1]]).transpose(0, 2, 1)
    inverse = np.linalg.inv(edges)
    return np.concatenate([-inverse.sum(1, keepdims=True), inverse], 1), np.linalg.det(edges) / 6


def stiffness(nodes: np.ndarray, tets: np.ndarray, fill: np.ndarray) -> sp.csc_matrix:
    """(N, N) the elements' Laplacian."""
    slopes, volumes = gradients(nodes, tets)
    local = np.einsum("tac,tbc->tab", slopes, slopes) * (volumes * fill)[:, None, None]
    rows, columns = np.repeat(tets, 4, 1).ravel(), np.tile(tets, (1, 4)).ravel()
    return sp.csc_matrix((local.ravel(), (rows, columns)), shape=(len(nodes), len(nodes)))


def extend(lattice: Lattice, values: np.ndarray, stiff: float = 3.0) -> np.ndarray:
    """Nodal values whose interpolation at the skin is near `values` (S,), as smooth inside as can be."""
    laplacian = stiffness(lattice.nodes, lattice.tets, np.ones(len(lattice.tets)))
    scale = laplacian.diagonal().mean()
    system = laplacian + stiff * scale * (lattice.embed.T @ lattice.embed) + 1e-6 * scale * sp.eye(len(lattice.nodes))
    return splu(system.tocsc()).solve(stiff * scale * (lattice.embed.T @ values))


def _bcc(size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in units of a cube, corners before centres, and four elements for each pair of cubes that share a face."""
    _, ny, nz = size
    corners = np.stack(np.meshgrid(*(np.arange(n + 1) for n in size), indexing="ij"), -1).reshape(-1, 3)
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 3)

    def corner(p: np.ndarray) -> np.ndarray:
        return (p[:, 0] * (ny + 1) + p[:, 1]) * (nz + 1) + p[:, 2]

    def centre(p: np.ndarray) -> np.ndarray:
        return len(corners) + (p[:, 0] * ny + p[:, 1]) * nz + p[:, 2]

    tets = []
    for axis in range(3):
        step, side, up = np.eye(3, dtype=int)[[axis, (axis + 1) % 3, (axis + 2) % 3]]
        first = cells[cells[:, axis] < size[axis] - 1]
        ring = [first + step, first + step + side, first + step + side + up, first + step + up]
        tets += [
            np.stack([centre(first), centre(first + step), corner(ring[k]), corner(ring[(k + 1) % 4])], 1)
            for k in range(4)
        ]
    return np.concatenate([corners.astype(float), cells + 0.5]), np.concatenate(tets)


def _find(points, low, cube_m, size, nodes, tets, near) -> np.ndarray:
    """(S,) the element around each point."""
    centres = nodes[tets].mean(1)
    bin_of = np.floor((centres - low) / cube_m).astype(int)
    lists: dict[tuple[int, ...], list[int]] = {}
    point_bin = np.floor((points - low) / cube_m).astype(int)
    needed = {tuple(b + d) for b in point_bin for d in np.ndindex(3, 3, 3)}
    for t in np.flatnonzero(near):
        key = (bin_of[t, 0] + 1, bin_of[t, 1] + 1, bin_of[t, 2] + 1)
        if key in needed:
            lists.setdefault(key, []).append(t)
    found = np.empty(len(points), dtype=int)
    for i, (p, b) in enumerate(zip(points, point_bin, strict=True)):
        around = np.array([t for d in np.ndindex(3, 3, 3) for t in lists.get(tuple(b + d), ())])
        weights = _barycentric(np.repeat(p[None], len(around), 0), nodes[tets[around]])
        found[i] = around[weights.min(1).argmax()]
    return found


def _barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    edges = (corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1)
    rest = np.linalg.solve(edges, (points - corners[:, 0])[..., None])[..., 0]
    return np.concatenate([1 - rest.sum(1, keepdims=True), rest], 1)


def is_inside(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Whether each point is inside the closed surface: parity of the crossings of a ray along z."""
    order = np.argsort(points[:, 0], kind="stable")
    crossings = np.zeros(len(points), dtype=np.int64)
    _count(points[order] + [1.7e-7, 2.3e-7, 0.0], triangles, crossings)
    inside = np.empty(len(points), dtype=bool)
    inside[order] = crossings % 2 == 1
    return inside


@numba.njit(cache=True)
def _count(points, triangles, crossings):
    xs = points[:, 0].copy()
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
        if area == 0.0:
            continue
        first = np.searchsorted(xs, min(a[0], b[0], c[0]))
        last = np.searchsorted(xs, max(a[0], b[0], c[0]))
        y0, y1 = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        for i in range(first, last):
            p = points[i]
            if p[1] < y0 or p[1] > y1:
                continue
            u = ((b[0] - p[0]) * (c[1] - p[1]) - (c[0] - p[0]) * (b[1] - p[1])) / area
            v = ((c[0] - p[0]) * (a[1] - p[1]) - (a[0] - p[0]) * (c[1] - p[1])) / area
            w = 1.0 - u - v
            if u >= 0 and v >= 0 and w >= 0 and u * a[2] + v * b[2] + w * c[2] > p[2]:
                crossings[i] += 1
