"""The ground of the studio and the shadows on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter, map_coordinates

from bodyfit.geometry.camera import Camera
from bodyfit.render.bands import by_bands
from bodyfit.render.color import Color, to_linear, to_srgb

__all__ = ["Floor", "paint_ground"]

_FLOOR_SKY = 0.42
"""The part of the sky in the light on the ground; the rest is the key's."""


@dataclass(frozen=True)
class Floor:
    """The ground below people, a grid of cells in the room's x and z."""

    low: tuple[float, float]
    cell: float
    cells: tuple[int, int]
    """Along z and x."""
    height: float
    light: Float[np.ndarray, "nz nx"] | None = None

    @classmethod
    def below(cls, room: Float[np.ndarray, "V 3"], height: float, cells: int) -> Floor:
        """Where shadows may fall: below the people, and to the right and the back where the key casts them."""
        low, high = room.min(0), room.max(0)
        tall = height - float(low[1])
        x0, x1 = float(low[0]) - 0.5 * tall, float(high[0]) + 1.2 * tall
        z0, z1 = float(low[2]) - 0.5 * tall, float(high[2]) + 1.2 * tall
        cell = max(x1 - x0, z1 - z0) / cells
        return cls((x0, z0), cell, (math.ceil((z1 - z0) / cell), math.ceil((x1 - x0) / cell)), height)

    def points(self) -> Float[np.ndarray, "N 3"]:
        z, x = np.mgrid[: self.cells[0], : self.cells[1]] * self.cell
        places = (x.ravel() + self.low[0], np.full(x.size, self.height), z.ravel() + self.low[1])
        return np.stack(places, 1).astype(np.float32)

    def lit(self, sky: Float[np.ndarray, " N"], key: Float[np.ndarray, " N"], rays: int) -> Floor:
        """With light, 0 to 1, of what its points see; the blur hides that they looked in few directions."""
        fewer = math.sqrt(64 / rays)
        wide, narrow = (
            gaussian_filter(part.astype(np.float64).reshape(self.cells), blur, mode="nearest")
            for part, blur in ((sky, 3.0 * fewer), (key, 0.9 * fewer))
        )
        light = _FLOOR_SKY * wide + (1 - _FLOOR_SKY) * narrow
        edge = np.minimum.outer(*(_rise(n) for n in self.cells))
        return replace(self, light=1 - (1 - light) * edge)

    def at(self, x: Float[np.ndarray, "h w"], z: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """Light at places of the ground; full beyond the grid."""
        assert self.light is not None
        places = np.stack([(z - self.low[1]) / self.cell, (x - self.low[0]) / self.cell])
        return map_coordinates(self.light, places, order=1, mode="constant", cval=1.0)


def _rise(n: int) -> Float[np.ndarray, " n"]:
    """0 at both ends, 1 from a tenth on."""
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
    """Ground and wall without a horizon between them, as of a roll of paper, seen by a camera at `eye` in the room.

    rows: right, down and forward of the camera. height_m: of the ground, downwards. Light pools about the origin.
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
        )  # of a ray, down and away
        hits = (fall > 1e-4) & (height_m > eye[1])
        t = np.minimum(np.where(hits, (height_m - eye[1]) / np.maximum(fall, 1e-4), np.inf), 2 * distance)
        hits &= t < 2 * distance
        floor_x, floor_z = eye[0] + t * x, np.broadcast_to(eye[2] + t * away, (n_rows, width))
        light = np.ones((n_rows, width))
        if floor is not None:
            light = np.where(hits, floor.at(floor_x, floor_z), 1.0)
        light = light * (1 - 0.10 * np.clip(np.hypot(floor_x, floor_z) / (0.75 * distance), 0, 1) ** 2)
        if grid_m is not None:
            step_z = np.abs(t * (rows[1, 2] - away * rows[1, 1] / np.maximum(fall, 1e-4))) / focal  # of a row of pixels
            lines = np.maximum(_lines(floor_x, t / focal, grid_m), _lines(floor_z, step_z, grid_m))
            light = light * (1 - 0.14 * lines * hits)
        linear = np.clip(colors * light[..., None], 0, 1)
        picture[top : top + n_rows] = np.round(255 * to_srgb(linear)).astype(np.uint8)

    by_bands(height, 24 * width, paint)
    return picture


def _lines(at: Float[np.ndarray, "h w"], per_px: Float[np.ndarray, "h 1"], step: float) -> Float[np.ndarray, "h w"]:
    """Coverage of lines one pixel wide at multiples of a distance, gone where they would run together."""
    per_px = np.maximum(per_px, 1e-9)
    off = np.abs(at - step * np.round(at / step)) / per_px
    return np.clip(1.2 - off, 0, 1) * np.clip(0.25 * step / per_px - 1, 0, 1)
