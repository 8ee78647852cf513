"""Bodies to a shaded, anti-aliased layer of colour and coverage: PyTorch3D's cameras, lights and shading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pytorch3d.renderer import DirectionalLights, Materials, PerspectiveCameras, TexturesVertex
from pytorch3d.renderer.mesh.rasterizer import Fragments, RasterizationSettings
from pytorch3d.renderer.mesh.shading import gouraud_shading
from pytorch3d.renderer.utils import TensorProperties
from pytorch3d.structures import Meshes
from torch import Tensor

from bodyfit.camera import Camera, to_pytorch3d_axes
from bodyfit.errors import OptionError, check_shape
from bodyfit.render.rasterize import MeshRasterizer

__all__ = ["Color", "Layer", "StudioLights", "pytorch3d_cameras", "render_bodies"]

Color = tuple[float, float, float]
"""Red, green and blue in [0, 1]."""

_NEAR_M = 0.1
"""Faces with a corner nearer than this are not drawn."""
_FINE_SAMPLES = 3_000_000
_MAX_SAMPLES = 32_000_000
"""Most samples of a drawing with 3x3 and with 2x2 a pixel; larger ones (most of a 12-megapixel photo) get one each."""


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


class StudioLights(TensorProperties):
    """A warm key light from above the camera's left, a cool fill from its right and a rim light from behind.

    PyTorch3D's lights hold one light a mesh; this is three behind the same interface, of which the key alone glints.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__(device=device, ambient_color=((0.42, 0.43, 0.45),))
        key = (0.75, 0.85, -1.0)  # PyTorch3D's axes: x left, y up, z away from the camera
        towards = torch.tensor((key, (-1.0, 0.15, -0.55), (-0.25, 0.7, 0.9)), device=device)
        self._towards = torch.nn.functional.normalize(towards)
        self._colors = torch.tensor(((0.60, 0.59, 0.56), (0.17, 0.19, 0.23), (0.22, 0.22, 0.24)), device=device)
        self._key = DirectionalLights(direction=(key,), specular_color=((0.10,) * 3,), device=device)

    def diffuse(self, normals: Float[Tensor, "*B 3"], points: Tensor) -> Float[Tensor, "*B 3"]:
        """As a PyTorch3D light's."""
        return (torch.nn.functional.normalize(normals, dim=-1) @ self._towards.T).relu() @ self._colors

    def specular(self, normals: Tensor, points: Tensor, camera_position: Tensor, shininess: Tensor) -> Tensor:
        """As a PyTorch3D light's."""
        return self._key.specular(normals, points, camera_position, shininess)


def pytorch3d_cameras(camera: Camera, device: torch.device | str = "cpu") -> PerspectiveCameras:
    """The same cameras in PyTorch3D, for points turned by `to_pytorch3d_axes`."""
    width, height = camera.image_size
    return PerspectiveCameras(
        focal_length=camera.focal_px[:, None].expand(-1, 2),
        principal_point=camera.principal_point_px,
        in_ndc=False,
        image_size=((height, width),),
        device=device,
    )


def render_bodies(
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Color]], faces: Int[Tensor, "F 3"], camera: Camera
) -> Layer | None:
    """All bodies in one z-buffer, over the smallest part of the picture that holds them; None where nothing shows.

    Vertices in camera axes, metres. One camera, or one a body where focal lengths differ. A body that is not finite
    (a failed fit) is left out, as are faces at or behind the camera. Edges are soft: 2x2 or 3x3 samples a pixel.
    """
    vertices, colors, corners, camera = _scene(bodies, faces, camera)
    drawn = (vertices[..., 2] > _NEAR_M)[corners].all(1)
    box = _box_px(vertices, corners[drawn], camera)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    pixels = (x1 - x0) * (y1 - y0)
    fine = next((n for n, most in ((3, _FINE_SAMPLES), (2, _MAX_SAMPLES)) if n * n * pixels <= most), 1)
    crop = Camera(
        camera.focal_px * fine,
        (camera.principal_point_px - camera.principal_point_px.new_tensor((x0, y0))) * fine,
        ((x1 - x0) * fine, (y1 - y0) * fine),
    )
    rgba = _shaded(vertices, colors, corners[drawn], crop)
    rows = sum(rgba[k::fine] for k in range(1, fine)) + rgba[::fine]  # rows first: five times as fast as a mean
    coarse = (sum(rows[:, k::fine] for k in range(1, fine)) + rows[:, ::fine]) / fine**2
    return Layer(coarse.cpu().numpy(), (x0, y0))


def _scene(
    bodies: Sequence[tuple[Tensor, Color]], faces: Tensor, camera: Camera
) -> tuple[Float[Tensor, "U 3"], Float[Tensor, "U 3"], Int[Tensor, "G 3"], Camera]:
    """Vertices, their colours and the faces of all bodies together, before the first body's camera."""
    n_cameras = camera.focal_px.shape[0]
    if n_cameras not in (1, len(bodies)):
        raise OptionError(f"camera must hold one camera or one a body, got {n_cameras} for {len(bodies)} bodies")
    first = Camera(camera.focal_px[:1].float(), camera.principal_point_px[:1].float(), camera.image_size)
    kept, colors, corners, start = [], [], [], 0
    for i, (vertices, color) in enumerate(bodies):
        check_shape("vertices", vertices, (None, 3), hint="give one body at a time, out.vertices[0]")
        if not bool(torch.isfinite(vertices).all()):
            continue
        vertices = vertices.detach().float()
        if (
            n_cameras > 1
        ):  # depth stays, x and y make up for the other focal length and centre: same picture, one z-buffer
            focal, centre = (t[i].to(vertices) for t in (camera.focal_px, camera.principal_point_px))
            depth = vertices[:, 2:]
            shift = depth * (centre - first.principal_point_px[0].to(vertices))
            f0 = first.focal_px[0].to(vertices)
            vertices = torch.cat([(vertices[:, :2] * focal + shift) / f0, depth], 1)
        kept.append(vertices)
        colors.append(vertices.new_tensor(color).expand(len(vertices), 3))
        corners.append(faces.to(vertices.device) + start)
        start += len(vertices)
    if not kept:
        return torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), first
    vertices = torch.cat(kept)
    camera = Camera(first.focal_px.to(vertices), first.principal_point_px.to(vertices), first.image_size)
    return vertices, torch.cat(colors), torch.cat(corners), camera


def _box_px(vertices: Tensor, corners: Int[Tensor, "G 3"], camera: Camera) -> tuple[int, int, int, int] | None:
    """Whole pixels x0, y0, x1, y1 about the faces, within the picture."""
    if len(corners) == 0:
        return None
    used = vertices.new_zeros(len(vertices), dtype=torch.bool)
    used[corners.flatten()] = True
    xy = camera.project(vertices[used][None])[0]
    size = xy.new_tensor(camera.image_size)
    low, high = (xy.amin(0) - 1).clamp_min(0).minimum(size).floor(), (xy.amax(0) + 1).clamp_min(0).minimum(size).ceil()
    (x0, y0), (x1, y1) = low.int().tolist(), high.int().tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _shaded(vertices: Tensor, colors: Tensor, corners: Int[Tensor, "G 3"], camera: Camera) -> Float[Tensor, "h w 4"]:
    """Colour and coverage, one sample a pixel."""
    device = vertices.device
    mesh = Meshes([to_pytorch3d_axes(vertices)], [corners], TexturesVertex([colors]))
    width, height = camera.image_size
    cameras = pytorch3d_cameras(camera, device)
    fragments = MeshRasterizer(cameras, RasterizationSettings(image_size=(height, width)))(mesh)
    covered: Bool[Tensor, "h w"] = fragments.pix_to_face[0, ..., 0] >= 0
    # Only covered pixels are shaded, laid out as a picture of one row. Light is computed at the vertices, which lie
    # closer together than it changes.
    row = Fragments(
        pix_to_face=fragments.pix_to_face[0][covered][None, None],
        zbuf=fragments.zbuf[0][covered][None, None],
        bary_coords=fragments.bary_coords[0][covered][None, None],
        dists=None,
    )
    materials = Materials(shininess=24, device=device)
    shaded = gouraud_shading(mesh, row, StudioLights(device), cameras, materials)[0, 0, :, 0]
    rgba = vertices.new_zeros(height, width, 4)
    rgba[covered] = torch.nn.functional.pad(shaded.clamp(0, 1), (0, 1), value=1.0)
    return rgba
