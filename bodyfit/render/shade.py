"""Bodies to a shaded, anti-aliased layer of colour and coverage, and over pictures."""

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
from bodyfit.render.bands import by_bands
from bodyfit.render.light import light_of_vertices, openness
from bodyfit.render.scene import Paint, Scene, gather

__all__ = ["Layer", "box_px", "draw_over", "is_closed", "pytorch3d_cameras", "render_bodies"]

_TOGETHER_M = 12.0
"""Longest diagonal of people who cast shadows on each other: the texels of larger shadow maps are too coarse."""
_SKY, _KEY = 28, 8
"""Directions in which a vertex looks for the sky, and for places of the key light; a studio takes more."""


@dataclass(frozen=True)
class Layer:
    """A drawing to lay over a picture."""

    rgba: Float[np.ndarray, "h w 4"]
    """Colour times coverage, and coverage, in [0, 1]."""
    corner_px: tuple[int, int]
    """Column and row of its upper left pixel in the picture."""

    def over(self, picture: Float[np.ndarray, "H W 3"], opacity: float = 1.0) -> None:
        """Lay it over a picture in [0, 1], in place."""
        x, y = self.corner_px
        h, w = self.rgba.shape[:2]
        under = picture[y : y + h, x : x + w]
        under *= 1 - opacity * self.rgba[..., 3:]
        under += opacity * self.rgba[..., :3]


def pytorch3d_cameras(camera: Camera, device: torch.device | str = "cpu") -> PerspectiveCameras:
    """PyTorch3D's cameras, in screen space, of points turned by `bodyfit.geometry.camera.to_pytorch3d_axes`."""
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
    """All bodies in one z-buffer, over the smallest part of the picture that holds them; None where nothing shows.

    Vertices in camera axes, metres. One camera, or one a body where focal lengths differ. A body that is not finite
    (a failed fit) is left out, as are faces at or behind the camera. Edges are soft: eight samples a pixel. `shadows`:
    bodies darken each other and themselves, where the sky or the key light is hidden. Raises `OptionError` for a mesh
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
    """`render_bodies` over a picture of bytes, in place; needs little memory however large the picture is.

    closed: the meshes are (`is_closed`), so that faces that look away need not be drawn.
    """
    scene = gather(bodies, faces, camera)
    if scene is None:
        return
    points = scene.in_picture()
    box = box_px(points, scene.faces, camera.image_size)
    if box is not None:
        # Of a body that the camera is in, what looks away is seen.
        closed = closed and len(scene.faces) == len(np.unique(scene.owner)) * len(faces)
        draw_scene(picture, scene, points, box, light_of_scene(scene, shadows), opacity, closed=closed)


def is_closed(faces: Int[Tensor, "F 3"], vertices: Float[Tensor, "V 3"]) -> bool:
    """Whether a mesh has no border and its faces run counter-clockwise seen from outside; `vertices` of any pose."""
    corners = faces.detach().cpu().numpy().astype(np.int64)
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    there, back = edges @ (len(vertices), 1), edges @ (1, len(vertices))
    a, b, c = vertices.detach().cpu().double().numpy()[corners].transpose(1, 0, 2)
    volume = np.einsum("fi,fi->", a, np.cross(b, c))
    return bool(volume > 0 and len(np.unique(there)) == len(there) and np.array_equal(np.sort(there), np.sort(back)))


def light_of_scene(scene: Scene, shadows: bool) -> Float[np.ndarray, "U 4"]:
    """Light on each vertex; people far from each other cast no shadows on each other."""
    points, normals, faces = scene.points_cam_m, scene.normals, scene.faces
    if not shadows or len(faces) == 0:
        return light_of_vertices(points, normals, None)
    together = float(np.linalg.norm(np.ptp(points, axis=0))) < _TOGETHER_M
    group = np.zeros_like(scene.owner) if together else scene.owner
    light = np.empty((len(points), 4), np.float32)
    for one in np.unique(group):
        mine = np.flatnonzero(group == one)  # in a row
        start, stop = mine[0], mine[-1] + 1
        at, towards, own = points[start:stop], normals[start:stop], faces[group[faces[:, 0]] == one] - start
        open_to, _ = openness(at, towards, own, sky=_SKY, key=_KEY)
        light[start:stop] = light_of_vertices(at, towards, open_to)
    return light


def draw_scene(
    picture: UInt8[np.ndarray, "H W 3"],
    scene: Scene,
    points: Float[np.ndarray, "U 3"],
    box: tuple[int, int, int, int],
    light: Float[np.ndarray, "U 4"],
    opacity: float,
    *,
    closed: bool = False,
) -> None:
    """A lit scene over a picture of bytes, in place."""
    from bodyfit.render.samples import lay_over

    x0, y0, x1, _ = box

    def lay(band: Float[np.ndarray, "h w 4"], touched: Bool[np.ndarray, "h b"], top: int) -> None:
        lay_over(band, touched, opacity, picture[y0 + top : y0 + top + len(band), x0:x1])

    _draw(scene, points, box, light, lay, closed)


def _draw(
    scene: Scene,
    points: Float[np.ndarray, "U 3"],
    box: tuple[int, int, int, int],
    light: Float[np.ndarray, "U 4"],
    use: Callable[[Float[np.ndarray, "h w 4"], Bool[np.ndarray, "h b"], int], None],
    closed: bool = False,
) -> None:
    """Colour and coverage of the box's pixels, handed on a band of rows at a time with which of its blocks of pixels
    hold anything, and its first row."""
    from bodyfit.render.samples import EIGHT, band_picture, blocks, cover

    x0, y0, x1, y1 = box
    width = x1 - x0
    points = points - np.array((x0, y0, 0), np.float32)
    texels, sheets = _sheets(scene, points)

    def work(top: int, rows: int) -> None:
        shown = np.empty((rows, width, len(EIGHT)), np.int32)
        touched = np.zeros((rows, blocks(width)), bool)
        cover(points, scene.faces, top, EIGHT, touched, shown, np.empty(shown.shape, np.float32), closed)
        band, of_faces = np.zeros((rows, width, 4), np.float32), (scene.worn, scene.uv, texels, sheets)
        band_picture(points, scene.faces, top, EIGHT, touched, shown, light, scene.albedo, *of_faces, band)
        use(band, touched, top)

    by_bands(y1 - y0, width * len(EIGHT), work)


def box_px(
    points: Float[np.ndarray, "U 3"], faces: Int[np.ndarray, "G 3"], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Whole pixels x0, y0, x1, y1 about the faces, within the picture; None where there are none."""
    from bodyfit.render.samples import extent

    if len(faces) == 0:
        return None
    low, high = extent(points, faces)
    x0, y0 = np.clip(np.floor(low), 0, size).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(high), 0, size).astype(int).tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _sheets(scene: Scene, points: Float[np.ndarray, "U 3"]) -> tuple[UInt8[np.ndarray, "N 3"], Int[np.ndarray, "T 3"]]:
    """The texels of all textures in a row, made as coarse as the picture, and where each texture lies in it."""
    texels, sheets, first = [np.zeros((0, 3), np.uint8)], np.zeros((len(scene.textures), 3), np.int64), 0
    for k, texture in enumerate(scene.textures):
        mine = scene.worn == k
        height, width = texture.image.shape[:2]
        on_texture = _areas(scene.uv[mine]) * (height * width)
        in_picture = _areas(points[scene.faces[mine], :2])
        shown = in_picture > 1e-3
        finer = math.sqrt(float(np.median(on_texture[shown] / in_picture[shown]))) if shown.any() else 1.0
        factor = min(max(round(finer), 1), height, width)
        image = np.asarray(Image.fromarray(texture.image).reduce(factor)) if factor > 1 else texture.image
        sheets[k] = first, *image.shape[:2]
        texels.append(image.reshape(-1, 3))
        first += len(texels[-1])
    return np.concatenate(texels), sheets


def _areas(triangles: Float[np.ndarray, "N 3 2"]) -> Float[np.ndarray, " N"]:
    """Twice the areas."""
    u, v = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    return np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
