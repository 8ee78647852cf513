"""What is behind people: rooms and open ground drawn at random, or a photograph; and the shadows on the floor."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int
from PIL import Image, ImageOps

from bodyfit.errors import ImageError, OptionError
from bodyfit.render.color import to_linear
from bodyfit.render.ground import Floor
from bodyfit.render.light import openness_of_ground
from bodyfit.scenes.sample import Scene

__all__ = ["backdrop", "photographs", "shadowed"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_CELLS = 84
_SKY, _KEY = 12, 5
_FAR_M = 60.0
_HALF_FROM_PX = 256
"""From this size on backgrounds are painted, and shadows laid on the floor, at half of it."""


@lru_cache(maxsize=4)
def photographs(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder, in order of their names. Raises `OptionError`."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _ENDINGS) if folder.is_dir() else []
    if not found:
        raise OptionError(f"{folder}: no folder with pictures ({', '.join(_ENDINGS)}) for backgrounds")
    return tuple(found)


def backdrop(scene: Scene, folder: Path | None) -> Float[np.ndarray, "S S 3"]:
    """Paint what is behind people, linear light, without their shadows. Raises `OptionError` and `ImageError`."""
    rng = np.random.default_rng(scene.seed)
    if folder is not None:
        choices = photographs(folder)
        return _photograph(choices[int(rng.integers(len(choices)))], scene.size, rng)
    if scene.size < _HALF_FROM_PX:
        return _painted(scene, rng)
    half = replace(scene, size=scene.size // 2, focal_px=scene.focal_px / 2)  # it is out of focus anyway
    return cv2.resize(_painted(half, rng), (scene.size, scene.size), interpolation=cv2.INTER_LINEAR)


def _photograph(path: Path, side: int, rng: np.random.Generator) -> Float[np.ndarray, "S S 3"]:
    """A square part of a photograph."""
    try:
        with Image.open(path) as file:
            image = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except OSError as fault:
        raise ImageError(f"{path}: not a readable picture ({fault})") from fault
    height, width = image.shape[:2]
    part = max(int(min(height, width) * rng.uniform(0.6, 1.0)), 1)
    y, x = int(rng.integers(height - part + 1)), int(rng.integers(width - part + 1))
    shrunk = cv2.resize(image[y : y + part, x : x + part], (side, side), interpolation=cv2.INTER_AREA)
    return to_linear(shrunk[:, :: int(rng.choice([1, -1]))] / 255).astype(np.float32)


def _painted(scene: Scene, rng: np.random.Generator) -> Float[np.ndarray, "S S 3"]:
    """A floor, and a wall or the sky behind it."""
    eye, rays = scene.eye_m, _rays(scene)
    indoors = rng.random() < 0.6
    floor_t = np.where(rays[..., 1] < -1e-3, -eye[1] / np.minimum(rays[..., 1], -1e-3), np.inf)
    ground = eye[[0, 2]] + np.minimum(floor_t, _FAR_M)[..., None] * rays[..., [0, 2]]
    noise = _noise(int(rng.integers(64)))
    picture = _color(rng, 0.1, 0.5) * (1 + rng.uniform(0.1, 0.5) * _at(noise, ground, rng.uniform(0.3, 3.0)))
    if rng.random() < 0.5:  # tiles or boards
        size = np.array([rng.uniform(0.15, 0.8), rng.uniform(0.3, 1.5)])
        lines = np.abs(ground / size - np.round(ground / size)).min(-1) * size.min()
        near = np.minimum(floor_t, _FAR_M)
        width = 0.004 + near / scene.focal_px
        picture *= (1 - 0.35 * np.clip(1.5 - lines / width, 0, 1) * np.clip(0.1 / width, 0, 1))[..., None]
    middle = scene.R_cam_world[2].double().numpy()
    if indoors:
        behind = _wall(scene, rays, eye, middle, rng, noise)
        wall_t, paint = behind
        picture = np.where((wall_t < floor_t)[..., None], paint, picture)
    else:
        top, low = _color(rng, 0.25, 0.7) * [0.8, 0.95, 1.25], _color(rng, 0.5, 0.9)
        rise = np.clip(rays[..., 1:2] / np.linalg.norm(rays, axis=-1, keepdims=True), 0, 1) ** 0.6
        clouds = _at(noise, rays[..., [0, 1]] * 3, 1.0) * rng.uniform(0, 0.3)
        sky = (low + (top - low) * rise) * (1 + clouds)
        haze = np.clip(np.minimum(floor_t, _FAR_M) / _FAR_M, 0, 1)[..., None] ** 0.7
        picture = np.where(np.isfinite(floor_t)[..., None], picture + (low - picture) * haze, sky)
    blurred = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), max(rng.uniform(0.2, 3.0) * scene.size / 512, 0.3))
    return np.clip(blurred, 0.003, 1)


def _wall(
    scene: Scene,
    rays: Float[np.ndarray, "S S 3"],
    eye: Float[np.ndarray, "3"],
    middle: Float[np.ndarray, "3"],
    rng: np.random.Generator,
    noise: Float[np.ndarray, "n n"],
) -> tuple[Float[np.ndarray, "S S"], Float[np.ndarray, "S S 3"]]:
    """How far along each ray a wall is, and its paint, with pictures, doors and windows on it."""
    away = np.array([middle[0], 0, middle[2]]) / np.hypot(middle[0], middle[2])
    turn = rng.uniform(-0.5, 0.5)
    normal = np.array(
        [away[0] * np.cos(turn) - away[2] * np.sin(turn), 0, away[0] * np.sin(turn) + away[2] * np.cos(turn)]
    )
    people = _farthest_m(scene)
    distance = people + rng.uniform(0.8, 4.0)
    along = rays @ normal
    t = np.where(along > 1e-3, distance / np.maximum(along, 1e-3), np.inf)
    at = eye + np.minimum(t, _FAR_M)[..., None] * rays
    across = at @ np.array([normal[2], 0, -normal[0]])
    places = np.stack([across, at[..., 1]], -1)
    paint = _color(rng, 0.25, 0.85) * (1 + 0.15 * _at(noise, places, 2.0))
    for _ in range(int(rng.integers(0, 6))):
        centre = np.array([rng.uniform(-4, 4) + across.mean(), rng.uniform(0.8, 2.2)])
        half = np.array([rng.uniform(0.2, 1.0), rng.uniform(0.2, 1.0)])
        inside = np.all(np.abs(places - centre) < half, axis=-1)
        own = _color(rng, 0.05, 0.9) * (1 + rng.uniform(0, 1) * _at(noise, places - centre, rng.uniform(0.3, 2.0)))
        paint = np.where(inside[..., None], own, paint)
    skirting = (at[..., 1] < 0.1)[..., None]
    return t, np.where(skirting, 0.6 * paint, paint)


def _farthest_m(scene: Scene) -> float:
    """How far away the farthest person stands, metres along the view."""
    R, t = scene.R_cam_world, scene.t_cam_world_m
    return max(float((person.params.transl[0] @ R.T + t)[2]) for person in scene.people) + 0.5


def _rays(scene: Scene) -> Float[np.ndarray, "S S 3"]:
    """Each pixel's direction in the world, with a depth of 1."""
    at = (np.arange(scene.size) + 0.5 - scene.size / 2) / scene.focal_px
    x, y = np.meshgrid(at, at)
    return np.stack([x, y, np.ones_like(x)], -1) @ scene.R_cam_world.double().numpy()


def shadowed(scene: Scene, points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "S S"]:
    """How much of its light the floor keeps at each pixel past people (world, metres): 1 where no shadow falls.

    Light comes as it falls on people, from above the camera's left and from the sky.
    """
    rows = scene.R_cam_world.double().numpy()
    forward = np.array([rows[2, 0], 0, rows[2, 2]]) / np.hypot(rows[2, 0], rows[2, 2])
    level = np.stack([np.cross(forward, (0.0, 1.0, 0.0)), (0.0, -1.0, 0.0), forward])
    room = (points @ level.T).astype(np.float32)
    floor = Floor.below(room, 0.0, _CELLS)
    sky, key = openness_of_ground(room, faces.astype(np.int32), floor.points(), sky=_SKY, key=_KEY)
    floor = floor.lit(sky, key, _SKY + _KEY)
    step = 2 if scene.size >= _HALF_FROM_PX else 1
    rays, eye = _rays(replace(scene, size=scene.size // step, focal_px=scene.focal_px / step)), scene.eye_m
    t = np.where(rays[..., 1] < -1e-3, -eye[1] / np.minimum(rays[..., 1], -1e-3), 0)
    hit = (eye + t[..., None] * rays) @ level.T
    light = np.where(t > 0, floor.at(hit[..., 0], hit[..., 2]), 1.0).astype(np.float32)
    return cv2.resize(light, (scene.size, scene.size), interpolation=cv2.INTER_LINEAR) if step > 1 else light


def _color(rng: np.random.Generator, low: float, high: float) -> Float[np.ndarray, "3"]:
    """A colour of paint or ground, linear, mostly pale."""
    gray = to_linear(np.array(rng.uniform(low, high)))
    return np.clip(gray * (1 + rng.normal(0, 0.18, 3)), 0.01, 0.9)


@lru_cache(maxsize=64)
def _noise(number: int) -> Float[np.ndarray, "256 256"]:
    """Noise of all sizes that repeats, mean 0, at most about 1."""
    rng = np.random.default_rng([number, 77])
    out = np.zeros((256, 256), np.float32)
    for octave in range(2, 8):
        cells = rng.normal(size=(2**octave, 2**octave)).astype(np.float32)
        out += cv2.resize(
            np.pad(cells, 2, mode="wrap"),
            None,
            fx=2 ** (8 - octave),
            fy=2 ** (8 - octave),
            interpolation=cv2.INTER_CUBIC,
        )[2 * 2 ** (8 - octave) :, 2 * 2 ** (8 - octave) :][:256, :256] * 0.8 ** (octave - 2)
    return out / np.abs(out).max()


def _at(
    noise: Float[np.ndarray, "256 256"], places: Float[np.ndarray, "S S 2"], size_m: float
) -> Float[np.ndarray, "S S 1"]:
    """The noise at places, repeating every `size_m` metres times four."""
    at = (places * (64 / size_m)).astype(np.float32) % 256
    return cv2.remap(noise, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)[..., None]
