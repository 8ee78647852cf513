"""The contour of a posed mesh before the background: the rim between faces that look at the camera and others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from bodyfit.body.model import BodyModel
from bodyfit.raster.depth import NEAR_M, nearest_faces

__all__ = ["Contour", "ContourFinder"]

_PER_CM = 2.0
"""Pixels of the drawing for a centimetre at the person."""
_MOST_PX = 640
"""Of the drawing's longer side."""
_ASIDE_PX = 1.5
"""How far beside the rim the background has to be."""


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
        from bodyfit.raster.coverage import normals_of

        z = vertices_cam_m[:, 2]
        if not (np.isfinite(vertices_cam_m).all() and (z > NEAR_M).all()):
            none = np.zeros((0, 2))
            return Contour(np.zeros(0, np.int64), none, none, np.zeros(0))
        uv = vertices_cam_m[:, :2] / z[:, None]
        a, b, c = uv[self.faces[:, 0]], uv[self.faces[:, 1]], uv[self.faces[:, 2]]
        front = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) < 0
        rim = self.edges[front[self.sides[:, 0]] != front[self.sides[:, 1]]]
        normals = normals_of(np.ascontiguousarray(vertices_cam_m, np.float32), self.faces)[:, :2].astype(np.float64)
        across = np.linalg.norm(normals, axis=1)
        rim = rim[(across[rim] > 0.1).all(1)]
        normals = normals / np.maximum(across, 1e-9)[:, None]
        rim = rim[self._before_background(uv, z, rim, normals, scale_cm)]
        return _collected(rim, uv, normals, scale_cm)

    def _before_background(
        self,
        uv: Float[np.ndarray, "V 2"],
        z: Float[np.ndarray, "V"],
        rim: Int[np.ndarray, "R 2"],
        normals: Float[np.ndarray, "V 2"],
        scale_cm: float,
    ) -> Bool[np.ndarray, "R"]:
        """Tell which edges have the body on one side, no farther than they, and nothing on the other."""
        low, high = uv.min(0), uv.max(0)
        per_unit = min(_PER_CM * scale_cm, (_MOST_PX - 8) / float((high - low).max()))
        xy = (uv - low) * per_unit + 4
        width, height = (np.ceil(xy.max(0)) + 4).astype(int).tolist()
        found, nearness = nearest_faces(np.concatenate([xy, 1 / z[:, None]], 1), self.faces, (width, height))
        middle, out = xy[rim].mean(1), normals[rim].mean(1)
        depth = z[rim].mean(1)

        def at(where: Float[np.ndarray, "R 2"]) -> tuple[np.ndarray, np.ndarray]:
            column, row = np.clip(where.astype(int), 0, (width - 1, height - 1)).T
            return found[row, column] >= 0, nearness[row, column]

        beside, _ = at(middle + _ASIDE_PX * out)
        within, near = at(middle - _ASIDE_PX * out)
        # What is behind the surface by more than a limb is the rim of something hidden.
        return ~beside & (~within | (depth < 1 / np.maximum(near, 1e-6) + 0.12))


def _collected(
    rim: Int[np.ndarray, "R 2"], uv: Float[np.ndarray, "V 2"], normals: Float[np.ndarray, "V 2"], scale_cm: float
) -> Contour:
    """Give each vertex of the rim half of the lengths of its edges."""
    length = scale_cm * np.linalg.norm(uv[rim[:, 0]] - uv[rim[:, 1]], axis=1)
    vertices, place = np.unique(rim, return_inverse=True)
    total = np.bincount(place.reshape(-1), weights=np.repeat(length, 2) / 2, minlength=len(vertices))
    return Contour(vertices.astype(np.int64), uv[vertices], normals[vertices], total)


def _edges(faces: Int[np.ndarray, "F 3"]) -> tuple[Int[np.ndarray, "N 2"], Int[np.ndarray, "N 2"]]:
    """List the edges between two faces, and these faces."""
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    face = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, face = ends[order], face[order]
    same = (ends[1:] == ends[:-1]).all(1)
    first = np.flatnonzero(same)
    return ends[first], np.stack([face[first], face[first + 1]], 1)
