"""The surface over: offsets of a body's vertices, in the rest pose, that bring its skin onto a scan (SMPL+D)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from bodyfit.body.lbs import forward_kinematics
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.mesh_tree import MeshTree, face_normals
from bodyfit.geometry.rotation import so3_exp
from bodyfit.geometry.subdivision import Subdivision, split_long_edges
from bodyfit.register.surface.deform import FINE_STAGES, STAGES, DeformStage, ScanTarget, deform
from bodyfit.register.surface.guard import Guard

__all__ = ["Surface", "fit_surface", "posing_matrices", "unposed"]

_SMALL_PIECE = 0.05
"""Connected components of a smaller part of the vertices (eyes) are no skin: they follow it."""
_LEAST_STRETCH = 0.1
"""Smallest singular value of a vertex's blended transform that is inverted."""
_MIN_POINTS = 100
_ROUNDS = 5
"""Times that faults are looked for in what the offsets give; one is nearly always enough."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A body with an offset for every vertex; W = V, or more where long edges were split."""

    offsets_m: Float[np.ndarray, "W 3"]
    """Added to the rest pose's vertices before they are skinned; of a finer mesh the first V are the model's own."""
    vertices_m: Float[np.ndarray, "W 3"]
    """The posed surface, in the scan's axes."""
    faces: Int[np.ndarray, "F 3"]
    """Triangles, counter-clockwise from outside."""
    uv: Float[np.ndarray, "T 2"] | None
    """Texture coordinates, of models that have them."""
    uv_faces: Int[np.ndarray, "F 3"] | None
    """Rows of `uv` at each face's corners."""
    splits: tuple[Subdivision, ...]
    """How the model's mesh was made finer, step by step."""
    distance_m: Float[np.ndarray, " N"]
    """Distance of each point of the scan from the surface."""
    flipped: int
    """Faces that are turned over, beside the body's: 0, as it is fitted."""
    crossings: int
    """Pairs of faces that cross, and do not on the body's own mesh: 0, as it is fitted."""

    def posed(self, model: BodyModel, params: BodyParams) -> Float[np.ndarray, "W 3"]:
        """Pose the surface by other parameters of one body, metres; its offsets are skinned as the vertices are."""
        body, matrices = _posed_and_matrices(model, params)
        for split in self.splits:
            body, matrices = split.refine(body), split.refine(matrices)
        return body + (matrices @ self.offsets_m[..., None])[..., 0]


def fit_surface(
    model: BodyModel,
    params: BodyParams,
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "M 3"],
    *,
    oriented: bool = True,
    longest_edge_m: float | None = 0.012,
    stages: tuple[DeformStage, ...] = STAGES,
    fine_stages: tuple[DeformStage, ...] = FINE_STAGES,
) -> Surface:
    """Find offsets that bring the skin of one posed body onto a scan.

    params: one body, in the scan's axes. points, normals: the scan, metres, unit normals; `oriented`: they point
    outwards (otherwise the skin's tell). Where the scan has holes, the surface goes on smoothly from around them.
    longest_edge_m: edges longer than this are split for the last steps, for a fine scan has more detail than a body's
    mesh; None keeps the mesh. Raises `ShapeError` and `OptionError`.
    """
    check_shape("points", points, (None, 3))
    check_shape("normals", normals, (len(points), 3), hint="one a point")
    if len(params.betas) != 1:
        raise OptionError(f"params must hold one body, got {len(params.betas)}; use params.select([0])")
    finite = np.isfinite(points).all(1) & np.isfinite(normals).all(1)
    if finite.sum() < _MIN_POINTS:
        raise OptionError(f"a scan of {finite.sum()} finite points is too small for a surface; give {_MIN_POINTS}")
    if longest_edge_m is not None and not longest_edge_m > 0:
        raise OptionError(f"longest_edge_m must be a length, or None, got {longest_edge_m:g}")
    body, matrices = _posed_and_matrices(model, params)
    faces = model.faces.cpu().numpy()
    skin = _skin(faces, len(body))
    unit = normals[finite] / np.maximum(np.linalg.norm(normals[finite], axis=1, keepdims=True), 1e-30)
    if not oriented:
        unit = _outward(points[finite], unit, body, faces[skin])
    scan = ScanTarget(np.ascontiguousarray(points[finite], np.float64), unit)
    at = deform(body, faces[skin], scan, stages)
    mesh = _Mesh(body, at, matrices, faces, np.arange(len(faces)), model.uv, model.uv_faces, ())
    if longest_edge_m is not None:
        mesh = mesh.finer(longest_edge_m).finer(longest_edge_m)
    skin = _skin(mesh.faces, len(mesh.body))
    guard = Guard(mesh.body, mesh.faces[skin], mesh.parents[skin])
    at = guard.step(mesh.body, mesh.at)
    if longest_edge_m is not None:
        at = deform(mesh.body, mesh.faces[skin], scan, fine_stages, start=at, guard=guard)
    at = _follow(mesh.body, at, mesh.faces, skin)
    offsets, vertices = _as_offsets(mesh, at, guard)
    distance = np.full(len(points), np.nan)
    distance[finite] = MeshTree(vertices, mesh.faces[skin]).nearest(scan.points).distance
    return Surface(
        offsets,
        vertices,
        mesh.faces,
        mesh.uv,
        mesh.uv_faces,
        mesh.splits,
        distance,
        int(guard.flipped(vertices).sum()),
        len(guard.crossing(vertices)),
    )


def posing_matrices(model: BodyModel, params: BodyParams) -> Float[np.ndarray, "V 3 3"]:
    """Compute the derivative of one body's posed vertices by offsets of its rest vertices: the blended rotations."""
    rotvecs = model.full_pose(params)
    rest = model.rest_joints(model.coefficients(params))
    R_world, _ = forward_kinematics(so3_exp(rotvecs), rest, model.parents)
    return torch.einsum("vj,jrc->vrc", model.weights, R_world[0]).detach().cpu().double().numpy()


@dataclass(frozen=True)
class _Mesh:
    """The body, where its vertices have been moved to, and what is split with them."""

    body: Float[np.ndarray, "W 3"]
    at: Float[np.ndarray, "W 3"]
    matrices: Float[np.ndarray, "W 3 3"]
    faces: Int[np.ndarray, "F 3"]
    parents: Int[np.ndarray, " F"]
    uv: Float[np.ndarray, "T 2"] | None
    uv_faces: Int[np.ndarray, "F 3"] | None
    splits: tuple[Subdivision, ...]

    def finer(self, longest_m: float) -> _Mesh:
        """Split the edges that are longer than this on the moved mesh."""
        n_uv = 0 if self.uv is None else len(self.uv)
        split = split_long_edges(self.at, self.faces, longest_m, uv_faces=self.uv_faces, n_uv=n_uv)
        values = {name: split.refine(getattr(self, name)) for name in ("body", "at", "matrices")}
        uv = None if self.uv is None else split.refine_uv(self.uv)
        uv_faces = None if self.uv is None else split.uv_faces
        parents, splits = self.parents[split.parents], (*self.splits, split)
        return replace(self, **values, faces=split.faces, parents=parents, uv=uv, uv_faces=uv_faces, splits=splits)


def _as_offsets(
    mesh: _Mesh, at: Float[np.ndarray, "W 3"], guard: Guard
) -> tuple[Float[np.ndarray, "W 3"], Float[np.ndarray, "W 3"]]:
    """Return the rest pose's offsets and the vertices that they give, which rounding must not make cross either."""
    offsets = unposed(mesh.matrices, at - mesh.body)
    vertices = mesh.body + (mesh.matrices @ offsets[..., None])[..., 0]
    for _ in range(_ROUNDS):
        if not guard.flipped(vertices).any() and len(guard.crossing(vertices)) == 0:
            break
        offsets = unposed(mesh.matrices, guard.step(mesh.body, vertices) - mesh.body)
        vertices = mesh.body + (mesh.matrices @ offsets[..., None])[..., 0]
    return offsets, vertices


def _posed_and_matrices(
    model: BodyModel, params: BodyParams
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3 3"]]:
    with torch.no_grad():
        return model(**params).vertices[0].cpu().double().numpy(), posing_matrices(model, params)


def _skin(faces: Int[np.ndarray, "F 3"], n: int) -> Bool[np.ndarray, " F"]:
    """Tell the faces of large connected components from those of small ones."""
    joined = faces.ravel(), np.roll(faces, 1, 1).ravel()
    piece = connected_components(coo_array((np.ones(faces.size), joined), (n, n)), directed=False)[1]
    size = np.bincount(piece)
    return size[piece[faces[:, 0]]] >= _SMALL_PIECE * size.max()


def _outward(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
) -> Float[np.ndarray, "N 3"]:
    """Turn normals to the side of the nearest face's."""
    near = MeshTree(vertices, faces).nearest(points).face
    along = (face_normals(vertices, faces)[near] * normals).sum(1)
    return np.where(along[:, None] < 0, -normals, normals)


def _follow(
    body: Float[np.ndarray, "W 3"],
    at: Float[np.ndarray, "W 3"],
    faces: Int[np.ndarray, "F 3"],
    skin: Bool[np.ndarray, " F"],
) -> Float[np.ndarray, "W 3"]:
    """Move small pieces (eyes) as the skin about them moved, each as a whole."""
    at = at.copy()
    on_skin = np.unique(faces[skin])
    rest = faces[~skin]
    if not rest.size:
        return at
    tree, n = KDTree(body[on_skin]), len(body)
    piece = connected_components(coo_array((np.ones(rest.size), (rest.ravel(), np.roll(rest, 1, 1).ravel())), (n, n)))
    for label in np.unique(piece[1][rest]):
        own = np.flatnonzero(piece[1] == label)
        near = np.unique(tree.query(body[own], k=4)[1])
        at[own] = body[own] + (at - body)[on_skin[near]].mean(0)
    return at


def unposed(matrices: Float[np.ndarray, "W 3 3"], moved: Float[np.ndarray, "W 3"]) -> Float[np.ndarray, "W 3"]:
    """Solve for the rest pose's offsets; where blended rotations cancel, nothing moves in that direction."""
    u, stretch, vt = np.linalg.svd(matrices)
    along = (u.transpose(0, 2, 1) @ moved[..., None])[..., 0]
    along = np.where(stretch > _LEAST_STRETCH, along / np.maximum(stretch, _LEAST_STRETCH), 0)
    return (vt.transpose(0, 2, 1) @ along[..., None])[..., 0]
