"""The contour of a posed mesh before the background: the rim between faces that look at the camera and others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from bodyfit.body.model import BodyModel
from bodyfit.raster.depth import NEAR_M, nearest_faces
from bodyfit.raster.outline import PER_STEP, crossings

__all__ = ["Contour", "ContourFinder"]

_PER_CM = 2.0
"""Pixels of the drawing for a centimetre at the person."""
_MOST_PX = 640
"""Of the drawing's longer side."""
_NEAR_PX, _BESIDE = 5.0, 4.0
"""How far from the outline a vertex of the rim may lie along it, and how much more a distance across it counts."""
_NEAREST = 6


@dataclass(frozen=True, eq=False)
class Contour:
    """Points of a body's outline in one view."""

    vertices: Int[np.ndarray, "N"]
    """Vertices on the rim."""
    uv: Float[np.ndarray, "N 2"]
    """Where they are, normalised image coordinates (x / z, y / z)."""
    normal: Float[np.ndarray, "N 2"]
    """Unit normals of the contour, out of the body."""
    length_cm: Float[np.ndarray, "N"]
    """Length of the contour that each stands for."""


class ContourFinder:
    """Finder of contours, for one model."""

    def __init__(self, model: BodyModel) -> None:
        self.faces = model.faces.cpu().numpy().astype(np.int32)
        self.edges, self.sides = _edges(self.faces)

    def find(self, vertices_cam_m: Float[np.ndarray, "V 3"], scale_cm: float) -> Contour:
        """Find the outline of a body in a camera's axes; `scale_cm` are the centimetres of a normalised unit there.

        A body with a vertex behind the near plane has none.
        """
        z = vertices_cam_m[:, 2]
        if not (np.isfinite(vertices_cam_m).all() and (z > NEAR_M).all()):
            none = np.zeros((0, 2))
            return Contour(np.zeros(0, np.int64), none, none, np.zeros(0))
        uv = vertices_cam_m[:, :2] / z[:, None]
        a, b, c = uv[self.faces[:, 0]], uv[self.faces[:, 1]], uv[self.faces[:, 2]]
        front = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) < 0
        rim = np.unique(self.edges[front[self.sides[:, 0]] != front[self.sides[:, 1]]])
        low, high = uv.min(0), uv.max(0)
        per_unit = min(_PER_CM * scale_cm, (_MOST_PX - 8) / float((high - low).max()))
        xy = (uv - low) * per_unit + 4
        width, height = (np.ceil(xy.max(0)) + 4).astype(int).tolist()
        drawn, _ = nearest_faces(np.concatenate([xy, 1 / z[:, None]], 1), self.faces, (width, height))
        outline, out = outline_of_drawing(drawn >= 0)
        to, good = _nearest(xy[rim], outline, out)
        found, place = np.unique(to[good], return_inverse=True)
        count = np.bincount(place, minlength=len(found))
        normal = np.stack([np.bincount(place, weights=out[good, k], minlength=len(found)) for k in (0, 1)], 1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        vertices = rim[found]
        return Contour(vertices.astype(np.int64), uv[vertices], normal, count * (scale_cm / per_unit / PER_STEP))


def outline_of_drawing(
    covered: Bool[np.ndarray, "H W"],
) -> tuple[Float[np.ndarray, "E 2"], Float[np.ndarray, "E 2"]]:
    """Find where a drawing ends, and the directions out of it."""
    import cv2

    values = cv2.GaussianBlur(covered.astype(np.float32), (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE)
    return crossings(np.asarray(values, np.float32) - np.float32(0.5))


def _nearest(
    rim: Float[np.ndarray, "R 2"], outline: Float[np.ndarray, "E 2"], out: Float[np.ndarray, "E 2"]
) -> tuple[Int[np.ndarray, "E"], Bool[np.ndarray, "E"]]:
    """Give each point of the outline the vertex of the rim that is nearest, across it above all; and whether it is."""
    few = min(_NEAREST, len(rim))
    _, near = KDTree(rim).query(outline, k=few)
    near = np.asarray(near).reshape(len(outline), few)
    apart = rim[near] - outline[:, None]
    across = (apart * out[:, None]).sum(2)
    cost = (apart**2).sum(2) + (_BESIDE**2 - 1) * across**2
    best = cost.argmin(1)
    rows = np.arange(len(outline))
    return near[rows, best], (cost[rows, best] < _NEAR_PX**2) & (np.abs(across[rows, best]) < _NEAR_PX / _BESIDE)


def _edges(faces: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, "N 2"], Int[np.ndarray, "N 2"]]:
    """List the edges between two faces, and these faces."""
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    face = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, face = ends[order], face[order]
    same = (ends[1:] == ends[:-1]).all(1)
    first = np.flatnonzero(same)
    return ends[first], np.stack([face[first], face[first + 1]], 1)
