"""Cameras as people hold and hang them: focal length, height, pitch, roll, framing and lens."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.geometry.lens import RadialLens

__all__ = ["SceneCamera", "sample_camera"]

_FILM_MM = 36.0
"""Width of the picture that focal lengths in millimetres are meant for."""
_PHONE_MM, _LENS_MM = (23.0, 30.0), (24.0, 100.0)
"""Focal lengths of phones, which half of the pictures are taken with, and of other cameras."""
_HEIGHTS_M = ((0.60, 1.5, 0.15), (0.22, 0.9, 0.25), (0.18, 2.6, 0.5))
"""How often a camera is held at the eye, low, or hung high, and mean and standard deviation of its height."""
_LOWEST_M, _HIGHEST_M = 0.3, 4.0
_LEAST_RUN = 0.7
"""Cameras are so far away for each metre that they are higher or lower: they look down by at most 55 degrees."""
_ROLL_DEG = 1.5
_CLOSE_UPS = 0.25
"""Part of the pictures that show somebody's upper body or less."""


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """A camera in the world: x_cam = R x_world + t, axes x right, y down, z forward; its principal point is the middle
    of a square picture."""

    focal_px: float
    """Focal length, pixels."""
    R_cam_world: Float[Tensor, "3 3"]
    """Rotation from world to camera axes."""
    t_cam_world_m: Float[Tensor, "3"]
    """Metres."""
    size: int
    """Width and height, pixels."""
    lens: RadialLens | None
    """Its distortion, if any."""
    aperture_m: float
    """Diameter of the lens's opening, which sets how much is out of focus."""

    @property
    def eye_m(self) -> Float[np.ndarray, "3"]:
        """Where the camera is in the world."""
        return (-self.R_cam_world.T @ self.t_cam_world_m).double().numpy()

    def rays(self, size: int) -> Float[np.ndarray, "S S 3"]:
        """Each pixel's direction in camera axes, with a depth of 1, of the picture scaled to a size."""
        at = ((np.arange(size) + 0.5) / size - 0.5) * self.size / self.focal_px
        xy = np.stack(np.meshgrid(at, at), -1)
        if self.lens is not None:
            xy = self.lens.rays(xy)
        return np.concatenate([xy, np.ones_like(xy[..., :1])], -1)

    def project(self, points_cam_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 2"]:
        """Where points in camera axes are in the picture, pixels; depths below 1 cm count as 1 cm."""
        rays = points_cam_m[:, :2] / np.maximum(points_cam_m[:, 2:], 0.01)
        return (rays if self.lens is None else self.lens.distorted(rays)) * self.focal_px + self.size / 2


def sample_camera(
    people: list[Float[np.ndarray, "_ 3"]], size: int, distortion: bool, rng: np.random.Generator
) -> SceneCamera:
    """Draw a camera that has everyone in its picture, or most of them, or one from close by."""
    phone = rng.random() < 0.5
    mm = math.exp(rng.uniform(*np.log(_PHONE_MM if phone else _LENS_MM)))
    focal = mm / _FILM_MM * size
    aperture = rng.uniform(0.0015, 0.003) if phone else mm / 1000 / math.exp(rng.uniform(*np.log((1.8, 11.0))))
    row = _HEIGHTS_M[int(rng.choice(3, p=[p for p, _, _ in _HEIGHTS_M]))]
    height = float(np.clip(rng.normal(*row[1:]), _LOWEST_M, _HIGHEST_M))
    azimuth, fill = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.05)
    points = np.concatenate(people)
    if rng.random() < _CLOSE_UPS:
        one = people[int(rng.integers(len(people)))]
        points, fill = one[one[:, 1] > rng.uniform(0.25, 0.7) * one[:, 1].max()], rng.uniform(0.7, 1.1)
    target = (points.min(0) + points.max(0)) / 2 + rng.normal(0, 0.08, 3)
    roll = math.radians(rng.normal(0, _ROLL_DEG))
    away = np.array([math.sin(azimuth), 0, math.cos(azimuth)])
    distance = max(0.8, _LEAST_RUN * abs(height - float(target[1])))
    everyone = np.concatenate(people)
    eye = R = np.zeros(3)
    for _ in range(70):
        eye = target + distance * away
        eye[1] = height
        R = _looking(eye, target, roll)
        from_eye = (points - eye) @ R.T
        if from_eye[:, 2].min() > 0.3 and np.linalg.norm(everyone - eye, axis=1).min() > 0.4:
            xy = from_eye[:, :2] / from_eye[:, 2:] * focal
            if np.ptp(xy, axis=0).max() <= fill * size and np.abs(xy).max() < 0.62 * size:
                break
        distance *= 1.08
    lens = _lens(size / focal, phone, rng) if distortion else None
    t = torch.from_numpy(-R @ eye).float()
    return SceneCamera(focal, torch.from_numpy(R).float(), t, size, lens, aperture)


def _lens(width: float, phone: bool, rng: np.random.Generator) -> RadialLens:
    """A lens for a picture so many focal lengths wide: barrels for the most part, most of all where it is wide."""
    radius = 1.3 * width / math.sqrt(2)
    bend = rng.normal(-0.03, 0.02) if phone else rng.normal(-0.04, 0.03)  # at the picture's corner
    bend = float(np.clip(bend, -0.12, 0.05))
    corner = width / math.sqrt(2)
    return RadialLens(bend / corner**2, float(rng.normal(0, 0.005)) / corner**4, radius)


def _looking(eye: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], roll: float) -> Float[np.ndarray, "3 3"]:
    """Rows right, down and forward of a camera that looks at a target."""
    # By hand: numpy's cross product takes longer than all of this.
    x, y, z = ((target - eye) / np.linalg.norm(target - eye)).tolist()
    forward, level = np.array([x, y, z]), math.hypot(x, z)
    right = np.array([-z / level, 0.0, x / level])
    down = np.array([x * y / level, -level, y * z / level])
    c, s = math.cos(roll), math.sin(roll)
    return np.stack([c * right + s * down, c * down - s * right, forward])
