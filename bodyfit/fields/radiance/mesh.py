"""Extract the surface of a field as a skinned mesh, and pose it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Bool, Float, Float32, Int
from pytorch3d.ops.marching_cubes import marching_cubes
from scipy.spatial import KDTree

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError
from bodyfit.fields.casting.canonical import CanonicalBody, canonical_pose, pose_bodies, vertex_transforms
from bodyfit.fields.radiance.config import RadianceConfig
from bodyfit.fields.radiance.field import RadianceField
from bodyfit.fields.radiance.grid import BRICK
from bodyfit.runtime.parallel import run

__all__ = ["FieldMesh", "field_mesh", "surface_logit"]

_LEVEL_PER_M = 60.0
"""Density of the surface: 1 cm of it stops 45 % of the light."""
_INSIDE_M = -0.02
"""Nodes deeper than this are inside, whatever rays, which do not get there, left in them."""
_SOFT_M2 = 1e-5
_SPECK = 0.01
"""Components with a smaller part of the faces are left out."""


@dataclass(frozen=True, eq=False)
class FieldMesh:
    """The surface of a field, bound to the body."""

    canonical_m: Float32[np.ndarray, "V 3"]
    """Vertices about the canonical body, metres."""
    rest_m: Float32[np.ndarray, "V 3"]
    """Vertices about the body in its rest pose, metres, for linear blend skinning with `weights`."""
    faces: Int[np.ndarray, "F 3"]
    """Outward triangles."""
    colors: Float32[np.ndarray, "V 3"]
    """sRGB in [0, 1], in the light's mean."""
    weights: Float32[np.ndarray, "V J"]
    """Skinning weights, blended from those of the body's vertices nearby; rows sum to 1."""
    near: Int[np.ndarray, "V K"]
    """Vertices of the body that each goes with."""
    shares: Float32[np.ndarray, "V K"]
    """And their weights; rows sum to 1."""
    canonical: CanonicalBody
    """The body that it is about."""

    def posed(self, model: BodyModel, params: BodyParams) -> Float32[np.ndarray, "V 3"]:
        """Pose the surface with one body, metres, in the axes of the parameters: the warp of rays, inverted."""
        if params.batch != 1:
            raise OptionError(f"one body is posed at a time, got {params.batch}; use params.select([0])")
        body = pose_bodies(self.canonical, model, params)[0]
        linear = np.linalg.inv(body.warp[:, 6:15].reshape(-1, 3, 3).astype(np.float64))
        return _moved(self.canonical_m, self.near, self.shares, self.canonical.vertices, linear, body.vertices)


def field_mesh(field: RadianceField, *, density_per_m: float = _LEVEL_PER_M) -> FieldMesh:
    """Extract the surface where the density has a value, by marching cubes about the canonical body, and skin it.

    The space that the grid leaves out inside of the body counts as dense, outside as empty; small components (haze) are
    left out. Raises `OptionError` where nothing is so dense.
    """
    if not density_per_m > 0:
        raise OptionError(f"density_per_m must be positive, got {density_per_m}")
    volume = _logit_volume(field)
    level = surface_logit(field.config, density_per_m)
    vertices, faces = marching_cubes(torch.from_numpy(volume.transpose(2, 1, 0).copy())[None], level, False)
    if not len(vertices) or not len(faces[0]):
        raise OptionError(f"the field has no surface of {density_per_m:g} per metre; was it trained?")
    canonical, size = field.canonical, field.grid.arrays.sizes[-1]
    places = (field.grid.arrays.low - size + vertices[0].double().numpy() * size).astype(np.float32)
    corners, places = _large_components(faces[0].numpy(), places)
    corners = _outward(corners, places)
    near, shares = _bound(canonical, places)
    with torch.no_grad():
        params = field.model.params(betas=canonical.betas, body_pose=canonical_pose(field.model))
        transforms = vertex_transforms(field.model, params)[0, :, :, :3].double().cpu().numpy()
        rest = _rest_vertices(field.model, canonical)
    weights = (field.model.weights.cpu().numpy()[near] * shares[..., None]).sum(1)
    return FieldMesh(
        canonical_m=places,
        rest_m=_moved(places, near, shares, canonical.vertices, np.linalg.inv(transforms), rest),
        faces=corners,
        colors=_colors(field, places),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        near=near,
        shares=shares,
        canonical=canonical,
    )


def surface_logit(config: RadianceConfig, density_per_m: float = _LEVEL_PER_M) -> float:
    """Compute the density logit of the surface."""
    return float(np.log(np.expm1(min(density_per_m / config.density_per_m, 50.0))) - config.density_bias)


def _logit_volume(field: RadianceField) -> Float32[np.ndarray, "X Y Z"]:
    """Lay the logits of the finest nodes into a box with a border of empty ones."""
    from bodyfit.fields.radiance.draw_loops import at_places

    grid, level = field.grid, len(field.config.nodes_m) - 1
    rows = grid.level_rows(level)
    places, logits = grid.places()[rows], np.empty((rows.stop - rows.start, 4), np.float32)
    run(at_places, len(places), places, *grid.arrays, field.values, logits, grain=4096)
    dense, empty = field.config.start_logit, -10.0
    value = np.where(grid.signed_m[rows] < _INSIDE_M, max(dense, 0), logits[:, 0]).astype(np.float32)
    index = np.rint((places - grid.arrays.low) / grid.arrays.sizes[level]).astype(int) + 1
    shape = BRICK * grid.arrays.dims[level] + 2
    volume, stored = np.full(shape, empty, np.float32), np.zeros(shape, bool)
    volume[tuple(index.T)], stored[tuple(index.T)] = value, True
    labels, _ = scipy.ndimage.label(~stored)  # pyright: ignore[reportGeneralTypeIssues]
    volume[~stored & (labels != labels[0, 0, 0])] = dense  # holes of the grid that the border does not reach
    return volume


def _large_components(
    faces: Int[np.ndarray, "F 3"], places: Float32[np.ndarray, "V 3"]
) -> tuple[Int[np.ndarray, "G 3"], Float32[np.ndarray, "W 3"]]:
    """Drop components that are a small part of the faces."""
    import trimesh

    labels = trimesh.graph.connected_component_labels(
        np.concatenate([faces[:, :2], faces[:, 1:]]), node_count=len(places)
    )
    of_face = labels[faces[:, 0]]
    counts = np.bincount(of_face, minlength=int(labels.max()) + 1)
    left: Bool[np.ndarray, "F"] = counts[of_face] >= _SPECK * len(faces)
    used, corners = np.unique(faces[left], return_inverse=True)
    return corners.reshape(-1, 3), places[used]


def _outward(faces: Int[np.ndarray, "F 3"], places: Float32[np.ndarray, "V 3"]) -> Int[np.ndarray, "F 3"]:
    """Turn faces so that the volume that they enclose is positive."""
    a, b, c = (places[faces[:, k]].astype(np.float64) for k in range(3))
    return faces if (a * np.cross(b, c)).sum() > 0 else faces[:, ::-1].copy()


def _bound(
    canonical: CanonicalBody, places: Float32[np.ndarray, "V 3"]
) -> tuple[Int[np.ndarray, "V K"], Float32[np.ndarray, "V K"]]:
    """Find the vertices over which the warp of each place is blended, and their weights."""
    _, nearest = KDTree(canonical.vertices).query(places)
    first, count = canonical.wide_ptr[nearest], np.diff(canonical.wide_ptr)[nearest]
    slots = np.arange(int(count.max()))
    member = slots < count[:, None]
    near = canonical.wide[np.where(member, first[:, None] + slots, first[:, None])]
    square = ((places[:, None] - canonical.vertices[near]) ** 2).sum(2) + _SOFT_M2
    shares = np.where(member, 1 / square**2, 0)
    return near, (shares / shares.sum(1, keepdims=True)).astype(np.float32)


def _moved(
    places: Float32[np.ndarray, "V 3"],
    near: Int[np.ndarray, "V K"],
    shares: Float32[np.ndarray, "V K"],
    before: Float[np.ndarray, "B 3"],
    linear: Float[np.ndarray, "B 3 3"],
    after: Float[np.ndarray, "B 3"],
) -> Float32[np.ndarray, "V 3"]:
    """Move places with the body's vertices: sum_k share_k (after_k + L_k (x - before_k))."""
    out = np.zeros((len(places), 3))
    for k in range(near.shape[1]):
        at = near[:, k]
        turned = np.einsum("vij,vj->vi", linear[at], places - before[at])
        out += shares[:, k : k + 1] * (after[at] + turned)
    return out.astype(np.float32)


def _rest_vertices(model: BodyModel, canonical: CanonicalBody) -> Float[np.ndarray, "B 3"]:
    """Compute the vertices of the shaped body at rest."""
    return model(betas=canonical.betas).vertices[0].double().cpu().numpy()


def _colors(field: RadianceField, places: Float32[np.ndarray, "V 3"]) -> Float32[np.ndarray, "V 3"]:
    """Compute colours in the mean of the light over all directions."""
    from bodyfit.fields.radiance.draw_loops import at_places

    logits = np.empty((len(places), 4), np.float32)
    at = (places.astype(np.float64), *field.grid.arrays, field.values, logits)
    run(at_places, len(places), *at, grain=4096)
    albedo = 1 / (1 + np.exp(-logits[:, 1:]))
    return np.clip(albedo * field.light[0], 0, 1).astype(np.float32)
