"""Render bodies to a shaded, anti-aliased layer of colour and coverage, and composite them over pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from pytorch3d.renderer import PerspectiveCameras
from torch import Tensor

from bodyfit.geometry.camera import Camera
from bodyfit.raster.bands import by_bands
from bodyfit.render.light import light_of_vertices, openness
from bodyfit.render.scene import Paint, SceneMesh, gather

__all__ = ["Layer", "box_px", "draw_over", "is_closed", "pytorch3d_cameras", "render_bodies"]

_TOGETHER_M = 12.0
"""Longest diagonal of a group whose members shadow each other: texels of larger shadow maps are too coarse."""
_SKY, _KEY = 28, 8
"""Numbers of directions sampled over the sky and over the key light; a studio samples more."""


@dataclass(frozen=True)
class Layer:
    """A rendered layer to composite over a picture."""

    rgba: Float[np.ndarray, "h w 4"]
    """Premultiplied colour (colour times coverage) and coverage, in [0, 1]."""
    corner_px: tuple[int, int]
    """Column and row of the layer's upper left pixel in the picture."""

    def over(self, picture: Float[np.ndarray, "H W 3"], opacity: float = 1.0) -> None:
        """Composite the layer over a picture in [0, 1], in place."""
        x, y = self.corner_px
        h, w = self.rgba.shape[:2]
        under = picture[y : y + h, x : x + w]
        under *= 1 - opacity * self.rgba[..., 3:]
        under += opacity * self.rgba[..., :3]


def pytorch3d_cameras(camera: Camera, device: torch.device | str = "cpu") -> PerspectiveCameras:
    """Make PyTorch3D cameras, in screen space, for points rotated by `bodyfit.geometry.camera.to_pytorch3d_axes`."""
    width, height = camera.image_size
    return PerspectiveCameras(
        focal_length=camera.focal_px[:, None].expand(-1, 2),
        principal_point=camera.principal_point_px,
        in_ndc=False,
        image_size=((height, width),),
        device=device,
    )


def render_bodies(
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    shadows: bool = True,
) -> Layer | None:
    """Render all bodies with one z-buffer, over the smallest box that holds them; None where nothing is visible.

    Vertices in camera axes, metres. One camera, or one a body where focal lengths differ. A body that is not finite
    (a failed fit) is left out, as are faces at or behind the camera. Edges are anti-aliased by eight samples a pixel.
    `shadows`: bodies occlude the sky and the key light from each other and themselves. Raises `OptionError` for a mesh
    without faces.
    """
    scene = gather(bodies, faces, camera)
    if scene is None:
        return None
    points = scene.in_picture()
    box = box_px(points, scene.faces, camera.image_size)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    rgba = np.empty((y1 - y0, x1 - x0, 4), np.float32)

    def keep(band: Float[np.ndarray, "h w 4"], _: Bool[np.ndarray, "h b"], top: int) -> None:
        rgba[top : top + len(band)] = band

    _draw(scene, points, box, light_of_scene(scene, shadows), keep)
    return Layer(rgba, (x0, y0))


def draw_over(
    picture: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    opacity: float = 1.0,
    shadows: bool = True,
    closed: bool = False,
) -> None:
    """Composite bodies over a picture of bytes, in place, with bounded memory; see `render_bodies`.

    closed: the meshes are closed (`is_closed`), so that faces turned away from the camera can be culled.
    """
    scene = gather(bodies, faces, camera)
    if scene is None:
        return
    points = scene.in_picture()
    box = box_px(points, scene.faces, camera.image_size)
    if box is not None:
        # From inside a body its back faces are visible: do not cull where faces were left out behind the camera.
        closed = closed and len(scene.faces) == len(np.unique(scene.body_ids)) * len(faces)
        draw_scene(picture, scene, points, box, light_of_scene(scene, shadows), opacity, closed=closed)


def is_closed(faces: Int[Tensor, "F 3"], vertices: Float[Tensor, "V 3"]) -> bool:
    """Tell whether a mesh has no border and its faces run counter-clockwise seen from outside, in any pose."""
    corners = faces.detach().cpu().numpy().astype(np.int64)
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    forward, backward = edges @ (len(vertices), 1), edges @ (1, len(vertices))
    a, b, c = vertices.detach().cpu().double().numpy()[corners].transpose(1, 0, 2)
    volume = np.einsum("fi,fi->", a, np.cross(b, c))
    return bool(
        volume > 0 and len(np.unique(forward)) == len(forward) and np.array_equal(np.sort(forward), np.sort(backward))
    )


def light_of_scene(scene: SceneMesh, shadows: bool) -> Float[np.ndarray, "U 4"]:
    """Light each vertex, RGB and highlight; people spread over more than `_TOGETHER_M` do not shadow each other."""
    points, normals, faces = scene.points_cam_m, scene.normals, scene.faces
    if not shadows or len(faces) == 0:
        return scene.with_own_light(light_of_vertices(points, normals, None))
    together = float(np.linalg.norm(np.ptp(points, axis=0))) < _TOGETHER_M
    group = np.zeros_like(scene.body_ids) if together else scene.body_ids
    light = np.empty((len(points), 4), np.float32)
    for one in np.unique(group):
        mine = np.flatnonzero(group == one)  # contiguous
        start, stop = mine[0], mine[-1] + 1
        at, towards, own = points[start:stop], normals[start:stop], faces[group[faces[:, 0]] == one] - start
        open_to, _ = openness(at, towards, own, sky=_SKY, key=_KEY)
        light[start:stop] = light_of_vertices(at, towards, open_to)
    return scene.with_own_light(light)


def draw_scene(
    picture: UInt8[np.ndarray, "H W 3"],
    scene: SceneMesh,
    points: Float[np.ndarray, "U 3"],
    box: tuple[int, int, int, int],
    light: Float[np.ndarray, "U 4"],
    opacity: float,
    *,
    closed: bool = False,
) -> None:
    """Composite a lit scene over a picture of bytes, in place."""
    from bodyfit.render.samples import composite_over

    x0, y0, _, _ = box

    def lay(band: Float[np.ndarray, "h w 4"], touched: Bool[np.ndarray, "h b"], top: int) -> None:
        composite_over(band, touched, opacity, picture, y0 + top, x0)

    _draw(scene, points, box, light, lay, closed)


def _draw(
    scene: SceneMesh,
    points: Float[np.ndarray, "U 3"],
    box: tuple[int, int, int, int],
    light: Float[np.ndarray, "U 4"],
    use: Callable[[Float[np.ndarray, "h w 4"], Bool[np.ndarray, "h b"], int], None],
    closed: bool = False,
) -> None:
    """Render the box's pixels a band of rows at a time and call `use(rgba, touched, top)` for each band.

    `touched` marks the blocks of pixels that hold anything; `top` is the band's first row.
    """
    from bodyfit.raster.coverage import EIGHT, blocks, cover
    from bodyfit.render.samples import band_picture

    x0, y0, x1, y1 = box
    width = x1 - x0
    points = points - np.array((x0, y0, 0), np.float32)
    texels, sheets = _sheets(scene, points)

    def work(top: int, rows: int) -> None:
        face_ids = np.empty((rows, width, len(EIGHT)), np.int32)
        touched = np.zeros((rows, blocks(width)), bool)
        cover(points, scene.faces, top, EIGHT, touched, face_ids, np.empty(face_ids.shape, np.float32), closed)
        band, of_faces = np.zeros((rows, width, 4), np.float32), (scene.texture_ids, scene.uv, texels, sheets)
        band_picture(points, scene.faces, top, EIGHT, touched, face_ids, light, scene.albedo, *of_faces, band)
        use(band, touched, top)

    by_bands(y1 - y0, width * len(EIGHT), work)


def box_px(
    points: Float[np.ndarray, "U 3"], faces: Int[np.ndarray, "G 3"], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return the bounding box x0, y0, x1, y1 of the faces in whole pixels, within the picture; None where empty."""
    from bodyfit.raster.coverage import extent

    if len(faces) == 0:
        return None
    low, high = extent(points, faces)
    x0, y0 = np.clip(np.floor(low), 0, size).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(high), 0, size).astype(int).tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _sheets(
    scene: SceneMesh, points: Float[np.ndarray, "U 3"]
) -> tuple[UInt8[np.ndarray, "N 3"], Int[np.ndarray, "T 3"]]:
    """Concatenate the texels of all textures, downsampled to the picture's resolution.

    Returns the texels and, for each texture, its first texel, height and width.
    """
    texels, sheets, first = [np.zeros((0, 3), np.uint8)], np.zeros((len(scene.textures), 3), np.int64), 0
    for k, texture in enumerate(scene.textures):
        mine = scene.texture_ids == k
        height, width = texture.image.shape[:2]
        on_texture = _areas(scene.uv[mine]) * (height * width)
        in_picture = _areas(points[scene.faces[mine], :2])
        visible = in_picture > 1e-3
        finer = math.sqrt(float(np.median(on_texture[visible] / in_picture[visible]))) if visible.any() else 1.0
        factor = min(max(round(finer), 1), height, width)
        image = np.asarray(Image.fromarray(texture.image).reduce(factor)) if factor > 1 else texture.image
        sheets[k] = first, *image.shape[:2]
        texels.append(image.reshape(-1, 3))
        first += len(texels[-1])
    return np.concatenate(texels), sheets


def _areas(triangles: Float[np.ndarray, "N 3 2"]) -> Float[np.ndarray, " N"]:
    """Return twice the areas of triangles."""
    u, v = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
