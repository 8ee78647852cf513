"""Bring the outline of a surface to that of the mask, smoothly: the network finds moves, not fractions of a pixel."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_array, csc_array, csr_array, dia_array
from scipy.sparse.linalg import splu

from bodyfit.clothed.mesh import SurfaceMesh
from bodyfit.detect.regions import Roi
from bodyfit.geometry.mesh_tree import face_normals, vertex_normals
from bodyfit.raster.depth import NEAR_M, depth_map
from bodyfit.raster.outline import reach_px

__all__ = ["match_outline"]

_ROUNDS = 3
_MOST_PX = 384
"""Side of the region of the mask; a larger one is reduced."""
_FINER = 2
"""Pixels of the drawn surface for one of the mask, in x and y."""
_MOST_M = 0.015
"""A mask that ends farther away is of another pose, or of what the person carries: steps of up to 3 cm take fits away
from the truth."""
_SMOOTH_PX = 1.0
"""Deviation of the smoothing of distances to the mask's edge: it rounds the steps of pixels."""
_NEAR_PX = 1.0
"""How far a vertex of the rim may lie from the surface's outline: others stand before the surface itself."""
_OUTSIDE_PX = 0.3
"""One that lies so far outside of the mask is wrong wherever it stands."""
_HIDDEN_M = 0.03
_MEMBRANE, _STILL, _FIXED = 0.3, 0.05, 1e4
"""Weights of the squared differences of neighbouring anchors' steps, and of the steps of anchors that move and that do
not, beside the rim's residuals."""


def match_outline(
    surface: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    mask: UInt8[np.ndarray, "H W"],
    lens: Float[np.ndarray, "3"],
    roi: Roi,
    mesh: SurfaceMesh,
    *,
    features: bool = True,
) -> Float[np.ndarray, "V 3"]:
    """Move a surface along its normals so that its outline is that of the mask.

    Every vertex between a face that is seen and one that is not, on the outline or outside of the mask, should step to
    the mask's edge. Anchors take the steps of least squares that differ little between neighbours, so that a limb that
    is too wide or too far left changes as a whole; all vertices follow them. surface: camera axes, metres. mask: 128
    and more is the person; its cut by the picture's border is no edge. lens: focal length and principal point, pixels.
    roi: what of the picture is looked at. features: keep fingers, toes, ears and the face, which would swell and fold.
    """
    import cv2

    height, width = mask.shape
    x0, y0, x1, y1 = roi.box((width, height))
    if x1 - x0 < 8 or y1 - y0 < 8:
        return surface
    scale = min(1.0, _MOST_PX / max(x1 - x0, y1 - y0))
    size = max(8, round(scale * (x1 - x0))), max(8, round(scale * (y1 - y0)))
    part = cv2.resize(np.ascontiguousarray(mask[y0:y1, x0:x1]), size, interpolation=cv2.INTER_AREA)
    focal = lens[0] * size[0] / (x1 - x0), lens[0] * size[1] / (y1 - y0)
    centre = (lens[1] - x0) * size[0] / (x1 - x0), (lens[2] - y0) * size[1] / (y1 - y0)
    edge = _smooth_reach(np.asarray(part) >= 128, _SMOOTH_PX)
    still = np.where(mesh.fixed & features, _FIXED, _STILL)
    pull = _MEMBRANE * _differences(mesh) + dia_array((still[None], [0]), shape=(mesh.anchors,) * 2)
    for _ in range(_ROUNDS):
        rim, step_m = _steps(surface, faces, edge, focal, centre)
        rows = mesh.spreading[rim]
        step = splu(csc_array(rows.T @ rows + pull)).solve(rows.T @ step_m)
        surface = surface + mesh.spread(step[:, None]) * vertex_normals(surface, faces)
    return surface


def _steps(
    surface: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    edge: Float32[np.ndarray, "h w"],
    focal_px: tuple[float, float],
    centre_px: tuple[float, float],
) -> tuple[Int[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Find the vertices on the rim, and how far out each should step, metres.

    edge: distance to the mask's edge, positive inside, pixels. The rim goes in zigzag: a vertex that lies within the
    surface's own outline steps by so much less.
    """
    height, width = edge.shape
    rim = np.flatnonzero(_rim(surface, faces) & (surface[:, 2] > NEAR_M))
    x, y, z = surface[rim].T
    at = np.stack([focal_px[1] * y / z + centre_px[1], focal_px[0] * x / z + centre_px[0]])
    within = ((at > 1) & (at < np.array([[height - 1], [width - 1]]))).all(0)
    rim, at, z = rim[within], at[:, within], z[within]
    fine = _FINER * np.array([*focal_px, *centre_px])
    size = _FINER * width, _FINER * height
    drawn = depth_map(surface, faces, (fine[0], fine[1]), (fine[2], fine[3]), size)
    own = map_coordinates(_smooth_reach(drawn.faces >= 0, _FINER * _SMOOTH_PX), _FINER * at - 0.5, order=1) / _FINER
    theirs = map_coordinates(edge, at - 0.5, order=1)
    on_outline = np.abs(own) < _NEAR_PX
    step_m = (theirs - np.where(on_outline, own, 0)) * z / focal_px[0]
    visible = z < _nearest_around(drawn.depth_m, at) + _HIDDEN_M
    usable = visible & (on_outline | (theirs < -_OUTSIDE_PX)) & (np.abs(step_m) < _MOST_M)
    return rim[usable], step_m[usable]


def _smooth_reach(inside: Bool[np.ndarray, "H W"], deviation_px: float) -> Float32[np.ndarray, "H W"]:
    import cv2

    reach = reach_px(inside)
    return np.asarray(cv2.GaussianBlur(reach, (0, 0), deviation_px, borderType=cv2.BORDER_REPLICATE))


def _rim(surface: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Bool[np.ndarray, " V"]:
    """Tell the vertices that have faces towards the camera and faces away from it."""
    towards = (face_normals(surface, faces) * surface[faces].mean(1)).sum(1) < 0
    sides = [np.bincount(faces[of].ravel(), minlength=len(surface)) > 0 for of in (towards, ~towards)]
    return sides[0] & sides[1]


def _nearest_around(depth_m: Float[np.ndarray, "H W"], at: Float[np.ndarray, "2 R"]) -> Float[np.ndarray, " R"]:
    """Return the least depth of the drawn surface in the pixels about places of the mask; far away beside it."""
    import cv2

    near = cv2.erode(np.where(np.isfinite(depth_m), depth_m, 1e3).astype(np.float32), np.ones((3, 3), np.uint8))
    row, column = (_FINER * at).astype(int)
    return np.asarray(near, np.float64)[row, column]


@lru_cache(maxsize=1)
def _differences(mesh: SurfaceMesh) -> csr_array:
    """The form of the squared differences between neighbouring anchors."""
    (a, b), one = mesh.edges.T, np.ones(len(mesh.edges))
    entries = np.r_[one, one, -one, -one], (np.r_[a, b, a, b], np.r_[a, b, b, a])
    return csr_array(coo_array(entries, (mesh.anchors,) * 2))
