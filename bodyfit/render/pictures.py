"""The pictures people look at: a body over its photograph, from the side, from any side, and sheets of many."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import gaussian_filter, maximum_filter
from torch import Tensor

from bodyfit.camera import Camera, flip_yz
from bodyfit.errors import OptionError, check_shape
from bodyfit.render.lines import draw_keypoints
from bodyfit.render.shade import Color, render_bodies

__all__ = ["contact_sheet", "overlay", "person_color", "side_view", "turn_view"]

_PALETTE: tuple[Color, ...] = (
    (0.55, 0.76, 0.94),  # sky
    (0.97, 0.68, 0.54),  # apricot
    (0.62, 0.86, 0.66),  # leaf
    (0.90, 0.66, 0.86),  # mauve
    (0.98, 0.86, 0.52),  # straw
    (0.56, 0.84, 0.84),  # lagoon
)
_WALL = (0.965, 0.972, 0.980)
_FLOOR = (0.880, 0.892, 0.906)


def person_color(index: int) -> Color:
    """The colour of the person with this number, the same in every picture."""
    return _PALETTE[index % len(_PALETTE)]


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Color]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    keypoints: Sequence[Float[np.ndarray, "K 3"] | Float[Tensor, "K 3"]] | None = None,
    layout: str | None = None,
    opacity: float = 0.88,
) -> UInt8[np.ndarray, "H W 3"]:
    """The bodies over the photograph at its full resolution, nearer ones before farther ones.

    `bodies` are (vertices in camera axes, colour) pairs; `camera` holds one camera, or one a body; `keypoints` are
    x px, y px, confidence of each person in `layout`. A body that is not finite, behind the camera or outside the
    picture is left out.
    """
    check_shape("image", image, (None, None, 3))
    height, width = image.shape[:2]
    if camera.image_size != (width, height):
        raise OptionError(f"camera is for a picture of {camera.image_size}, the picture is {(width, height)} (w, h)")
    if keypoints is not None and layout is None:
        raise OptionError("keypoints need their layout's name, for example layout='openpose25'")
    picture = image.astype(np.float32) / 255
    layer = render_bodies(bodies, faces, camera)
    if layer is not None:
        layer.over(picture, opacity)
    if keypoints is not None and layout is not None:
        for xyc in keypoints:
            draw_keypoints(picture, torch.as_tensor(xyc).detach().cpu().numpy(), layout)
    return _to_bytes(picture)


def side_view(
    vertices_cam: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    *,
    size: tuple[int, int] = (480, 640),
    color: Color = _PALETTE[0],
) -> UInt8[np.ndarray, "h w 3"]:
    """The body from its left, as if it faced the camera: a quarter turn about the camera's vertical axis.

    Vertices in camera axes; `size` is width and height. The body fills the picture, on a ground at its lowest point.
    """
    return _studio(_turned(vertices_cam, -90.0), faces, size, color)


def turn_view(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    yaw_deg: float = 0.0,
    size: tuple[int, int] = (480, 640),
    *,
    color: Color = _PALETTE[0],
) -> UInt8[np.ndarray, "h w 3"]:
    """A body in the model's own frame (y up) from the front at yaw 0; at 90 it faces the picture's right."""
    return _studio(_turned(flip_yz(vertices), yaw_deg), faces, size, color)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, columns: int | None = None, gap_px: int = 8
) -> UInt8[np.ndarray, "H W 3"]:
    """Pictures in rows, each amid a cell as large as the largest; about square unless `columns` is given."""
    if len(images) == 0:
        raise OptionError("contact_sheet needs at least one picture")
    if columns is not None and columns < 1:
        raise OptionError(f"columns must be at least 1, got {columns}")
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    rows = math.ceil(len(images) / columns)
    h, w = max(i.shape[0] for i in images), max(i.shape[1] for i in images)
    shape = (rows * (h + gap_px) + gap_px, columns * (w + gap_px) + gap_px, 3)
    sheet = np.full(shape, 255, np.uint8)
    for k, image in enumerate(images):
        row, column = divmod(k, columns)
        y = gap_px + row * (h + gap_px) + (h - image.shape[0]) // 2
        x = gap_px + column * (w + gap_px) + (w - image.shape[1]) // 2
        sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    return sheet


def _turned(vertices: Float[Tensor, "V 3"], yaw_deg: float) -> Float[Tensor, "V 3"]:
    """Turned about the vertical through the middle of its box, which becomes the origin (camera axes)."""
    check_shape("vertices", vertices, (None, 3), hint="give one body at a time, out.vertices[0]")
    vertices = vertices.detach().float()
    x, y, z = (vertices - (vertices.amin(0) + vertices.amax(0)) / 2).unbind(1)
    c, s = math.cos(math.radians(yaw_deg)), math.sin(math.radians(yaw_deg))
    return torch.stack([c * x - s * z, y, s * x + c * z], 1)


def _studio(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], size: tuple[int, int], color: Color
) -> UInt8[np.ndarray, "h w 3"]:
    """A body about the origin, filling a picture with a light wall and a ground."""
    width, height = size
    if width < 1 or height < 1:
        raise OptionError(f"size must be (width, height) in pixels, both positive, got {size}")
    if not bool(torch.isfinite(vertices).all()):  # a failed fit: an empty room
        return _to_bytes(_room(size, 0.9 * height))
    extent = max(float((vertices.amax(0) - vertices.amin(0)).max()), 1e-3)
    before = vertices + vertices.new_tensor((0.0, 0.0, 5.0 * extent))  # far enough that nothing looks bulging
    slopes = before[:, :2] / before[:, 2:]
    low, high = slopes.amin(0), slopes.amax(0)
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    focal = min(0.84 * width / max(x1 - x0, 1e-6), 0.86 * height / max(y1 - y0, 1e-6))
    centre = (width / 2 - focal * (x0 + x1) / 2, 0.49 * height - focal * (y0 + y1) / 2)
    camera = Camera(slopes.new_tensor([focal]), slopes.new_tensor([centre]), size)
    below = torch.stack([before[:, 0], before[:, 1].amax().expand(len(before)), before[:, 2]], 1)
    contact = camera.project(below[None])[0].cpu().numpy()
    lifted = ((below - before)[:, 1] / extent).cpu().numpy()
    picture = _room(size, float(contact[:, 1].min()) - 0.015 * height)
    _cast_shadow(picture, contact, lifted)
    layer = render_bodies([(before, color)], faces, camera)
    if layer is not None:
        layer.over(picture)
    return _to_bytes(picture)


def _room(size: tuple[int, int], line_px: float) -> Float[np.ndarray, "h w 3"]:
    """A light wall above a row of the picture and a floor below it."""
    width, height = size
    y = np.arange(height, dtype=np.float32)[:, None] + 0.5
    floor = np.clip((y - line_px) / max(0.003 * height, 1.0) + 0.5, 0, 1)
    near = 0.05 * np.clip((y - line_px) / (0.15 * height), 0, 1)
    wall = np.asarray(_WALL, np.float32) * (0.985 + 0.015 * y / height)
    column = (1 - floor) * wall + floor * (np.asarray(_FLOOR, np.float32) + near)
    return np.repeat(column[:, None], width, axis=1).astype(np.float32)


def _cast_shadow(
    picture: Float[np.ndarray, "h w 3"], contact_px: Float[np.ndarray, "V 2"], lifted: Float[np.ndarray, " V"]
) -> None:
    """Darken the floor below each vertex; the higher it is above (in body lengths), the fainter."""
    height, width = picture.shape[:2]
    column, row = np.floor(contact_px).astype(np.int64).T
    keep = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    weight = np.exp(-((lifted[keep] / 0.07) ** 2)) + 0.05
    shadow = np.zeros((height, width), np.float32)
    np.maximum.at(shadow, (row[keep], column[keep]), weight.astype(np.float32))
    reach = 0.012 * max(width, height)
    shadow = gaussian_filter(maximum_filter(shadow, size=max(round(0.6 * reach), 1)), (0.35 * reach, reach))
    picture *= 1 - 0.55 * shadow.clip(0, 1)[..., None]


def _to_bytes(picture: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
