"""Render maps of numbers, a value a pixel: depth, surface normal, person and body part."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16
from torch import Tensor

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera
from bodyfit.raster.bands import by_bands
from bodyfit.render.scene import Paint, gather
from bodyfit.render.shade import box_px

__all__ = ["MAPS", "Maps", "draw_maps", "normal_colors"]

MAPS = ("depth", "normal", "silhouette", "parts")
"""The maps that `draw_maps` renders."""


@dataclass(frozen=True)
class Maps:
    """Maps sampled at pixel centres, 0 where no body is; a map that was not requested is None."""

    depth_m: Float[np.ndarray, "H W"] | None
    """Depth along the optical axis, metres."""
    normal: Float[np.ndarray, "H W 3"] | None
    """Outward unit normals in camera axes (x right, y down, z away)."""
    person: UInt16[np.ndarray, "H W"] | None
    """The body's index in the list of bodies, plus 1."""
    part: UInt16[np.ndarray, "H W"] | None
    """The index of the part with the largest weight, plus 1."""


def draw_maps(
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    part_weights: Float[Tensor, "V J"] | None = None,
    which: Collection[str] = MAPS,
) -> Maps:
    """Render depth, normals, silhouettes and parts of bodies (vertices in camera axes, paint) seen by a camera.

    part_weights: each vertex's weight in each part, needed for "parts"; with `model.weights` a part is the region that
    a joint moves most. `bodies` and `camera` as for `overlay`. Raises `OptionError`.
    """
    unknown = set(which) - set(MAPS)
    if unknown:
        raise OptionError(f"maps are {', '.join(MAPS)}, got {', '.join(sorted(unknown))}")
    if "parts" in which and part_weights is None:
        raise OptionError("the map of parts needs part_weights, for example model.weights")
    width, height = camera.image_size
    arrays = (
        np.zeros((height, width), np.float32) if "depth" in which else None,
        np.zeros((height, width, 3), np.float32) if "normal" in which else None,
        np.zeros((height, width), np.uint16) if "silhouette" in which else None,
        np.zeros((height, width), np.uint16) if "parts" in which else None,
    )
    scene = gather(bodies, faces, camera)
    points = None if scene is None else scene.in_picture()
    box = None if scene is None or points is None else box_px(points, scene.faces, (width, height))
    if scene is None or points is None or box is None:
        return Maps(*arrays)
    parts = np.zeros((1, 0), np.float32)
    if "parts" in which and part_weights is not None:
        for vertices, _ in bodies:
            check_shape("part_weights", part_weights, (len(vertices), None), hint="one row a vertex")
        parts = part_weights.detach().cpu().float().numpy()
    values = np.concatenate([scene.points_cam_m[:, 2:], scene.normals], 1)
    _fill(arrays, points, scene.faces, box, values, scene.body_ids, parts)
    return Maps(*arrays)


def normal_colors(normal: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Colour normals by the usual convention: red right, green up, blue towards the camera, each 127.5 (1 + n).

    Black where there is no body.
    """
    from bodyfit.render.samples import color_normals

    colors = np.empty(normal.shape, np.uint8)
    color_normals(np.ascontiguousarray(normal), colors)
    return colors


def _fill(
    arrays: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, np.ndarray | None],
    points: Float[np.ndarray, "U 3"],
    faces: Int[np.ndarray, "G 3"],
    box: tuple[int, int, int, int],
    values: Float[np.ndarray, "U 4"],
    body_ids: Int[np.ndarray, " U"],
    parts: Float[np.ndarray, "P J"],
) -> None:
    """Fill the arrays of `Maps`, in the order of its fields, a band of rows at a time."""
    from bodyfit.raster.coverage import CENTRE, clear_buffers, cover
    from bodyfit.render.samples import band_maps

    x0, y0, x1, y1 = box
    points = points - np.array((x0, y0, 0), np.float32)
    depth_m, normal, person, part_of = arrays

    def work(top: int, rows: int) -> None:
        face_ids = np.empty((rows, x1 - x0, 1), np.int32)
        nearness = np.empty(face_ids.shape, np.float32)
        cover(points, faces, top, CENTRE, clear_buffers(face_ids, nearness), face_ids, nearness)
        smooth = np.zeros((*face_ids.shape[:2], 4), np.float32)
        vertex, part = np.zeros((2, *face_ids.shape[:2]), np.int32)
        band_maps(points, faces, top, face_ids, values, parts, smooth, vertex, part)
        covered, at = face_ids[..., 0] >= 0, (slice(y0 + top, y0 + top + rows), slice(x0, x1))
        if depth_m is not None:
            depth_m[at] = smooth[..., 0]
        if normal is not None:
            length = np.linalg.norm(smooth[..., 1:], axis=2, keepdims=True)
            normal[at] = smooth[..., 1:] / np.maximum(length, 1e-6)
        if person is not None:
            person[at] = np.where(covered, body_ids[vertex] + 1, 0)
        if part_of is not None:
            part_of[at] = np.where(covered, part + 1, 0)

    by_bands(y1 - y0, 6 * (x1 - x0), work)
