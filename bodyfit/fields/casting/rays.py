"""Rays of a calibrated camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from bodyfit.errors import ShapeError
from bodyfit.geometry.camera import CalibratedCamera

__all__ = ["Rays", "camera_rays"]


@dataclass(frozen=True, eq=False)
class Rays:
    """Rays in the axes of the bodies, each with the place of its samples within a step."""

    origins: Float32[np.ndarray, "R 3"]
    """Where they begin, metres."""
    directions: Float32[np.ndarray, "R 3"]
    """Unit directions."""
    offsets: Float32[np.ndarray, "R"]
    """Sample i of a ray lies (i + offset) steps from its origin; between 0 and 1."""

    def __len__(self) -> int:
        return len(self.origins)

    def select(self, rows: Int[np.ndarray, "S"] | slice) -> Rays:
        """Select some of the rays."""
        return Rays(self.origins[rows], self.directions[rows], self.offsets[rows])


def camera_rays(
    camera: CalibratedCamera,
    size_px: tuple[int, int],
    *,
    xy_px: Float[np.ndarray, "R 2"] | None = None,
    seed: int | None = None,
) -> Rays:
    """Make the rays through pixels, in the world's axes of the camera, lens distortion undone.

    xy_px: places in the picture, pixel centres at +0.5; all pixels of a picture of `size_px` (width, height) row by row
    if left out. seed: draw each ray's offset at random; one half for all if left out. Raises `ShapeError`.
    """
    if xy_px is None:
        width, height = size_px
        grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1)
        xy_px = grid.reshape(-1, 2)
    if xy_px.ndim != 2 or xy_px.shape[1] != 2:
        raise ShapeError(f"xy_px must be (R, 2) pixels, got {xy_px.shape}")
    flat = camera.normalised(xy_px) if len(xy_px) else np.zeros((0, 2))
    along = np.concatenate([flat, np.ones((len(flat), 1))], 1) @ camera.R  # R^T from camera to world, of rows
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    origin = -camera.R.T @ camera.t
    origins = np.broadcast_to(origin.astype(np.float32), along.shape).copy()
    offsets = np.full(len(along), 0.5) if seed is None else np.random.default_rng(seed).random(len(along))
    return Rays(origins, along.astype(np.float32), offsets.astype(np.float32))
