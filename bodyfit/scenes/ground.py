"""What each pixel's ray meets of the floor, and the shadows there."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from bodyfit.render.environment import EnvironmentLight
from bodyfit.render.light import Openness
from bodyfit.scenes.sample import Scene

__all__ = ["FloorGrid", "FloorView"]

_CELLS = 84
_LONGEST_SHADOW = 1.5
"""Shadows end at this many times their height: a low light would throw them out of sight."""
_HALF_FROM_PX = 256
"""From this size on backgrounds are painted, and shadows laid on the floor, at half of it."""
_WIDE, _NARROW = 5.0, 1.3
"""Blur of the light from around and of the key light, cells: it hides the noise of few directions."""
_EDGE = 0.1
"""Part of the grid over which shadows fade out."""


@dataclass(frozen=True, eq=False)
class FloorView:
    """The rays of a picture, at half its size where it is large."""

    rays: Float[np.ndarray, "S S 3"]
    """Directions in the world of a depth of 1."""
    floor_m: Float[np.ndarray, "S S"]
    """Depth at which each meets the floor, metres; infinite above the horizon."""
    places_m: Float[np.ndarray, "S S 2"]
    """x and z there; 0 above the horizon."""

    @classmethod
    def of(cls, scene: Scene) -> FloorView:
        """Cast the rays of a scene's picture."""
        camera, size = scene.camera, scene.size // 2 if scene.size >= _HALF_FROM_PX else scene.size
        rays = (camera.rays(size) @ camera.R_cam_world.double().numpy()).astype(np.float32)
        eye = camera.eye_m.astype(np.float32)
        down = rays[..., 1] < -1e-3
        depth = -eye[1] / np.minimum(rays[..., 1], np.float32(-1e-3))
        places = np.where(down[..., None], eye[[0, 2]] + depth[..., None] * rays[..., [0, 2]], np.float32(0))
        return cls(rays, np.where(down, depth, np.float32(np.inf)), places)


@dataclass(frozen=True, eq=False)
class FloorGrid:
    """Cells of the floor on which shadows may fall."""

    low_m: Float[np.ndarray, "2"]
    """Least x and z."""
    cell_m: float
    """Side of a cell."""
    shape: tuple[int, int]
    """Cells along z and x."""

    @classmethod
    def below(cls, points: Float[np.ndarray, "N 3"], towards: Float[np.ndarray, "3"]) -> FloorGrid:
        """The cells below points in the world and where a light from a direction throws their shadows."""
        away = -towards[[0, 2]] / max(float(towards[1]), 1e-3)
        away *= min(1.0, _LONGEST_SHADOW / max(float(np.linalg.norm(away)), 1e-9))
        thrown = points[:, [0, 2]] + points[:, 1:2] * away
        margin = 0.4 * float(points[:, 1].max())
        low = np.minimum(points[:, [0, 2]].min(0), thrown.min(0)) - margin
        high = np.maximum(points[:, [0, 2]].max(0), thrown.max(0)) + margin
        cell = float((high - low).max()) / _CELLS
        nx, nz = np.ceil((high - low) / cell).astype(int) + 1
        return cls(low, cell, (int(nz), int(nx)))

    def points(self) -> Float[np.ndarray, "N 3"]:
        """The cells in the world."""
        z, x = np.mgrid[: self.shape[0], : self.shape[1]] * self.cell_m
        return np.stack([x.ravel() + self.low_m[0], np.zeros(x.size), z.ravel() + self.low_m[1]], 1)

    def shadow(
        self, open_to: Openness, light: EnvironmentLight, up: Float[np.ndarray, "3"], view: FloorView, size: int
    ) -> Float[np.ndarray, "S S"]:
        """The part of its light that the floor keeps at each pixel of a picture; 1 where there is no floor.

        open_to: of `points`. light and the floor's normal `up`: in one set of axes.
        """
        around, key = (
            cv2.GaussianBlur(part.reshape(self.shape), (0, 0), blur, borderType=cv2.BORDER_REPLICATE)
            for part, blur in ((open_to.sky, _WIDE), (open_to.key, _NARROW))
        )
        of_sky = float(light.reflected(up[None]).mean())
        of_key = max(float(up @ light.towards), 0.0) * float(light.color.mean())
        remaining = (of_sky * around + of_key * key) / max(of_sky + of_key, 1e-9)
        remaining = (1 - (1 - remaining) * np.minimum.outer(*(_rise(n) for n in self.shape))).astype(np.float32)
        at = ((view.places_m - self.low_m) / self.cell_m).astype(np.float32)
        at[~np.isfinite(view.floor_m)] = -1
        x, y = at[..., 0], at[..., 1]
        out = cv2.remap(remaining, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(1.0,))
        return out if len(out) == size else cv2.resize(out, (size, size), interpolation=cv2.INTER_LINEAR)


def _rise(n: int) -> Float[np.ndarray, " n"]:
    """A window that is 0 at both ends and 1 from a tenth of its length on."""
    at = np.minimum(np.arange(n), np.arange(n)[::-1]) / max(_EDGE * n, 1)
    return np.clip(at, 0, 1)
