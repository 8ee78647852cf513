"""What a picture shows at each pixel, as numbers: how far, which way it faces, who, and which part of the body."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16
from torch import Tensor

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera
from bodyfit.render.bands import by_bands
from bodyfit.render.scene import Paint, gather
from bodyfit.render.shade import box_px

__all__ = ["MAPS", "Maps", "draw_maps", "normal_colors"]

MAPS = ("depth", "normal", "silhouette", "parts")
"""What `draw_maps` can make."""


@dataclass(frozen=True)
class Maps:
    """Pictures of numbers, taken at the pixels' middles; 0 where there is nobody. What was not asked for is None."""

    depth_m: Float[np.ndarray, "H W"] | None
    """Along the optical axis, metres."""
    normal: Float[np.ndarray, "H W 3"] | None
    """Outward, of unit length, camera axes (x right, y down, z away)."""
    person: UInt16[np.ndarray, "H W"] | None
    """The place in the list of bodies, from 1."""
    part: UInt16[np.ndarray, "H W"] | None
    """The part that weighs most there, from 1."""


def draw_maps(
    bodies: Sequence[tuple[Float[Tensor, "V 3"], Paint]],
    faces: Int[Tensor, "F 3"],
    camera: Camera,
    *,
    part_weights: Float[Tensor, "V J"] | None = None,
    which: Collection[str] = MAPS,
) -> Maps:
    """Depth, normals, who is where, and parts, of bodies (vertices in camera axes, paint) before a camera.

    part_weights: how much of each part a vertex is, for example `model.weights`, by which parts are what a joint moves
    most; needed for "parts". Bodies and cameras as for `overlay`. Raises `OptionError`.
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
    _fill(arrays, points, scene.faces, box, values, scene.owner, parts)
    return Maps(*arrays)


def normal_colors(normal: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Normals as they are usually shown: red to the right, green up, blue towards the camera, each 127.5 (1 + n).

    Black where there is none.
    """
    shown = np.zeros(normal.shape, np.uint8)
    for k, sign in enumerate((1.0, -1.0, -1.0)):
        shown[..., k] = np.where(normal.any(2), np.round(127.5 + 127.5 * sign * normal[..., k]), 0)
    return shown


def _fill(
    arrays: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None, np.ndarray | None],
    points: Float[np.ndarray, "U 3"],
    faces: Int[np.ndarray, "G 3"],
    box: tuple[int, int, int, int],
    values: Float[np.ndarray, "U 4"],
    owner: Int[np.ndarray, " U"],
    parts: Float[np.ndarray, "P J"],
) -> None:
    """Write the arrays of `Maps`, in its order, a band of rows at a time."""
    from bodyfit.render.samples import CENTRE, band_maps, cleared, cover

    x0, y0, x1, y1 = box
    points = points - np.array((x0, y0, 0), np.float32)
    depth_m, normal, person, part_of = arrays

    def work(top: int, rows: int) -> None:
        shown = np.empty((rows, x1 - x0, 1), np.int32)
        nearness = np.empty(shown.shape, np.float32)
        cover(points, faces, top, CENTRE, cleared(shown, nearness), shown, nearness)
        smooth = np.zeros((*shown.shape[:2], 4), np.float32)
        vertex, part = np.zeros((2, *shown.shape[:2]), np.int32)
        band_maps(points, faces, top, shown, values, parts, smooth, vertex, part)
        there, at = shown[..., 0] >= 0, (slice(y0 + top, y0 + top + rows), slice(x0, x1))
        if depth_m is not None:
            depth_m[at] = smooth[..., 0]
        if normal is not None:
            length = np.linalg.norm(smooth[..., 1:], axis=2, keepdims=True)
            normal[at] = smooth[..., 1:] / np.maximum(length, 1e-6)
        if person is not None:
            person[at] = np.where(there, owner[vertex] + 1, 0)
        if part_of is not None:
            part_of[at] = np.where(there, part + 1, 0)

    by_bands(y1 - y0, 6 * (x1 - x0), work)
