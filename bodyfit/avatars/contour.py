"""Bring the outline of a moved-out body to the outlines of masks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy.ndimage import map_coordinates
from scipy.sparse import csc_array, dia_array
from scipy.sparse.linalg import splu

from bodyfit.avatars.posed import PosedView
from bodyfit.avatars.view import PERSON, UNKNOWN
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.raster.outline import pixels_across
from bodyfit.register.surface.smoothness import Smoothness

__all__ = ["match_outlines"]

_RIM = 0.3
"""Greatest cosine between the normal and a view for which a vertex is on the rim."""
_NEAR_PX = 1.5
"""How far a vertex on the rim may lie from the body's outline: others stand before the body itself."""
_MOST_M = 0.02
"""Longest step, metres: a mask that ends farther away is of a body in another pose."""
_FEW = 1.0
"""As many views, counted by how well they see the rim, as a vertex must have for half a step."""
_EXACT_M, _FITTED_M = 0.006, 0.018
"""Details smaller than this are smoothed, where bodies and masks are exact, and where they are not."""
_STILL = 0.05
"""Pull to no step, beside the views'."""


def match_outlines(
    views: Sequence[PosedView],
    distance_m: Float[np.ndarray, " V"],
    rest_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    limits_m: Float[np.ndarray, "V 2"],
    *,
    exact: bool,
    rounds: int = 2,
) -> Float[np.ndarray, " V"]:
    """Step the distances of vertices along their normals so that the body's outlines are those of the masks.

    A vertex on the rim of the body in a view steps by how much farther the mask reaches there than the body, in the
    mean over the views, smoothed. views: of the body that is not moved out. limits_m: least and greatest distance of
    each vertex. exact: bodies and masks are exact.
    """
    smoothness = Smoothness(rest_m, faces)
    form = smoothness.form(membrane_m=0.0, bending_m=_EXACT_M if exact else _FITTED_M)
    for _ in range(rounds):
        sums, total = np.zeros(len(distance_m)), np.zeros(len(distance_m))
        for view in views:
            _add_steps(view.moved(distance_m), faces, sums, total)
        trust = total / (total + _FEW)
        weight = smoothness.areas * trust
        pull = dia_array(((weight + _STILL * smoothness.areas)[None], [0]), shape=(len(weight),) * 2)
        step = splu(csc_array(form + pull)).solve(weight * sums / np.maximum(total, 1e-9))
        distance_m = np.clip(distance_m + step, *limits_m.T)
    return distance_m


def _add_steps(
    view: PosedView, faces: Int[np.ndarray, "F 3"], sums: Float[np.ndarray, " V"], total: Float[np.ndarray, " V"]
) -> None:
    """Add the steps that one view asks for, weighted, to `sums`, and the weights to `total`."""
    points, (fx, fy, cx, cy) = view.points, view.lens
    depth = np.maximum(points[:, 2], 0.1)
    at = np.stack([fy * points[:, 1] / depth + cy - 0.5, fx * points[:, 0] / depth + cx - 0.5])
    cosine = -(vertex_normals(points, faces) * points).sum(1) / np.maximum(np.linalg.norm(points, axis=1), 1e-9)
    height, width = view.state.shape
    inside = (points[:, 2] > 0.1) & (at > 1).all(0) & (at[0] < height - 2) & (at[1] < width - 2)
    rim = np.flatnonzero(inside & (np.abs(cosine) < _RIM))
    if not len(rim):
        return
    body, mask = view.depth(faces).faces >= 0, view.state == PERSON
    own = map_coordinates(_reach(body), at[:, rim], order=1)
    theirs = map_coordinates(_reach(mask), at[:, rim], order=1)
    unknown = cv2.dilate((view.state == UNKNOWN).astype(np.uint8), np.ones((7, 7), np.uint8))
    clear = unknown[tuple(at[:, rim].round().astype(int))] == 0
    steps = (theirs - own) * depth[rim] / fx
    usable = (np.abs(own) < _NEAR_PX) & clear & (np.abs(steps) < _MOST_M)
    rim, steps = rim[usable], steps[usable]
    weight = 1 - np.abs(cosine[rim]) / _RIM
    sums[rim] += weight * steps
    total[rim] += weight


def _reach(inside: Bool[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Return the signed distance to the border of a mask, positive inside, pixels."""
    # The picture's border is no outline, but nobody is known beyond it.
    return pixels_across(np.pad(inside, 1))[1:-1, 1:-1]
