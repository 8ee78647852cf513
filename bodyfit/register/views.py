"""Views of a point cloud from virtual cameras: pictures for a detector of people, and which points each view shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import minimum_filter

from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.geometry.cloud import PointCloud

__all__ = ["View", "camera_around", "draw", "visible_points"]

_SKIN = np.array((0.80, 0.62, 0.52))
_BACKGROUND = 0.88
_LIGHT = np.array((-0.35, -0.45, -0.82))
"""Direction to the light in camera axes: from above, left, and behind the camera."""
_FILL = 2.2
"""Diameter of a splat in mean distances of points in the picture."""


@dataclass(frozen=True)
class View:
    """A picture of a cloud."""

    camera: CalibratedCamera
    """Its camera, in the axes of the cloud."""
    image: UInt8[np.ndarray, "H W 3"]
    """The picture, RGB."""


def camera_around(
    centre: Float[np.ndarray, "3"],
    radius: float,
    up: Float[np.ndarray, "3"],
    ahead: Float[np.ndarray, "3"],
    *,
    yaw_deg: float | int,
    pitch_deg: float | int = 0.0,
    size_px: int = 512,
) -> CalibratedCamera:
    """Place a camera that looks at `centre`, with a sphere of `radius` in its picture.

    yaw_deg: from `ahead` (made perpendicular to `up`) towards up x ahead; pitch_deg: how far the camera stands above.
    """
    up = up / np.linalg.norm(up)
    ahead = ahead - up * (ahead @ up)
    ahead = ahead / np.linalg.norm(ahead)
    yaw, pitch = np.radians((yaw_deg, pitch_deg))
    level = np.cos(yaw) * ahead + np.sin(yaw) * np.cross(up, ahead)
    back = np.cos(pitch) * level + np.sin(pitch) * up  # from the centre to the camera
    down = -(up - back * (up @ back))
    down = down / np.linalg.norm(down)
    R = np.stack([np.cross(down, -back), down, -back])
    distance = 3.5 * radius
    focal = 0.5 * size_px / np.tan(np.arcsin(radius / distance))
    K = np.array(((focal, 0, size_px / 2), (0, focal, size_px / 2), (0, 0, 1)))
    return CalibratedCamera(K=K, R=R, t=-R @ (centre + distance * back))


def draw(cloud: PointCloud, camera: CalibratedCamera, *, use_colors: bool = True) -> View:
    """Draw a cloud as shaded splats on a plain background; colours are its own or, without any, those of skin.

    Normals are turned towards the camera, so that their signs do not matter.
    """
    size = round(2 * camera.K[0, 2])
    nearest, _ = _nearest_points(cloud.points, camera, size)
    hit = nearest >= 0
    who = nearest[hit]
    image = np.full((size, size, 3), _BACKGROUND)
    colors = cloud.colors if use_colors else None
    tint = _SKIN if colors is None else colors[who]
    if cloud.normals is not None:
        normals = cloud.normals[who] @ camera.R.T
        rays = cloud.points[who] @ camera.R.T + camera.t
        normals = normals * -np.sign((normals * rays).sum(1, keepdims=True))
        lit = np.clip(normals @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
        tint = tint * (0.38 + 0.62 * lit)[:, None]
    image[hit] = tint
    return View(camera, (255 * np.clip(image, 0, 1)).astype(np.uint8))


def visible_points(
    points: Float[np.ndarray, "N 3"], camera: CalibratedCamera, tolerance: float
) -> Int[np.ndarray, "M"]:
    """List the points that lie no farther than `tolerance` behind the nearest one about their pixel.

    Pixels are to be larger than the distance of neighbouring points: they are not drawn as splats.
    """
    size = round(2 * camera.K[0, 2])
    cam = points @ camera.R.T + camera.t
    x, y = _pixels(cam, camera)
    rows = np.flatnonzero((x >= 0) & (x < size) & (y >= 0) & (y < size) & (cam[:, 2] > 0))
    depth = np.full((size, size), np.inf)
    np.minimum.at(depth, (y[rows], x[rows]), cam[rows, 2])
    nearest = minimum_filter(depth, 3)
    return rows[cam[rows, 2] <= nearest[y[rows], x[rows]] + tolerance]


def _pixels(cam: Float[np.ndarray, "N 3"], camera: CalibratedCamera) -> tuple[np.ndarray, np.ndarray]:
    z = np.maximum(cam[:, 2], 1e-9)
    K = camera.K
    x, y = K[0, 0] * cam[:, 0] / z + K[0, 2], K[1, 1] * cam[:, 1] / z + K[1, 2]
    return np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)


def _nearest_points(
    points: Float[np.ndarray, "N 3"], camera: CalibratedCamera, size: int
) -> tuple[Int[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Compute the nearest point of each pixel, -1 where there is none, and its depth; points are square splats."""
    cam = points @ camera.R.T + camera.t
    order = np.argsort(-cam[:, 2])  # of several at a place the last written stays: the nearest
    order = order[cam[order, 2] > 0]
    x, y = _pixels(cam[order], camera)
    covered = len(np.unique(x * size + y))
    # The points of front and back share the silhouette: half of them are in front.
    area = (np.ptp(x) + 1) * (np.ptp(y) + 1) * 0.35 if len(x) else 1.0
    reach = int(np.clip(round(_FILL * (area / max(covered, 1)) ** 0.5 / 2), 1, 6))
    nearest = np.full((size, size), -1)
    depth = np.full((size, size), np.inf)
    offsets = [(dx, dy) for dx in range(-reach, reach + 1) for dy in range(-reach, reach + 1)]
    for dx, dy in offsets:
        px, py = x + dx, y + dy
        inside = (px >= 0) & (px < size) & (py >= 0) & (py < size)
        layer = np.full((size, size), -1)
        layer[py[inside], px[inside]] = order[inside]
        drawn = layer >= 0
        z = np.where(drawn, cam[layer, 2], np.inf)
        closer = z < depth
        nearest[closer], depth[closer] = layer[closer], z[closer]
    return nearest, depth
