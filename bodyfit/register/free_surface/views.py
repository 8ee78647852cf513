"""What cameras tell about space: where there is nothing, by a mask and, of a scan, by depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import CalibratedCamera

__all__ = ["CarveView", "even_directions", "scan_views"]

_VIEWS = 42
"""Directions that a scan is drawn from, evenly over the sphere."""
_FAR = 8.0
"""Distance of the virtual cameras, in radii of the scan."""


@dataclass(frozen=True, eq=False)
class CarveView:
    """A calibrated picture of the person, as a mask."""

    camera: CalibratedCamera
    """The camera, in the axes of the world; its pictures have no lens distortion."""
    mask: Bool[np.ndarray, "H W"]
    """Where the person is."""
    depth_m: Float[np.ndarray, "h w"] | None = None
    """Depth along the optical axis, metres; not finite where it is unknown."""
    image: UInt8[np.ndarray, "_ _ 3"] | None = None
    """The picture, RGB, by which places of equal colour in several views are found."""

    def __post_init__(self) -> None:
        if self.mask.ndim != 2 or not self.mask.any():
            raise OptionError("a mask of a view is empty: nobody is in it; leave the view out")
        for name in ("depth_m", "image"):
            value = getattr(self, name)
            if value is not None:
                shape = (*self.mask.shape, 3) if name == "image" else self.mask.shape
                check_shape(name, value, shape, hint="as large as the mask")
        if self.camera.distortion.any():
            raise OptionError("masks must be undistorted, with a camera without distortion; see cv2.undistort")

    def project(self, points: Float[np.ndarray, "N 3"]) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
        """Project points of the world to pixels, with their depths, metres; NaN behind the camera."""
        in_camera = points @ self.camera.R.T + self.camera.t
        depth = in_camera[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = (in_camera @ self.camera.K.T)[:, :2] / depth[:, None]
        return np.where(depth[:, None] > 0, xy, np.nan), depth

    def pixels(self, xy: Float[np.ndarray, "N 2"]) -> tuple[Int[np.ndarray, "N 2"], Bool[np.ndarray, " N"]]:
        """Return (row, column) of the pixel of each place, and whether it is in the picture; (0, 0) where it is not."""
        height, width = self.mask.shape
        with np.errstate(invalid="ignore"):
            inside = (xy >= 0).all(1) & (xy[:, 0] < width) & (xy[:, 1] < height)
        return np.where(inside[:, None], xy[:, ::-1], 0).astype(np.int64), inside


def even_directions(count: int) -> Float[np.ndarray, "N 3"]:
    """Spread unit vectors evenly over the sphere, on a spiral of Fibonacci's angle."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (1 + 5**0.5) * np.arange(count)
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1)


def scan_views(
    points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], pixel_m: float, *, count: int = _VIEWS
) -> list[CarveView]:
    """Draw a scan from all sides, as masks with depth; a point covers 3 x 3 pixels of about `pixel_m` at its distance.

    Depth is unknown where the nearest point turns its back: the scan has a hole in front of it.
    """
    centre = (points.min(0) + points.max(0)) / 2
    radius = float(np.linalg.norm(points - centre, axis=1).max()) + 4 * pixel_m
    size = 2 * int(np.ceil(radius / pixel_m)) + 2
    distance = _FAR * radius
    focal = distance / pixel_m
    K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    views = []
    for away in even_directions(count):
        side = np.cross(away, [0, 1, 0] if abs(away[1]) < 0.9 else [1, 0, 0])
        side /= np.linalg.norm(side)
        R = np.stack([side, np.cross(-away, side), -away])
        camera = CalibratedCamera(K=K, R=R, t=-R @ (centre + distance * away))
        depth = _splatted(camera, points, normals, size)
        views.append(CarveView(camera, np.isfinite(depth) | np.isnan(depth), depth))
    return views


def _splatted(
    camera: CalibratedCamera, points: Float[np.ndarray, "N 3"], normals: Float[np.ndarray, "N 3"], size: int
) -> Float[np.ndarray, "S S"]:
    """Draw the depth of points: infinite where there is none, NaN where the nearest turns its back."""
    in_camera = points @ camera.R.T + camera.t
    column, row = np.floor((in_camera @ camera.K.T)[:, :2] / in_camera[:, 2:]).astype(np.int64).T
    order = np.argsort(-in_camera[:, 2], kind="stable")  # the nearest are written last
    away = ((normals @ camera.R.T) * in_camera).sum(1) > 0
    depth = np.where(away, np.nan, in_camera[:, 2])[order]
    row, column = row[order], column[order]
    layers = np.full((9, size, size), np.inf)
    nearness = np.full((9, size, size), np.inf)
    for layer, (dy, dx) in enumerate(np.ndindex(3, 3)):
        at = np.clip(row + dy - 1, 0, size - 1), np.clip(column + dx - 1, 0, size - 1)
        layers[layer][at] = depth
        nearness[layer][at] = in_camera[order, 2]
    first = nearness.argmin(0)[None]
    return np.take_along_axis(layers, first, 0)[0]
