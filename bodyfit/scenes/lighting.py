"""Light that fits a background: its colours all around, and a key light from where it is brightest."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float

from bodyfit.render.environment import EnvironmentLight
from bodyfit.scenes.sample import Scene

__all__ = ["scene_light"]

_SMALL = 32
_ROWS, _COLUMNS = 12, 24
"""Directions all around in which the background is looked up."""
_KEY_SHARE = (0.2, 0.72)
"""Part of the light on a surface that faces the key light which comes from there."""
_LOWEST = 0.3
"""Least sine of the key light's height above the horizon."""
_USUAL, _DIMMED = 0.30, 0.35
"""The mean light of a background that people are lit to look right in, and how far they take on its brightness."""
_LEVEL = 1.25
"""What a white surface that faces the key light reflects before a usual background."""
_TINTED = 0.45
"""How far light takes on the background's colours: cameras balance most of it away."""


def scene_light(scene: Scene, behind: Float[np.ndarray, "S S 3"]) -> EnvironmentLight:
    """Estimate the light of a background (linear), in camera axes.

    What is out of the picture continues its borders, and what is behind the camera mirrors it: so its colours and the
    side on which it is bright light people, too. The key light comes from the mean direction of that, from above.
    """
    rng = np.random.default_rng([*scene.seed, 3])
    small = cv2.resize(behind.astype(np.float32), (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    directions, solid_angle = _sphere()
    depth = np.maximum(np.abs(directions[:, 2:]), 1e-3)
    at = directions[:, :2] / depth * (scene.focal_px / scene.size) + 0.5
    column, row = np.clip((at * _SMALL).astype(int), 0, _SMALL - 1).T
    radiance = small[row, column].astype(np.float64)
    mean = float(radiance.mean())
    gray = radiance.mean(1, keepdims=True)
    radiance = gray + _TINTED * (radiance - gray)
    up = scene.R_cam_world[:, 1].double().numpy()
    towards = _towards(directions, gray[:, 0] * solid_angle, up, rng)
    near = np.maximum(directions @ towards, 0) ** 4 * solid_angle
    color = (near @ radiance) / max(float((near @ radiance).mean()), 1e-9)
    color *= 1 + rng.normal(0, 0.05) * np.array([1.0, 0.0, -1.0])  # warmer or cooler
    share = rng.uniform(*_KEY_SHARE)
    total = _LEVEL * float(np.clip(mean / _USUAL, 0.3, 2.0)) ** _DIMMED
    around = radiance * ((1 - share) * total / max(mean, 1e-6))
    return EnvironmentLight.around(directions, around, solid_angle, towards=towards, color=share * total * color)


def _towards(
    directions: Float[np.ndarray, "N 3"],
    weight: Float[np.ndarray, "N"],
    up: Float[np.ndarray, "3"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "3"]:
    """A direction near the brightest one, well above the horizon."""
    bright = weight @ directions
    bright /= max(float(np.linalg.norm(bright)), 1e-9)
    scatter = rng.normal(0, 0.5, 3)
    towards = bright + 0.4 * up + scatter
    height = float(towards @ up)
    level = towards - height * up
    level /= max(float(np.linalg.norm(level)), 1e-9)
    sine = float(np.clip(height / max(float(np.linalg.norm(towards)), 1e-9), _LOWEST, 0.97))
    return np.sqrt(1 - sine * sine) * level + sine * up


@lru_cache(maxsize=1)
def _sphere() -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N"]]:
    """Directions all around and the solid angle of each."""
    theta = (np.arange(_ROWS) + 0.5) * np.pi / _ROWS
    phi = (np.arange(_COLUMNS) + 0.5) * 2 * np.pi / _COLUMNS
    t, p = (a.ravel() for a in np.meshgrid(theta, phi, indexing="ij"))
    edges = np.cos(np.arange(_ROWS + 1) * np.pi / _ROWS)
    areas = np.repeat((edges[:-1] - edges[1:]) * 2 * np.pi / _COLUMNS, _COLUMNS)
    return np.stack([np.sin(t) * np.cos(p), -np.cos(t), np.sin(t) * np.sin(p)], 1), areas
