"""Make the picture of what was drawn: over its background, softened by the lens, with the sensor's grain."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.render.shade import Layer
from bodyfit.scenes.sample import Scene

__all__ = ["cut_out", "photograph"]

_NOISE = 1_299_709
"""Numbers of grain, a prime, so that rows of a picture are not in step with it."""
_FRAME = 7919
"""Numbers by which the grain of a frame of a clip lies behind that of the one before."""
_LEAST_SOFT_PX = 0.25


def photograph(
    scene: Scene, behind: Float[np.ndarray, "S S 3"], shadow: Float[np.ndarray, "S S"], layer: Layer | None
) -> UInt8[np.ndarray, "S S 3"]:
    """RGB of people over a background of linear light, which keeps the part `shadow` of its light."""
    from bodyfit.scenes.compose_loops import over_background

    picture = np.empty((scene.size, scene.size, 3), np.float32)
    rgba = np.zeros((0, 0, 4), np.float32) if layer is None else layer.rgba
    left, top = (0, 0) if layer is None else layer.corner_px
    over_background(behind.astype(np.float32), shadow.astype(np.float32), rgba, left, top, picture)
    return _developed(scene, picture)


def cut_out(scene: Scene, layer: Layer | None) -> UInt8[np.ndarray, "S S 4"]:
    """RGBA of people alone, not premultiplied."""
    picture = np.zeros((scene.size, scene.size, 4), np.float32)
    if layer is not None:
        x, y = layer.corner_px
        h, w = layer.rgba.shape[:2]
        picture[y : y + h, x : x + w] = layer.rgba
    alpha = picture[..., 3:].copy()
    colors = _developed(scene, np.ascontiguousarray(picture[..., :3] / np.maximum(alpha, 1e-6)))
    return np.concatenate([colors * (alpha > 0), np.round(255 * alpha).astype(np.uint8)], 2)


def _developed(scene: Scene, picture: Float[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "S S 3"]:
    """Bytes of a picture, with the lens's softness, grain and exposure of a scene."""
    from bodyfit.scenes.compose_loops import develop

    rng = np.random.default_rng([*scene.seed, 2])
    softness, grain, gain = abs(rng.normal(0, 0.4)) * scene.size / 512, rng.uniform(0, 0.025), rng.uniform(0.85, 1.15)
    if softness > _LEAST_SOFT_PX:
        picture = cv2.GaussianBlur(picture, (0, 0), softness)
    out = np.empty(picture.shape, np.uint8)
    develop(picture, _noise(), int(rng.integers(_NOISE)) + scene.frame * _FRAME, grain, gain, out)
    return out


@lru_cache(maxsize=1)
def _noise() -> Float[np.ndarray, "N"]:
    """Normal numbers, the same for all pictures: each takes its own stretch of them."""
    return np.random.default_rng(20).standard_normal(_NOISE, np.float32)
