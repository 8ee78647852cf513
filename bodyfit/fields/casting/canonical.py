"""The canonical body, and posed bodies with the transforms that map their surroundings back to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32
from torch import Tensor

from bodyfit.body.lbs import forward_kinematics, rigid_transforms
from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, ShapeError
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.geometry.rotation import so3_exp

__all__ = ["CanonicalBody", "PosedBody", "canonical_body", "canonical_pose", "pose_bodies", "vertex_transforms"]

_HIP_RAD, _SHOULDER_RAD = 0.45, 0.35
"""Rotation of each hip outwards and of each shoulder downwards: in the T-pose 5 cm bands of both legs overlap."""
_LOOSE = ("head", "jaw", "ankle", "foot")
"""Joints, sides left out, that hair and shoes go with."""
_LEAST_DETERMINANT = 0.1
"""Blended transforms of a smaller determinant are folded (joints twisted by half a turn) and inverted with damping."""


@dataclass(frozen=True, eq=False)
class CanonicalBody:
    """One shaped body in the canonical pose: a T-pose with the legs apart and the arms a little down."""

    vertices: Float32[np.ndarray, "V 3"]
    """Metres, in the model's own axes (y up, z forward, x to the body's left), root where the model has it."""
    normals: Float32[np.ndarray, "V 3"]
    """Unit normals, outwards."""
    linear: Float32[np.ndarray, "V 3 3"]
    """Linear part of each vertex's blended bone transform, from the rest pose to the canonical one."""
    faces: Int[np.ndarray, "F 3"]
    """Outward triangles."""
    ring_ptr: Int32[np.ndarray, "V1"]
    """Vertex v has the neighbours `ring[ring_ptr[v] : ring_ptr[v + 1]]`."""
    ring: Int32[np.ndarray, "N"]
    """Vertices that share an edge with v."""
    wide_ptr: Int32[np.ndarray, "V1"]
    """The same for `wide`."""
    wide: Int32[np.ndarray, "M"]
    """The vertex itself and its two rings of neighbours, over which the warp is blended."""
    reach: Float32[np.ndarray, "V"]
    """Bound on the distance of surface points to their nearest vertex about each vertex, metres."""
    loose: Bool[np.ndarray, "V"]
    """Vertices of head and feet, from which hair and soles stand off farther than clothes from the rest."""
    betas: Float[Tensor, "1 S"]
    """Shape."""

    def bands_m(self, band_m: float, loose_m: float | None) -> Float32[np.ndarray, "V"]:
        """Return the band's width at each vertex: `loose_m`, if there is one, at head and feet."""
        wide = band_m if loose_m is None else loose_m
        return np.where(self.loose, wide, band_m).astype(np.float32)


@dataclass(frozen=True, eq=False)
class PosedBody:
    """One posed body, with the affine map x_canonical = c + L (x - v) of each vertex.

    A row of `warp` holds 18 numbers: v posed, its unit normal, L = A_canonical A_posed^-1 by rows, c canonical.
    """

    warp: Float32[np.ndarray, "V 18"]
    """Metres, in the axes of the parameters."""
    canonical: CanonicalBody
    """The body that it is mapped to."""

    @property
    def vertices(self) -> Float32[np.ndarray, "V 3"]:
        """Posed vertices, metres, in the axes of the parameters."""
        return self.warp[:, :3]

    @property
    def normals(self) -> Float32[np.ndarray, "V 3"]:
        """Their unit normals."""
        return self.warp[:, 3:6]


def canonical_pose(model: BodyModel) -> Float[Tensor, "1 P"]:
    """Return the body pose of the canonical body, axis-angles in radians."""
    if not model.body_joints:
        raise OptionError(f"a field needs a whole body; {model.kind.title} is a part of one")
    pose = model.v_template.new_zeros(model.body_joints, 3)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[model.skeleton.index(f"{side}_hip"), 2] = sign * _HIP_RAD
        pose[model.skeleton.index(f"{side}_shoulder"), 2] = -sign * _SHOULDER_RAD
    return pose[1:].flatten()[None]


def canonical_body(model: BodyModel, betas: Float[Tensor, "1 S"] | None = None) -> CanonicalBody:
    """Make the canonical body of a shape; the template's if left out. Raises `OptionError` and `ShapeError`."""
    params = model.params(betas=betas, body_pose=canonical_pose(model))
    with torch.no_grad():
        vertices = model(**params).vertices[0].cpu().double().numpy()
        linear = vertex_transforms(model, params)[0, :, :, :3].cpu().numpy()
    faces = model.faces.cpu().numpy()
    near_ptr, near = _rings(faces, len(vertices), 1)
    wide_ptr, wide = _rings(faces, len(vertices), 2, itself=True)
    corners = vertices[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, 1), axis=2).max(1)
    reach = np.zeros(len(vertices))
    np.maximum.at(reach, faces.ravel(), np.repeat(longest, 3) / np.sqrt(3))
    return CanonicalBody(
        vertices=vertices.astype(np.float32),
        normals=vertex_normals(vertices, faces).astype(np.float32),
        linear=linear.astype(np.float32),
        faces=faces,
        ring_ptr=near_ptr,
        ring=near,
        wide_ptr=wide_ptr,
        wide=wide,
        reach=reach.astype(np.float32),
        loose=_loose(model),
        betas=params.betas.detach(),
    )


def pose_bodies(canonical: CanonicalBody, model: BodyModel, params: BodyParams) -> list[PosedBody]:
    """Pose bodies, one at a time of memory, and compute their vertices' maps to the canonical body.

    params: in any axes; shapes may differ from the canonical body's. Raises `ShapeError`.
    """
    if len(canonical.vertices) != len(model.v_template):
        raise ShapeError(f"the canonical body has {len(canonical.vertices)} vertices, {model.name} other ones")
    bodies = []
    for row in range(params.batch):
        one = model.params(**params.select([row]))
        with torch.no_grad():
            vertices = model(**one).vertices[0].cpu().double().numpy()
            posed = vertex_transforms(model, one)[0, :, :, :3].cpu().double().numpy()
        if not np.isfinite(vertices).all():
            raise ShapeError(f"params of body {row} must be finite, got NaN or infinity")
        warp = np.empty((len(vertices), 18), np.float32)
        warp[:, :3], warp[:, 3:6] = vertices, vertex_normals(vertices, canonical.faces)
        warp[:, 6:15] = (canonical.linear @ _inverse(posed)).reshape(-1, 9)
        warp[:, 15:] = canonical.vertices
        bodies.append(PosedBody(warp, canonical))
    return bodies


def vertex_transforms(model: BodyModel, params: BodyParams) -> Float[Tensor, "B V 3 4"]:
    """Compute the blended bone transform of each vertex, rest to posed, without `transl`; differentiable."""
    rest = model.rest_joints(model.coefficients(params))
    R_world, joints = forward_kinematics(so3_exp(model.full_pose(params)), rest, model.parents)
    bones = rigid_transforms(R_world, joints, rest)
    return (model.weights @ bones.flatten(2)).unflatten(2, (3, 4))


def _loose(model: BodyModel) -> Bool[np.ndarray, "V"]:
    """Tell which vertices go with the head or the feet for the most part."""
    names = model.skeleton.names
    joints = [j for j, name in enumerate(names) if name.split("_")[-1] in _LOOSE]
    return model.weights[:, joints].sum(1).cpu().numpy() > 0.5


def _inverse(matrices: Float[np.ndarray, "V 3 3"]) -> Float[np.ndarray, "V 3 3"]:
    """Invert blended transforms; those that are nearly singular by least squares with damping."""
    folded = np.abs(np.linalg.det(matrices)) < _LEAST_DETERMINANT
    inverse = np.linalg.inv(np.where(folded[:, None, None], np.eye(3), matrices))
    if folded.any():
        bad = matrices[folded]
        transposed = bad.transpose(0, 2, 1)
        inverse[folded] = np.linalg.inv(transposed @ bad + _LEAST_DETERMINANT * np.eye(3)) @ transposed
    return inverse


def _rings(
    faces: Int[np.ndarray, "F 3"], count: int, rings: int, *, itself: bool = False
) -> tuple[Int32[np.ndarray, "V1"], Int32[np.ndarray, "N"]]:
    """List the vertices at most `rings` edges away from each, as row pointers and columns."""
    import scipy.sparse

    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ones = np.ones(len(edges), np.int32)
    adjacency = scipy.sparse.coo_matrix((ones, (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    adjacency = adjacency + adjacency.T + scipy.sparse.identity(count, format="csr")
    wide = adjacency
    for _ in range(rings - 1):
        wide = wide @ adjacency
    if not itself:
        wide.setdiag(0)
    wide.eliminate_zeros()
    wide.sort_indices()
    return wide.indptr.astype(np.int32), wide.indices.astype(np.int32)
