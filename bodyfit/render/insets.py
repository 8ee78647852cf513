"""Hands and faces from near: crops of the photograph, each beside the same crop with the bodies drawn over it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera
from bodyfit.render.hatch import hatch_bodies
from bodyfit.render.scene import NEAR_M, Paint
from bodyfit.render.shade import draw_over

__all__ = ["INSETS", "draw_insets", "inset_rows"]

INSETS = ("face", "right_hand", "left_hand")
"""The parts, in the order of the tiles."""
_TILE_PX, _GAP_PX = 320, 8
_FEWEST_PX = 12.0
"""A part that is smaller in the photograph is not shown."""
_MARGIN = {"face": 0.35, "right_hand": 0.2, "left_hand": 0.2}
"""Of a part's size, what is shown around it; the brow and the chin of a face lie outside what jaw and eyes move."""
_OPACITY = 0.88
_EMPTY = 235
"""Grey of a tile without a part, and of what lies outside the photograph."""


def inset_rows(weights: Float[Tensor, "V J"], joints: Sequence[str]) -> dict[str, Bool[Tensor, "V"]]:
    """The vertices of each part by the joints that move them; a body without fingers or a jaw lacks parts."""
    rows = {}
    for part in INSETS:
        side = part.partition("_")[0]
        moved = [k for k, name in enumerate(joints) if name == "jaw" or "eye_" in name]
        if part != "face":
            fingers = [k for k, name in enumerate(joints) if name.startswith(f"{side}_") and name[-1] in "123"]
            moved = [joints.index(f"{side}_wrist"), *fingers] if fingers else []
        if moved:
            rows[part] = weights[:, moved].sum(1) > 0.5
    return rows


def draw_insets(
    image: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    parts: Mapping[str, Bool[Tensor, "V"]],
    *,
    opacity: float = _OPACITY,
    poor: Collection[int] = (),
) -> UInt8[np.ndarray, "h w 3"] | None:
    """A row for each body: its face, right hand and left hand, each as photographed and with all bodies drawn over it.

    bodies, camera, poor: as of `overlay`. parts: vertices by name (`inset_rows`), a pair of tiles each. What is smaller
    than 12 pixels, outside the photograph or behind the camera has grey tiles, and a body without any part no row; None
    where no row is left.
    """
    check_shape("image", image, (None, None, 3))
    if camera.image_size != (image.shape[1], image.shape[0]):
        raise OptionError(f"camera is for a picture of {camera.image_size}, the picture is {image.shape[1::-1]} (w, h)")
    lines = []
    for i, (vertices, _) in enumerate(bodies):
        own = camera.select([i if len(camera.focal_px) > 1 else 0])
        boxes = {name: _box(vertices, rows, own, _MARGIN[name]) for name, rows in parts.items()}
        if not any(boxes.values()):
            continue
        tiles = [tile for box in boxes.values() for tile in _pair(image, bodies, faces, camera, box, opacity, poor)]
        lines.append(_joined(tiles, 1))
    return _joined(lines, 0) if lines else None


def _empty() -> UInt8[np.ndarray, "s s 3"]:
    return np.full((_TILE_PX, _TILE_PX, 3), _EMPTY, np.uint8)


def _box(
    vertices: Float[Tensor, "V 3"], rows: Bool[Tensor, "V"], camera: Camera, margin: float
) -> tuple[int, int, int] | None:
    """Left, top and side of a square about a part, pixels; None where there is nothing to show."""
    points = vertices[rows].detach().cpu().float()
    if len(points) == 0 or not bool(torch.isfinite(points).all()) or float(points[:, 2].min()) <= NEAR_M:
        return None
    low, high = (f(camera.project(points[None])[0].numpy(), 0) for f in (np.min, np.max))
    size = float((high - low).max())
    centre, side = (low + high) / 2, round((1 + 2 * margin) * size)
    inside = (centre > 0) & (centre < camera.image_size)
    if size < _FEWEST_PX or not inside.all():
        return None
    left, top = np.floor(centre - side / 2).astype(int)
    return int(left), int(top), side


def _pair(
    image: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    box: tuple[int, int, int] | None,
    opacity: float,
    poor: Collection[int],
) -> tuple[UInt8[np.ndarray, "s s 3"], UInt8[np.ndarray, "s s 3"]]:
    """A square of the photograph, and the same with the bodies drawn at the tile's resolution."""
    if box is None:
        return _empty(), _empty()
    left, top, side = box
    height, width = image.shape[:2]
    crop = np.full((side, side, 3), _EMPTY, np.uint8)
    y0, y1, x0, x1 = max(top, 0), min(top + side, height), max(left, 0), min(left + side, width)
    crop[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    photo = np.array(Image.fromarray(crop).resize((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS))
    scale = _TILE_PX / side
    corner = camera.principal_point_px.new_tensor([left, top])
    near = Camera(camera.focal_px * scale, (camera.principal_point_px - corner) * scale, (_TILE_PX, _TILE_PX))
    drawn = photo.copy()
    draw_over(drawn, bodies, faces, near, opacity=opacity)
    hatch_bodies(drawn, photo, bodies, poor, faces, near)
    return photo, drawn


def _joined(pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], axis: int) -> UInt8[np.ndarray, "h w 3"]:
    """Pictures beside each other (axis 1) or below each other (axis 0), white between them."""
    shape = list(pictures[0].shape)
    shape[axis] = _GAP_PX
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis)
