"""Paint the studio's ground and the shadows on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter, map_coordinates

from bodyfit.geometry.camera import Camera
from bodyfit.raster.bands import by_bands
from bodyfit.render.color import Color, to_linear, to_srgb

__all__ = ["Floor", "paint_ground"]

_FLOOR_SKY = 0.42
"""Fraction of the light on the ground that comes from the sky; the rest comes from the key light."""


@dataclass(frozen=True)
class Floor:
    """A grid of cells on the ground below people, along the room's x and z axes (metres)."""

    low: tuple[float, float]
    """Least x and z of the grid."""
    cell: float
    """Side of a cell."""
    cells: tuple[int, int]
    """Number of cells along z and x."""
    height: float
    """The ground's y coordinate, downwards."""
    light: Float[np.ndarray, "nz nx"] | None = None
    """Light on each cell, 0 to 1; None until `lit` computes it."""

    @classmethod
    def below(cls, room: Float[np.ndarray, "V 3"], height: float, cells: int) -> Floor:
        """Make the grid that covers where shadows fall: below the people, and to their right and behind them."""
        low, high = room.min(0), room.max(0)
        tall = height - float(low[1])
        x0, x1 = float(low[0]) - 0.5 * tall, float(high[0]) + 1.2 * tall
        z0, z1 = float(low[2]) - 0.5 * tall, float(high[2]) + 1.2 * tall
        cell = max(x1 - x0, z1 - z0) / cells
        return cls((x0, z0), cell, (math.ceil((z1 - z0) / cell), math.ceil((x1 - x0) / cell)), height)

    def points(self) -> Float[np.ndarray, "N 3"]:
        """Return the grid points in room axes, metres."""
        z, x = np.mgrid[: self.cells[0], : self.cells[1]] * self.cell
        places = (x.ravel() + self.low[0], np.full(x.size, self.height), z.ravel() + self.low[1])
        return np.stack(places, 1).astype(np.float32)

    def lit(self, sky: Float[np.ndarray, " N"], key: Float[np.ndarray, " N"], rays: int) -> Floor:
        """Return the floor with its light, from the visible sky and key light (0 to 1) at its points.

        A blur hides the noise of sampling only `rays` directions.
        """
        blur_scale = math.sqrt(64 / rays)
        wide, narrow = (
            gaussian_filter(part.astype(np.float64).reshape(self.cells), blur, mode="nearest")
            for part, blur in ((sky, 3.0 * blur_scale), (key, 0.9 * blur_scale))
        )
        light = _FLOOR_SKY * wide + (1 - _FLOOR_SKY) * narrow
        edge = np.minimum.outer(*(_rise(n) for n in self.cells))
        return replace(self, light=1 - (1 - light) * edge)

    def at(self, x: Float[np.ndarray, "h w"], z: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """Interpolate the light at points of the ground, 0 to 1; 1 beyond the grid."""
        assert self.light is not None
        places = np.stack([(z - self.low[1]) / self.cell, (x - self.low[0]) / self.cell])
        return map_coordinates(self.light, places, order=1, mode="constant", cval=1.0)


def _rise(n: int) -> Float[np.ndarray, " n"]:
    """Return a window that is 0 at both ends and 1 from a tenth of its length on."""
    at = np.minimum(np.arange(n), np.arange(n)[::-1]) / max(0.1 * n, 1)
    return np.clip(at, 0, 1)


def paint_ground(
    camera: Camera,
    rows: Float[np.ndarray, "3 3"],
    eye: Float[np.ndarray, "3"],
    height_m: float,
    floor: Floor | None,
    *,
    backdrop: Color,
    grid_m: float | None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Paint a ground and a wall that blend without a horizon, as of a studio backdrop, seen from `eye` in the room.

    rows: the camera's right, down and forward axes in room axes. height_m: the ground's y coordinate, downwards. The
    light is brightest at the origin. grid_m: distance between faint lines on the ground, None for none.
    """
    width, height = camera.image_size
    focal, (cx, cy) = float(camera.focal_px[0]), camera.principal_point_px[0].tolist()
    picture = np.empty((height, width, 3), np.uint8)
    distance = float(np.linalg.norm(eye))
    x = (np.arange(width) + 0.5 - cx) / focal
    colors = to_linear(np.asarray(backdrop))

    def paint(top: int, n_rows: int) -> None:
        y = ((np.arange(top, top + n_rows) + 0.5 - cy) / focal)[:, None]
        fall, away = (
            y * rows[1, 1] + rows[2, 1],
            y * rows[1, 2] + rows[2, 2],
        )  # a ray's components down and away from the camera
        hits = (fall > 1e-4) & (height_m > eye[1])
        t = np.minimum(np.where(hits, (height_m - eye[1]) / np.maximum(fall, 1e-4), np.inf), 2 * distance)
        hits &= t < 2 * distance
        floor_x, floor_z = eye[0] + t * x, np.broadcast_to(eye[2] + t * away, (n_rows, width))
        light = np.ones((n_rows, width))
        if floor is not None:
            light = np.where(hits, floor.at(floor_x, floor_z), 1.0)
        light = light * (1 - 0.10 * np.clip(np.hypot(floor_x, floor_z) / (0.75 * distance), 0, 1) ** 2)
        if grid_m is not None:
            step_z = (
                np.abs(t * (rows[1, 2] - away * rows[1, 1] / np.maximum(fall, 1e-4))) / focal
            )  # z between neighbouring rows of pixels
            lines = np.maximum(_lines(floor_x, t / focal, grid_m), _lines(floor_z, step_z, grid_m))
            light = light * (1 - 0.14 * lines * hits)
        linear = np.clip(colors * light[..., None], 0, 1)
        picture[top : top + n_rows] = np.round(255 * to_srgb(linear)).astype(np.uint8)

    by_bands(height, 24 * width, paint)
    return picture


def _lines(at: Float[np.ndarray, "h w"], per_px: Float[np.ndarray, "h 1"], step: float) -> Float[np.ndarray, "h w"]:
    """Return the coverage of lines one pixel wide at multiples of `step`, faded out where they would merge."""
    per_px = np.maximum(per_px, 1e-9)
    off = np.abs(at - step * np.round(at / step)) / per_px
    return np.clip(1.2 - off, 0, 1) * np.clip(0.25 * step / per_px - 1, 0, 1)
