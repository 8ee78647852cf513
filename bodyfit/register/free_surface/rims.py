"""Where the edges of masks want a mesh's rims: the places at which it turns from a camera."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from bodyfit.geometry.mesh_tree import face_normals, vertex_normals
from bodyfit.raster.outline import trace
from bodyfit.register.free_surface.views import CarveView

__all__ = ["rim_targets"]

_MIN_COSINE = 0.7
"""Least cosine between the outline's normal and that of the mesh, both in the picture."""


def rim_targets(
    views: Sequence[CarveView], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], *, reach_m: float
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Return oriented points that the surface should pass through, of all views: (N, 3) places, (N, 3) unit normals.

    A vertex on a rim is moved, at its depth, to the nearest point of the mask's outline whose normal agrees, if that is
    not farther than `reach_m`; outlines that the picture's border makes do not count.
    """
    normals = vertex_normals(vertices, faces)
    of_faces = face_normals(vertices, faces)
    places: list[np.ndarray] = [np.zeros((0, 3))]
    directions: list[np.ndarray] = [np.zeros((0, 3))]
    for view in views:
        height, width = view.mask.shape
        outline = trace(255 * view.mask.astype(np.uint8), (0, 0), (width, height))
        if not outline.certain.any():
            continue
        edge_px, edge_normal = outline.xy_px[outline.certain], outline.normal[outline.certain]
        rim = np.flatnonzero(_on_rim(view, vertices, faces, of_faces))
        xy, depth = view.project(vertices[rim])
        ahead = np.isfinite(xy).all(1)
        rim, xy, depth = rim[ahead], xy[ahead], depth[ahead]
        flat = (normals[rim] @ view.camera.R.T)[:, :2]
        flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        _, near = KDTree(edge_px).query(xy)
        near = np.asarray(near)
        along = ((edge_px[near] - xy) * edge_normal[near]).sum(1)  # outwards, pixels
        shift = along * depth / view.camera.focal_px
        beside = np.linalg.norm(edge_px[near] - xy, axis=1) * depth / view.camera.focal_px
        fits = ((flat * edge_normal[near]).sum(1) > _MIN_COSINE) & (beside < reach_m)
        n = np.pad(edge_normal[near[fits]], ((0, 0), (0, 1))) @ view.camera.R
        places.append(vertices[rim[fits]] + shift[fits, None] * n)
        directions.append(n)
    return np.concatenate(places), np.concatenate(directions)


def _on_rim(
    view: CarveView,
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    normals: Float[np.ndarray, "F 3"],
) -> Bool[np.ndarray, " V"]:
    """Tell the vertices between faces that are turned to a camera and faces that are turned from it."""
    eye = -view.camera.R.T @ view.camera.t
    front = (normals * (eye - vertices[faces[:, 0]])).sum(1) > 0
    some_front, some_back = np.zeros((2, len(vertices)), bool)
    some_front[faces[front]] = True
    some_back[faces[~front]] = True
    return some_front & some_back
