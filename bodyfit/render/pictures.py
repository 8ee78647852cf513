"""Draw pictures of bodies: over the photograph, from the side, from above, from any angle, and contact sheets."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera, flip_yz
from bodyfit.raster.depth import NEAR_M
from bodyfit.render.color import person_color
from bodyfit.render.hatch import hatch_bodies
from bodyfit.render.lines import draw_keypoints, draw_skeleton
from bodyfit.render.scene import Paint
from bodyfit.render.shade import draw_over
from bodyfit.render.stage import VIEWS, Stage

__all__ = ["contact_sheet", "overlay", "side_view", "top_view", "turn_view"]

_FIRST = person_color(0)


def overlay(
    image: UInt8[np.ndarray, "H W 3"],
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    keypoints: Sequence[Float[np.ndarray, "K 3"] | Float[Tensor, "K 3"]] | None = None,
    layout: str | None = None,
    joints: Sequence[Float[Tensor, "J 3"]] | None = None,
    opacity: float = 0.88,
    shadows: bool = True,
    poor: Collection[int] = (),
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw bodies over the photograph at its full resolution, nearer ones in front of farther ones.

    `bodies` are (vertices in camera axes, paint) pairs; `camera` holds one camera, or one a body; `keypoints` are
    x px, y px, confidence of each person in `layout`; `joints` are each body's in camera axes, metres, of which the
    first 24 (SMPL) or 22 (up to the wrists, of longer layouts) are drawn as a skeleton. `shadows`: bodies occlude
    light from each other and themselves. `poor`: indices of bodies whose fit is poor (`FitStatus.POOR`), which are
    hatched. A body that is not finite, behind the camera or outside the picture is left out; `undrawn` gives the
    reasons. Raises `OptionError`, also for a mesh without faces.
    """
    check_shape("image", image, (None, None, 3))
    height, width = image.shape[:2]
    if camera.image_size != (width, height):
        raise OptionError(f"camera is for a picture of {camera.image_size}, the picture is {(width, height)} (w, h)")
    if keypoints is not None and layout is None:
        raise OptionError("keypoints need their layout's name, for example layout='openpose25'")
    if not 0 <= opacity <= 1:
        raise OptionError(f"opacity must be between 0 (unseen) and 1, got {opacity:g}")
    if joints is not None and len(joints) != len(bodies):
        raise OptionError(f"joints must be one array a body, got {len(joints)} for {len(bodies)} bodies")
    picture = np.array(image)  # a copy
    draw_over(picture, bodies, faces, camera, opacity=opacity, shadows=shadows)
    hatch_bodies(picture, image, bodies, poor, faces, camera)
    for i, points in enumerate(joints or ()):
        draw_skeleton(picture, _in_picture(points, camera.select([i if len(camera.focal_px) > 1 else 0])))
    if keypoints is not None and layout is not None:
        for xyc in keypoints:
            draw_keypoints(picture, torch.as_tensor(xyc).detach().cpu().numpy(), layout)
    return picture


def side_view(
    vertices_cam: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    *,
    size: tuple[int, int] = (480, 640),
    color: Paint = _FIRST,
    stage: Stage | None = None,
    poor: bool = False,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a body that faces the camera from its left: turned by 90 degrees about the camera's vertical axis.

    Vertices in camera axes, metres; `size` is width and height in pixels. The body fills the picture, on a ground at
    its lowest point; with a `stage`, made from all frames of a clip, the scale is constant and the size is the
    stage's. `poor`: hatch the body.
    """
    check_shape("vertices", vertices_cam, (None, 3), hint="give one body at a time, out.vertices[0]")
    stage = Stage.around(vertices_cam, view="side", size=size) if stage is None else stage
    return stage.draw([(vertices_cam, color)], faces, poor=(0,) if poor else ())


def top_view(
    vertices_cam: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    *,
    size: tuple[int, int] = (480, 480),
    color: Paint = _FIRST,
    stage: Stage | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a body from above, with the photograph's camera at the lower border; arguments as for `side_view`."""
    check_shape("vertices", vertices_cam, (None, 3), hint="give one body at a time, out.vertices[0]")
    stage = Stage.around(vertices_cam, view="top", size=size) if stage is None else stage
    return stage.draw([(vertices_cam, color)], faces)


def turn_view(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    yaw_deg: float = 0.0,
    size: tuple[int, int] = (480, 640),
    *,
    color: Paint = _FIRST,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a body given in the model's frame (y up): from the front at yaw 0, facing the picture's right at yaw 90."""
    check_shape("vertices", vertices, (None, 3), hint="give one body at a time, out.vertices[0]")
    turned = flip_yz(vertices)
    return Stage.around(turned, view=(yaw_deg, VIEWS["side"][1]), size=size).draw([(turned, color)], faces)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], *, columns: int | None = None, gap_px: int = 8
) -> UInt8[np.ndarray, "H W 3"]:
    """Arrange pictures in rows, each centred in a cell of the largest size; about square unless `columns` is given."""
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


def _in_picture(joints: Float[Tensor, "J 3"], camera: Camera) -> Float[np.ndarray, "N 2"]:
    """Project the body's joints (24 of SMPL, or the first 22) to pixels; NaN for those behind the camera."""
    body = 24 if len(joints) == 24 else 22
    points = joints[:body].detach().cpu().float()
    xy = Camera(camera.focal_px.cpu(), camera.principal_point_px.cpu(), camera.image_size).project(points[None])[0]
    return torch.where(points[:, 2:] > NEAR_M, xy, torch.nan).numpy()
