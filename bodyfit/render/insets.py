"""Hands and faces from near: crops of the photograph, each beside the same crop with the bodies drawn over it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera
from bodyfit.render.color import Color
from bodyfit.render.hatch import hatch_bodies
from bodyfit.render.scene import NEAR_M, Paint, Texture
from bodyfit.render.shade import draw_over

__all__ = ["INSETS", "InsetParts", "draw_insets", "inset_parts"]

INSETS = ("face", "right_hand", "left_hand")
"""The parts, in the order of the tiles."""
_TILE_PX, _GAP_PX = 320, 8
_FEWEST_PX = 12.0
"""A part that is smaller in the photograph is not shown."""
_MARGIN = {"face": 0.35, "right_hand": 0.2, "left_hand": 0.2}
"""Of a part's size, what is shown around it; the brow and the chin of a face lie outside what jaw and eyes move."""
_OPACITY = 0.88
_WHITE, _IRIS = (0.95, 0.95, 0.95), (0.16, 0.12, 0.10)
_IRIS_COSINE = 0.87
"""Of the angle at the eyeball's middle that an iris reaches from straight ahead on, 30 degrees."""
_EMPTY = 235
"""Grey of a tile without a part, and of what lies outside the photograph."""


@dataclass(frozen=True)
class InsetParts:
    """Vertices of a model's hands and face."""

    rows: Mapping[str, Bool[Tensor, "V"]]
    """Of each part by its name in `INSETS`; a body without fingers or a jaw lacks parts."""
    eyes: Mapping[Color, Bool[Tensor, "V"]] = field(default_factory=dict)
    """Of eyeballs and irises by the colour that they are painted in, so that one sees where a face looks."""


def inset_parts(model: BodyModel) -> InsetParts:
    """A model's hands and face, by the joints that move them; irises look forward in the rest pose."""
    names, weights, rest = model.skeleton.names, model.weights.cpu(), model.v_template.cpu()
    moved = {"face": [k for k, name in enumerate(names) if name == "jaw" or "eye_" in name]}
    for side in ("right", "left"):
        fingers = [k for k, name in enumerate(names) if name.startswith(f"{side}_") and name[-1] in "123"]
        wrist = [names.index(f"{side}_wrist")] if fingers and f"{side}_wrist" in names else []
        moved[f"{side}_hand"] = [*wrist, *fingers]
    balls, irises = torch.zeros(2, len(weights), dtype=torch.bool)
    for joint in (k for k, name in enumerate(names) if "eye_" in name):
        ball = weights[:, joint] > 0.5
        arm = rest[ball] - rest[ball].mean(0)
        balls |= ball
        irises[ball] = arm[:, 2] > _IRIS_COSINE * arm.norm(dim=1)
    rows = {part: weights[:, joints].sum(1) > 0.5 for part, joints in moved.items() if joints}
    return InsetParts(rows, {_WHITE: balls, _IRIS: irises})


def draw_insets(
    image: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    parts: InsetParts,
    *,
    opacity: float = _OPACITY,
    poor: Collection[int] = (),
) -> UInt8[np.ndarray, "h w 3"] | None:
    """A row for each body: its face, right hand and left hand, each as photographed and with all bodies drawn over it.

    bodies, camera, poor: as of `overlay`. parts: of their model (`inset_parts`), a pair of tiles each; eyes are painted
    unless the body has a texture. What is smaller than 12 pixels, outside the photograph or behind the camera has grey
    tiles, and a body without any part no row; None where no row is left.
    """
    check_shape("image", image, (None, None, 3))
    if camera.image_size != (image.shape[1], image.shape[0]):
        raise OptionError(f"camera is for a picture of {camera.image_size}, the picture is {image.shape[1::-1]} (w, h)")
    camera = Camera(camera.focal_px.cpu(), camera.principal_point_px.cpu(), camera.image_size)
    bodies = [(vertices, _with_eyes(paint, parts, len(vertices))) for vertices, paint in bodies]
    lines = []
    for i, (vertices, _) in enumerate(bodies):
        own = camera.select([i if len(camera.focal_px) > 1 else 0])
        boxes = {name: _box(vertices, rows, own, _MARGIN[name]) for name, rows in parts.rows.items()}
        if not any(boxes.values()):
            continue
        tiles = [tile for box in boxes.values() for tile in _pair(image, bodies, faces, camera, box, opacity, poor)]
        lines.append(_joined(tiles, 1))
    return _joined(lines, 0) if lines else None


def _with_eyes(paint: Paint, parts: InsetParts, count: int) -> Paint:
    """The paint with eyes that show where they look."""
    if isinstance(paint, Texture):
        return paint
    colors = torch.as_tensor(paint).detach().cpu().float().expand(count, 3).clone()
    for color, rows in parts.eyes.items():
        colors[rows] = torch.tensor(color)
    return colors


def _empty() -> UInt8[np.ndarray, "s s 3"]:
    return np.full((_TILE_PX, _TILE_PX, 3), _EMPTY, np.uint8)


def _box(
    vertices: Float[Tensor, "V 3"], rows: Bool[Tensor, "V"], camera: Camera, margin: float
) -> tuple[int, int, int] | None:
    """Left, top and side of a square about a part, pixels; None where there is nothing to show."""
    points = vertices.detach().cpu().float()[rows]
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
