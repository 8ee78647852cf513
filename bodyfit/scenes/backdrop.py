"""What is behind people: rooms and open ground drawn at random, or a photograph."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps

from bodyfit.errors import ImageError, OptionError
from bodyfit.render.color import to_linear
from bodyfit.scenes.ground import FloorView
from bodyfit.scenes.sample import Scene

__all__ = ["Painter", "photographs"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_FAR_M = 60.0
_EXPOSED, _AUTOMATIC = 0.2, 0.6
"""The mean light that cameras expose for, and how far they do so."""
_BLURS = (0.0, 0.8, 2.0, 5.0)
"""Standard deviations, in 256ths of the picture, of the copies between which what is out of focus is mixed."""


@lru_cache(maxsize=4)
def photographs(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder, in order of their names. Raises `OptionError`."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _ENDINGS) if folder.is_dir() else []
    if not found:
        raise OptionError(f"{folder}: no folder with pictures ({', '.join(_ENDINGS)}) for backgrounds")
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Painter:
    """Paints what is behind people, from every camera the same place."""

    first: Scene
    """The scene that the place was made for: walls stand behind its people."""
    folder: Path | None
    """Photographs, which stay as they are whatever the camera does; None paints rooms and open ground."""
    exposure: float | None = None
    """What painted light is multiplied by; None for what a camera would choose."""

    def paint(self, scene: Scene, view: FloorView) -> tuple[Float[np.ndarray, "S S 3"], float]:
        """What a scene has behind its people, linear light without their shadows, and the exposure.

        Raises `OptionError` and `ImageError`.
        """
        rng = np.random.default_rng(scene.seed)
        if self.folder is not None:
            choices = photographs(self.folder)
            return _photograph(choices[int(rng.integers(len(choices)))], scene.size, rng), 1.0
        painted, depth = _painted(scene, self.first, view, rng)
        exposure = (_EXPOSED / float(painted.mean())) ** _AUTOMATIC if self.exposure is None else self.exposure
        blurred = np.clip(_out_of_focus((exposure * painted).astype(np.float32), depth, scene), 0.003, 1)
        if len(blurred) != scene.size:
            blurred = cv2.resize(blurred, (scene.size, scene.size), interpolation=cv2.INTER_LINEAR)
        return blurred, exposure


def _out_of_focus(
    picture: Float[np.ndarray, "S S 3"], depth_m: Float[np.ndarray, "S S"], scene: Scene
) -> Float[np.ndarray, "S S 3"]:
    """Blur each pixel by the circle that a thin lens focused on the people makes of it."""
    R, t = scene.R_cam_world, scene.t_cam_world_m
    focus = float(np.mean([float((person.params.transl[0] @ R.T + t)[2]) for person in scene.people]))
    focus = max(focus, 0.3)
    circle = scene.camera.aperture_m * scene.focal_px / scene.size * np.abs(1 / focus - 1 / np.maximum(depth_m, 0.1))
    # The deviation of a disk, along one axis, is a quarter of its diameter.
    sigma = np.clip(256 * circle / 4, _BLURS[1], _BLURS[-1]).astype(np.float32)
    out = picture
    for low, high in itertools.pairwise(_BLURS):
        if float(sigma.max()) <= low:
            break
        more = cv2.GaussianBlur(picture, (0, 0), max(high * len(picture) / 256, 0.7))
        share = np.clip((sigma - low) / (high - low), 0, 1)[..., None]
        out = out + share * (more - out)
    return out


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


def _painted(
    scene: Scene, first: Scene, view: FloorView, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "S S 3"], Float[np.ndarray, "S S"]]:
    """A floor, and a wall or the sky behind it, and how far away each pixel is."""
    eye, rays, floor_t = scene.eye_m.astype(np.float32), view.rays, view.floor_m
    indoors = rng.random() < 0.6
    ground = eye[[0, 2]] + np.minimum(floor_t, _FAR_M)[..., None] * rays[..., [0, 2]]
    noise = _noise(int(rng.integers(64)))
    picture = _color(rng, 0.1, 0.5) * (1 + rng.uniform(0.1, 0.5) * _at(noise, ground, rng.uniform(0.3, 3.0)))
    if rng.random() < 0.5:  # tiles or boards
        size = np.array([rng.uniform(0.15, 0.8), rng.uniform(0.3, 1.5)], np.float32)
        lines = np.abs(ground / size - np.round(ground / size)).min(-1) * size.min()
        near = np.minimum(floor_t, _FAR_M)
        width = 0.004 + near * scene.size / len(rays) / scene.focal_px
        picture *= (1 - 0.35 * np.clip(1.5 - lines / width, 0, 1) * np.clip(0.1 / width, 0, 1))[..., None]
    if indoors:
        wall_t, above, paint = _wall(first, rays, eye, scene.size / len(rays) / scene.focal_px, rng, noise)
        picture = picture + above[..., None] * (paint - picture)
        floor_t = np.minimum(floor_t, wall_t)
    else:
        top, low = _color(rng, 0.25, 0.7) * np.array((0.8, 0.95, 1.25), np.float32), _color(rng, 0.5, 0.9)
        rise = np.clip(rays[..., 1:2] / np.linalg.norm(rays, axis=-1, keepdims=True), 0, 1) ** 0.6
        clouds = _at(noise, rays[..., [0, 1]] * 3, 1.0) * rng.uniform(0, 0.3)
        sky = (low + (top - low) * rise) * (1 + clouds)
        haze = np.clip(np.minimum(floor_t, _FAR_M) / _FAR_M, 0, 1)[..., None] ** 0.7
        picture = np.where(np.isfinite(floor_t)[..., None], picture + (low - picture) * haze, sky)
    return picture, np.minimum(floor_t, _FAR_M)


def _wall(
    first: Scene,
    rays: Float[np.ndarray, "S S 3"],
    eye: Float[np.ndarray, "3"],
    pixel: float,
    rng: np.random.Generator,
    noise: Float[np.ndarray, "n n"],
) -> tuple[Float[np.ndarray, "S S"], Float[np.ndarray, "S S"], Float[np.ndarray, "S S 3"]]:
    """How far along each ray a wall is, how much of the pixel it fills, and its paint, with pictures and windows on it.

    pixel: width of a pixel at a depth of 1; edges are soft over one, as they are in photographs.
    """
    middle = first.R_cam_world[2].double().numpy()
    away = np.array([middle[0], 0, middle[2]]) / np.hypot(middle[0], middle[2])
    turn = rng.uniform(-0.5, 0.5)
    normal = np.array(
        [away[0] * np.cos(turn) - away[2] * np.sin(turn), 0, away[0] * np.sin(turn) + away[2] * np.cos(turn)]
    )
    start = first.eye_m
    distance = _farthest_m(first) + rng.uniform(0.8, 4.0)
    along = rays @ normal.astype(np.float32)
    to_wall = float(distance + (start - eye) @ normal)
    t = np.where(along > 1e-3, to_wall / np.maximum(along, np.float32(1e-3)), np.float32(np.inf))
    near = np.minimum(t, _FAR_M)
    at, width = eye + near[..., None] * rays, near * pixel
    sideways = np.array([normal[2], 0, -normal[0]])
    across = at @ sideways.astype(np.float32)
    before = float((start + distance / max(float(middle @ normal), 0.3) * middle) @ sideways)
    places = np.stack([across, at[..., 1]], -1)
    paint = _color(rng, 0.25, 0.85) * (1 + 0.15 * _at(noise, places, 2.0))
    for _ in range(int(rng.integers(0, 6))):
        centre = np.array([rng.uniform(-4, 4) + before, rng.uniform(0.8, 2.2)])
        half = np.array([rng.uniform(0.2, 1.0), rng.uniform(0.2, 1.0)])
        color, contrast, scale = _color(rng, 0.05, 0.9), rng.uniform(0, 1), rng.uniform(0.3, 2.0)
        within = (half.astype(np.float32) - np.abs(places - centre.astype(np.float32))).min(-1) / width + 0.5
        inside = within > 0
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if len(rows):
            part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            own = color * (1 + contrast * _at(noise, places[part] - centre, scale))
            paint[part] += np.clip(within[part], 0, 1)[..., None] * (own - paint[part])
    skirting = np.clip((0.1 - at[..., 1]) / width + 0.5, 0, 1)[..., None]
    above = np.where(np.isfinite(t), np.clip(at[..., 1] / width + 0.5, 0, 1), 0)
    return t, above.astype(np.float32), paint * (1 - 0.4 * skirting)


def _farthest_m(scene: Scene) -> float:
    """How far away the farthest person stands, metres along the view."""
    R, t = scene.R_cam_world, scene.t_cam_world_m
    return max(float((person.params.transl[0] @ R.T + t)[2]) for person in scene.people) + 0.5


def _color(rng: np.random.Generator, low: float, high: float) -> Float[np.ndarray, "3"]:
    """A colour of paint or ground, linear, mostly pale."""
    gray = to_linear(np.array(rng.uniform(low, high)))
    return np.clip(gray * (1 + rng.normal(0, 0.12, 3)), 0.01, 0.9).astype(np.float32)


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
    noise: Float[np.ndarray, "256 256"], places: Float[np.ndarray, "h w 2"], size_m: float
) -> Float[np.ndarray, "h w 1"]:
    """The noise at places, repeating every `size_m` metres times four."""
    at = (places * (64 / size_m)).astype(np.float32) % 256
    return cv2.remap(noise, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)[..., None]
