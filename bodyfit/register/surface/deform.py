"""Move the vertices of a mesh onto a scan: non-rigid ICP by Gauss-Newton steps, coarse to fine.

With X the mesh moved by displacements d, p the points of the scan with normals n, x(p) the nearest point of the mesh to
p, q(v) the nearest point of the scan to vertex v, and A the mesh's area, a stage minimises the sum of

    chamfer    sum_p a_p w_p (n_p . (x(p) - p))^2  +  sum_v a_v w_v (n_q . (v - q))^2
    normal     sum_p a_p w_p h^2 sum_e (n_p . e / |e|)^2,   e the edges of the face of x(p)
    membrane   l_m^2 times the integral of |grad d|^2
    bending    l_b^4 times the integral of |laplacian d|^2

over d. a_p and a_v share out the area of the scan and of the mesh; w are weights of Geman and McClure, 0 where normals
disagree or the pair is too far apart. The nearest points are found anew for every step, of which the linear system is
solved by conjugate gradients with the Cholesky-like factors of the scalar system as preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from bodyfit.geometry.mesh_tree import MeshTree, face_normals, vertex_normals
from bodyfit.register.surface.guard import Guard
from bodyfit.register.surface.smoothness import Smoothness, vertex_areas

__all__ = ["FINE_STAGES", "STAGES", "DeformStage", "ScanTarget", "deform"]


@dataclass(frozen=True)
class DeformStage:
    """Settings of some steps of `deform`; lengths in metres."""

    steps: int
    """Steps, each with nearest points of its own."""
    smoothing_m: float
    """Length l_b: details smaller than this are smoothed away."""
    reach_m: float
    """Largest distance between partners."""
    spread_m: float
    """Distance at which the robust weight is a quarter."""
    points: int
    """Most points of the scan that are used."""
    membrane: float = 0.1
    """Length l_m as a part of `smoothing_m`."""
    normal_m: float = 0.002
    """Length h of the normal term: the error of place that an error of one radian of the normal weighs as much as."""
    min_cosine: float = 0.3
    """Least cosine between the normals of partners."""


STAGES = (
    DeformStage(steps=4, smoothing_m=0.10, reach_m=0.20, spread_m=0.10, points=10_000),
    DeformStage(steps=4, smoothing_m=0.05, reach_m=0.15, spread_m=0.05, points=20_000),
    DeformStage(steps=4, smoothing_m=0.025, reach_m=0.10, spread_m=0.03, points=40_000),
    DeformStage(steps=3, smoothing_m=0.012, reach_m=0.06, spread_m=0.02, points=100_000),
)
"""Coarse to fine, on the body's own vertices."""
FINE_STAGES = (
    DeformStage(steps=2, smoothing_m=0.006, reach_m=0.03, spread_m=0.01, points=100_000),
    DeformStage(steps=2, smoothing_m=0.003, reach_m=0.03, spread_m=0.01, points=200_000),
)
"""On the mesh whose long edges were split."""


_TOLERANCE = 0.01
_ITERATIONS = 30


class ScanTarget:
    """A scan as a target: its points with outward unit normals, in a search tree.

    points, normals: (N, 3), metres.
    """

    def __init__(self, points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"]) -> None:
        self.points, self.normals = points, normals
        self.tree = KDTree(points)
        near = self.tree.query(points[:: max(1, len(points) // 5000)], k=min(7, len(points)))[0]
        self.spacing_m = float(np.median(near[:, -1]))
        """Distance from a point to its sixth neighbour, in the median."""
        self._shuffled = np.random.default_rng(0).permutation(len(points))

    def some(self, count: int) -> Int[np.ndarray, " M"]:
        """Return the rows of a random sample of the points; all of them where there are no more than `count`."""
        return np.sort(self._shuffled[:count])


@dataclass(frozen=True)
class _Rows:
    """Residuals along normals of points of the mesh: w (n . (sum of weights times corners) - offset)^2."""

    corners: Int[np.ndarray, "N K"]
    coefficients: Float[np.ndarray, "N K"]
    normals: Float[np.ndarray, "N 3"]
    targets: Float[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]


def deform(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    scan: ScanTarget,
    stages: tuple[DeformStage, ...] = STAGES,
    *,
    start: Float[np.ndarray, "V 3"] | None = None,
    guard: Guard | None = None,
) -> Float[np.ndarray, "V 3"]:
    """Move a mesh's vertices onto a scan and return them; displacements are smooth relative to `vertices`.

    `start`: the vertices to begin with, `vertices` by default. `guard` takes back what would flip a face, or make faces
    cross that do not in `vertices`.
    """
    smooth = Smoothness(vertices, faces)
    at = vertices if start is None else start
    tree = MeshTree(at, faces)
    guard = Guard(vertices, faces) if guard is None else guard
    for stage in stages:
        form = smooth.form(membrane_m=stage.membrane * stage.smoothing_m, bending_m=stage.smoothing_m)
        rows = scan.some(stage.points)
        for _ in range(stage.steps):
            tree.update(at)
            parts = [*_scan_to_mesh(tree, scan, rows, stage), _mesh_to_scan(tree, scan, stage)]
            at = guard.step(at, vertices + _solve(parts, form, vertices, at - vertices))
    return at


def _robust(distance: Float[np.ndarray, " N"], spread_m: float) -> Float[np.ndarray, " N"]:
    """Compute the weights of Geman and McClure."""
    return (spread_m**2 / (spread_m**2 + distance**2)) ** 2


def _scan_to_mesh(tree: MeshTree, scan: ScanTarget, rows: Int[np.ndarray, " M"], stage: DeformStage) -> list[_Rows]:
    """Match points of the scan to the mesh: rows of the chamfer's one half, and of the normals."""
    points, normals = scan.points[rows], scan.normals[rows]
    near = tree.nearest(points, normals=normals, min_cosine=stage.min_cosine, within=stage.reach_m)
    points, normals, face = points[near.found], normals[near.found], near.face[near.found]
    corners = tree.faces[face]
    area = np.linalg.norm(face_normals(tree.vertices, tree.faces), axis=1).sum() / 2
    weights = area / len(rows) * _robust(near.distance[near.found], stage.spread_m)
    parts = [_Rows(corners, near.weights[near.found], normals, (normals * points).sum(1), weights)]
    for k in range(3):
        pair = corners[:, [k, (k + 1) % 3]]
        length = np.linalg.norm(tree.vertices[pair[:, 0]] - tree.vertices[pair[:, 1]], axis=1)
        sides = np.array([[1.0, -1.0]]) / np.maximum(length, 1e-4)[:, None]
        parts.append(_Rows(pair, sides, normals, np.zeros(len(pair)), weights * stage.normal_m**2))
    return parts


def _mesh_to_scan(tree: MeshTree, scan: ScanTarget, stage: DeformStage) -> _Rows:
    """Match vertices of the mesh to the scan; none beside its holes, of which the partner lies at the rim."""
    vertices = tree.vertices
    normal = vertex_normals(vertices, tree.faces)
    distance, row = (np.asarray(x) for x in scan.tree.query(vertices, distance_upper_bound=stage.reach_m))
    found = np.flatnonzero(np.isfinite(distance))
    row = row[found]
    away = vertices[found] - scan.points[row]
    along = (away * scan.normals[row]).sum(1)
    beside = np.sqrt(np.maximum(distance[found] ** 2 - along**2, 0))
    agree = (normal[found] * scan.normals[row]).sum(1) > stage.min_cosine
    agree &= beside < 2 * scan.spacing_m + 0.5 * np.abs(along)
    found, row, along = found[agree], row[agree], along[agree]
    weights = vertex_areas(vertices, tree.faces)[found] * _robust(along, stage.spread_m)
    return _Rows(
        found[:, None],
        np.ones((len(found), 1)),
        scan.normals[row],
        (scan.normals[row] * scan.points[row]).sum(1),
        weights,
    )


def _solve(
    parts: list[_Rows], form: csr_array, vertices: Float[np.ndarray, "V 3"], moved: Float[np.ndarray, "V 3"]
) -> Float[np.ndarray, "V 3"]:
    """Minimise the quadratic over displacements, starting from the present ones."""
    n = len(vertices)
    scalar = _stack([(p.corners, p.coefficients, np.sqrt(p.weights)) for p in parts], n)
    normals = np.concatenate([p.normals for p in parts])
    root = np.concatenate([np.sqrt(p.weights) for p in parts])
    residual = root * np.concatenate([p.targets for p in parts]) - ((scalar @ vertices) * normals).sum(1)
    transposed = csr_array(scalar.T)
    # An isotropic point-to-point system bounds that of points to planes from above, and is one for all coordinates.
    bound = csc_array(transposed @ scalar + form)
    diagonal = bound.diagonal()
    tiny = 1e-9 * diagonal.mean()
    if form.diagonal().sum() > 0.5 * diagonal.sum():
        bound.setdiag(diagonal + tiny)
        solve = splu(bound, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0).solve
    else:  # the data tell nearly every vertex: the diagonal is as good
        solve = _by_diagonal(diagonal + tiny)

    def product(d: np.ndarray) -> np.ndarray:
        along = np.einsum("nc,nc->n", scalar @ d, normals)
        return transposed @ (along[:, None] * normals) + form @ d + tiny * d

    return _conjugate_gradients(product, solve, transposed @ (residual[:, None] * normals), moved)


def _conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray],
    precondition: Callable[[np.ndarray], np.ndarray],
    right: Float[np.ndarray, "V 3"],
    start: Float[np.ndarray, "V 3"],
) -> Float[np.ndarray, "V 3"]:
    """Solve a positive definite system to a hundredth: the next step has other partners anyway."""
    x, residual = start, right - product(start)
    goal = _TOLERANCE * np.linalg.norm(right)
    direction, slope = np.zeros_like(x), 1.0
    for _ in range(_ITERATIONS):
        if np.linalg.norm(residual) <= goal:
            break
        z = precondition(residual)
        before, slope = slope, float((residual * z).sum())
        direction = z + slope / before * direction
        image = product(direction)
        length = slope / float((direction * image).sum())
        x, residual = x + length * direction, residual - length * image
    return x


def _by_diagonal(diagonal: Float[np.ndarray, " V"]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda right: right / diagonal[:, None]


def _stack(blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]], n: int) -> csr_array:
    """Stack rows of coefficients at corners, times a factor a row, to a sparse matrix of n columns."""
    columns = np.concatenate([corners.ravel() for corners, _, _ in blocks])
    values = np.concatenate([(c * factor[:, None]).ravel() for _, c, factor in blocks])
    counts = np.concatenate([np.full(len(corners), corners.shape[1]) for corners, _, _ in blocks])
    return csr_array((values, columns, np.r_[0, np.cumsum(counts)]), shape=(len(counts), n))
