"""Surfaces of dressed people before a camera: projected one by one, and gathered into a mesh to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from bodyfit.appearance.dressed import Surface
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.lens import RadialLens
from bodyfit.raster.coverage import normals_of
from bodyfit.render.scene import NEAR_M
from bodyfit.render.texels import Pyramids, pyramids

__all__ = ["GatheredMesh", "Placed", "gather"]

_BACK_M = {
    **{"skin": 0.010, "eyes": 0.010, "brows": 0.0095, "lashes": 0.0085, "shoes": 0.009, "lower": 0.004, "upper": 0.002},
    **{"whole": 0.002, "hair": 0.0, "hat": -0.004, "thing": 0.0},
    "dungarees": -0.002,
}
"""How far behind itself each kind, or one of its pieces, counts as lying when it is asked what hides what, metres.

Skin would show through collars and hems, for cloth lies a few millimetres off it and bends on its own; what is worn
over something else wins over it. Depths and labels are the true ones.
"""
_HAIR_AS_BALL = 0.6
"""How far normals of hair are those of a ball around the head: strands on a card have no normal that means anything."""


@dataclass(frozen=True, eq=False)
class Placed:
    """One surface before the camera."""

    surface: Surface
    faces: Int[np.ndarray, "F 3"]
    """Those of the surface, in 32 bits."""
    points_cam_m: Float[np.ndarray, "V 3"]
    normals: Float[np.ndarray, "V 3"]
    """Of the mesh, camera axes; 0 where a vertex has no face."""
    shaded: Float[np.ndarray, "V 3"]
    """The normals by which it is lit."""
    in_picture: Float[np.ndarray, "V 3"]
    """x px, y px and nearness 1/m."""
    tested: Float[np.ndarray, "V 3"]
    """The same, with the nearness that decides what hides what."""

    @classmethod
    def of(cls, surface: Surface, camera: Camera, lens: RadialLens | None = None) -> Placed:
        """Project a surface in camera axes, metres."""
        points = np.ascontiguousarray(surface.vertices.detach().cpu().float().numpy())
        faces = surface.faces.astype(np.int32)
        normals = normals_of(points, faces)
        depth = np.maximum(points[:, 2:], NEAR_M)
        centre = camera.principal_point_px[0].detach().cpu().numpy()
        rays = points[:, :2] / depth
        xy = (rays if lens is None else lens.distorted(rays)) * float(camera.focal_px[0]) + centre
        ray = np.linalg.norm(points, axis=1, keepdims=True) / depth  # along the ray, seen along the axis
        back = np.maximum(depth + _BACK_M.get(surface.name, _BACK_M[surface.kind]) / np.maximum(ray, 1), NEAR_M)
        in_picture, tested = (np.concatenate([xy, 1 / z], 1).astype(np.float32) for z in (depth, back))
        shaded = _ball_normals(points, normals) if surface.kind == "hair" else normals
        return cls(surface, faces, points, normals, shaded, in_picture, tested)


@dataclass(frozen=True)
class GatheredMesh:
    """Surfaces gathered before the camera."""

    points: Float[np.ndarray, "V 3"]
    """x px, y px and nearness 1/m."""
    tested: Float[np.ndarray, "V 3"]
    """The same, with the nearness that decides what hides what."""
    faces: Int[np.ndarray, "G 3"]
    surfaces: tuple[int, ...]
    """Which surfaces they are."""
    bounds: tuple[int, ...]
    """Surface k of these has the faces `bounds[k]` to `bounds[k + 1]`."""
    face_number: Int[np.ndarray, "G"]
    """Of each face, its number in its surface."""
    uv: Float[np.ndarray, "T 2"]
    uv_faces: Int[np.ndarray, "G 3"]
    light: Float[np.ndarray, "L 4"]
    """As in `light_of_vertices`; of no rows until `lit` gives it."""

    def lit(self, lights: Sequence[Float[np.ndarray, "_ 4"]]) -> GatheredMesh:
        """Put light on the vertices, that of each of all placed surfaces being given."""
        return replace(self, light=np.ascontiguousarray(np.concatenate([lights[k] for k in self.surfaces]), np.float32))

    def shifted(self, corner: Float[np.ndarray, "3"]) -> GatheredMesh:
        """The mesh with its picture's corner there."""
        return replace(self, points=self.points - corner, tested=self.tested - corner)

    def pyramids(self, textures: Sequence[UInt8[np.ndarray, "_ _ _"]], seen: Bool[np.ndarray, "V"]) -> Pyramids:
        """Pyramids of its surfaces' textures, those of all placed surfaces being given."""
        own = [textures[k] for k in self.surfaces]
        return pyramids(own, self.bounds, (self.uv, self.uv_faces), (self.points, self.faces), seen)


def _ball_normals(points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """Normals of hair, for the most part those of a ball around it; a card's own count with either sign."""
    out = points - points.mean(0)
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
    own = normals * np.sign((normals * out).sum(1, keepdims=True))
    mixed = _HAIR_AS_BALL * out + (1 - _HAIR_AS_BALL) * own
    return (mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def gather(placed: Sequence[Placed], rows: Sequence[int]) -> GatheredMesh:
    """Concatenate surfaces, without light; faces with a corner at or behind the camera are left out."""
    faces, numbers, uv_faces, bounds, vertex, row = [], [], [], [0], 0, 0
    for k in rows:
        one = placed[k]
        before = one.points_cam_m[:, 2] > NEAR_M
        used = np.arange(len(one.faces)) if before.all() else np.flatnonzero(before[one.faces].all(1))
        whole = len(used) == len(one.faces)
        faces.append((one.faces if whole else one.faces[used]) + np.int32(vertex))
        uv_faces.append(
            (one.surface.uv_faces if whole else one.surface.uv_faces[used]).astype(np.int32) + np.int32(row)
        )
        numbers.append(used)
        bounds.append(bounds[-1] + len(used))
        vertex, row = vertex + len(one.points_cam_m), row + len(one.surface.uv)
    return GatheredMesh(
        points=np.concatenate([placed[k].in_picture for k in rows]),
        tested=np.concatenate([placed[k].tested for k in rows]),
        faces=np.concatenate(faces),
        surfaces=tuple(rows),
        bounds=tuple(bounds),
        face_number=np.concatenate(numbers),
        uv=np.concatenate([placed[k].surface.uv for k in rows]).astype(np.float32),
        uv_faces=np.concatenate(uv_faces),
        light=np.zeros((0, 4), np.float32),
    )
