"""Gather several bodies into one mesh before one camera, ready to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera
from bodyfit.raster.depth import NEAR_M
from bodyfit.render.color import Color, to_linear

__all__ = ["Paint", "SceneMesh", "Texture", "gather", "undrawn"]


@dataclass(frozen=True, eq=False)
class Texture:
    """A texture image and its coordinates on a body."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    uv: Float[np.ndarray, "T 2"]
    """Texture coordinates, the origin at the picture's lower left (`model.uv`)."""
    uv_faces: Int[np.ndarray, "F 3"]
    """Rows of `uv` at each face's corners (`model.uv_faces`)."""
    lit: bool = True
    """Whether the studio's light falls on it; False for a picture that has its own light in it, as avatars have."""
    light: Float[np.ndarray, "V 3"] | None = None
    """Light on each vertex in place of the studio's, linear, of an unlit texture; white if left out."""

    def __post_init__(self) -> None:
        check_shape("image of a texture", self.image, (None, None, 3))
        if self.image.size == 0:
            raise OptionError("the texture's picture has no pixels")
        if self.uv_faces.min(initial=0) < 0 or self.uv_faces.max(initial=0) >= len(self.uv):
            raise OptionError(f"uv_faces must be rows of uv, 0 to {len(self.uv) - 1}")


Paint = Color | Float[Tensor, "V 3"] | Float[np.ndarray, "V 3"] | Texture
"""A body's appearance: one colour, a colour a vertex (sRGB in [0, 1]), or a texture."""


@dataclass(frozen=True)
class SceneMesh:
    """The bodies that can be drawn, concatenated into U vertices and G faces."""

    points_cam_m: Float[np.ndarray, "U 3"]
    """Vertices in camera axes; a body with a camera of its own is moved so that it projects to the same pixels."""
    normals: Float[np.ndarray, "U 3"]
    """Outward unit normals."""
    faces: Int[np.ndarray, "G 3"]
    """Vertex indices; faces with a corner at or behind the camera are left out."""
    albedo: Float[np.ndarray, "U 3"]
    """Vertex colours, in linear light."""
    body_ids: Int[np.ndarray, " U"]
    """Each vertex's body, as an index into the list of bodies."""
    textures: tuple[Texture, ...]
    """Textures of the bodies that have one."""
    texture_ids: Int[np.ndarray, " G"]
    """Each face's index into `textures`, -1 for none."""
    uv: Float[np.ndarray, "W 3 2"]
    """Texture coordinates at the corners of faces: W = G, or 0 where there are no textures."""
    lit: Bool[np.ndarray, " U"]
    """Whether the studio's light falls on each vertex."""
    own_light: Float[np.ndarray, "U 3"]
    """The light on the others."""
    focal_px: float
    """The scene camera's focal length."""
    principal_point_px: tuple[float, float]
    """The scene camera's principal point."""

    def with_own_light(self, light: Float[np.ndarray, "U 4"]) -> Float[np.ndarray, "U 4"]:
        """Replace the light on vertices whose texture has its own."""
        light[~self.lit, :3] = self.own_light[~self.lit]
        light[~self.lit, 3] = 0.0
        return light

    def in_picture(self) -> Float[np.ndarray, "U 3"]:
        """Project the vertices to x px, y px and 1 / depth in 1/m."""
        near = 1 / np.maximum(self.points_cam_m[:, 2:], NEAR_M)
        xy = self.points_cam_m[:, :2] * near * self.focal_px + np.asarray(self.principal_point_px, np.float32)
        return np.concatenate([xy, near], 1).astype(np.float32)


def undrawn(bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]], camera: Camera) -> list[str | None]:
    """Explain why each body cannot be drawn in a picture; None where it can, whether others hide it or not."""
    return [_reason(vertices, _one_camera(camera, i, len(bodies))) for i, (vertices, _) in enumerate(bodies)]


def _reason(vertices: Float[Tensor, "V 3"], camera: Camera) -> str | None:
    """Explain why a body cannot be drawn, or None."""
    if not bool(torch.isfinite(vertices).all()):
        return "its vertices are not finite"
    before = vertices[vertices[:, 2] > NEAR_M].float()
    if len(before) == 0:
        return "it is behind the camera"
    xy = camera.project(before[None].to(camera.focal_px.device))[0]
    low, high, (width, height) = xy.amin(0), xy.amax(0), camera.image_size
    outside = float(high.min()) <= 0 or float(low[0]) >= width or float(low[1]) >= height
    return "it is outside the picture" if outside else None


def _one_camera(camera: Camera, index: int, n_bodies: int) -> Camera:
    """Select a body's camera; raises `OptionError` where cameras do not match bodies."""
    n_cameras = len(camera.focal_px)
    if n_cameras not in (1, n_bodies):
        raise OptionError(f"camera must hold one camera or one a body, got {n_cameras} for {n_bodies} bodies")
    return camera.select([index if n_cameras > 1 else 0])


def gather(
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]], faces: Int[Tensor, "F 3"], camera: Camera
) -> SceneMesh | None:
    """Gather bodies into one mesh before the first body's camera; None where no body is finite.

    A body that is not finite (a failed fit) is left out. Raises `ShapeError` and `OptionError`, also for a mesh
    without faces.
    """
    from bodyfit.raster.coverage import normals_of

    check_shape("faces", faces, (None, 3))
    if len(faces) == 0:
        raise OptionError("faces is empty: a mesh without triangles cannot be drawn; give the model's faces")
    corners = faces.detach().cpu().numpy().astype(np.int32)
    _one_camera(camera, 0, len(bodies))
    first = None
    points, normals, albedo, body_ids = [], [], [], []
    visible_faces, textures, texture_ids, uv, lit, own_light = [], [], [], [], [], []
    start, lowest_index, highest_index = 0, corners.min(), corners.max()
    for i, (vertices, paint) in enumerate(bodies):
        check_shape("vertices", vertices, (None, 3), hint="give one body at a time, out.vertices[0]")
        xyz = np.ascontiguousarray(vertices.detach().cpu().float().numpy())
        if not np.isfinite(xyz).all():
            continue
        if lowest_index < 0 or highest_index >= len(xyz):
            raise OptionError(
                f"faces must be rows of vertices, 0 to {len(xyz) - 1}, got {lowest_index} to {highest_index}"
            )
        normals.append(normals_of(xyz, corners))
        own = _one_camera(camera, i, len(bodies))
        focal, centre = float(own.focal_px[0]), own.principal_point_px[0].detach().cpu().numpy()
        if first is None:
            first = focal, centre
        # Keep depth and adjust x and y for a different focal length and centre: same pixels, one z-buffer.
        shift = xyz[:, 2:] * (centre - first[1])
        points.append(np.concatenate([(xyz[:, :2] * focal + shift) / first[0], xyz[:, 2:]], 1).astype(np.float32))
        near = xyz[:, 2] <= NEAR_M
        before = ~near[corners].any(1) if near.any() else slice(None)
        visible_faces.append(corners[before] + start)
        albedo.append(np.broadcast_to(to_linear(_colors(paint, len(xyz))), xyz.shape))
        body_ids.append(np.full(len(xyz), i))
        lit.append(np.full(len(xyz), not isinstance(paint, Texture) or paint.lit))
        own_light.append(_own_light(paint, len(xyz)))
        texture_ids.append(
            np.full(len(visible_faces[-1]), len(textures) if isinstance(paint, Texture) else -1, np.int32)
        )
        if isinstance(paint, Texture):
            check_shape("uv_faces of a texture", paint.uv_faces, (len(faces), 3), hint="one row a face")
            textures.append(paint)
            uv.append(paint.uv.astype(np.float32)[paint.uv_faces[before]])
        else:
            uv.append(np.broadcast_to(np.zeros((1, 1, 2), np.float32), (len(visible_faces[-1]), 3, 2)))
        start += len(xyz)
    if first is None:
        return None
    return SceneMesh(
        points_cam_m=np.concatenate(points),
        normals=np.concatenate(normals),
        faces=np.concatenate(visible_faces),
        albedo=np.concatenate(albedo).astype(np.float32),
        body_ids=np.concatenate(body_ids),
        textures=tuple(textures),
        texture_ids=np.concatenate(texture_ids),
        uv=np.concatenate(uv) if textures else np.zeros((0, 3, 2), np.float32),
        lit=np.concatenate(lit),
        own_light=np.concatenate(own_light),
        focal_px=first[0],
        principal_point_px=(float(first[1][0]), float(first[1][1])),
    )


def _own_light(paint: Paint, n_vertices: int) -> Float[np.ndarray, "V 3"]:
    """Return the light that an unlit texture has on each vertex; white for other paints. Raises `ShapeError`."""
    if not isinstance(paint, Texture) or paint.light is None:
        return np.ones((n_vertices, 3), np.float32)
    check_shape("light of a texture", paint.light, (n_vertices, 3), hint="one row a vertex")
    return paint.light.astype(np.float32)


def _colors(paint: Paint, n_vertices: int) -> Float[np.ndarray, "*V 3"]:
    """Return the sRGB colour of all vertices, or one a vertex; white under a texture. Raises `OptionError`."""
    if isinstance(paint, Texture):
        return np.ones(3)
    colors = torch.as_tensor(paint).detach().cpu().double().numpy()
    if colors.shape not in ((3,), (n_vertices, 3)):
        raise OptionError(f"a colour must be (3,) or ({n_vertices}, 3), RGB in [0, 1], got {colors.shape}")
    if not (colors.min() >= 0 and colors.max() <= 1):
        raise OptionError("colours must be RGB in [0, 1]; divide bytes by 255")
    return colors
