"""The free surface of a registered scan, on a grid in the axes of the body under it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.geometry.cloud import PointCloud, estimated_normals
from bodyfit.geometry.mesh_tree import MeshTree, face_normals
from bodyfit.geometry.rotation import so3_exp
from bodyfit.register.free_surface.run import FreeSurface, surface_of_scan
from bodyfit.register.orientation import oriented
from bodyfit.register.registration import Registration

__all__ = ["free_surface_of"]

_NEAR_M = 0.05
"""Points nearer than this to the skin tell whether normals point outwards."""
_AGREEING = 0.9
"""Share of these whose normal agrees with the skin's, from which on all are taken to point outwards."""


def free_surface_of(
    result: Registration, model: BodyModel, *, cell_m: float = 0.015, longest_edge_m: float | None = 0.012
) -> FreeSurface:
    """Carve, cubify and refine the surface of the person's points of a scan.

    The grid has the axes of the body's root. cell_m, longest_edge_m: as in `surface_of_scan`. `FreeSurface.distance_m`
    is of the points `result.points[result.person]`. Raises `OptionError` where there is no body.
    """
    if result.vertices is None:
        raise OptionError(f"there is no body for the grid of a free surface to lie about: {result.reason}")
    points = result.points[result.person]
    normals = estimated_normals(points) if result.normals is None else result.normals[result.person]
    vertices = result.vertices.double().numpy()
    normals = _outward(points, normals, vertices, model.faces.cpu().numpy())
    axes = so3_exp(result.params.global_orient.double())[0].numpy()
    return surface_of_scan(points, normals, axes=axes, cell_m=cell_m, longest_edge_m=longest_edge_m)


def _outward(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: np.ndarray,
) -> Float[np.ndarray, "N 3"]:
    """Turn normals outwards: all or none where they agree with each other about the skin, else one by one."""
    near = MeshTree(vertices, faces).nearest(points, within=_NEAR_M)
    skin = face_normals(vertices, faces)[near.face[near.found]]
    share = float(np.mean((skin * normals[near.found]).sum(1) > 0)) if near.found.any() else 0.5
    if share > _AGREEING:
        return normals
    if share < 1 - _AGREEING:  # a scan turned inside out
        return -normals
    turned = oriented(PointCloud(points, normals, oriented=False)).normals
    assert turned is not None
    return turned
