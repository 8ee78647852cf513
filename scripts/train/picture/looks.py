"""What the landmark network says of drawn people, in disturbed pictures and regions, and the truth in its axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from bodyfit.app.rays import rotation_to_ray
from bodyfit.detect.movenet import region
from bodyfit.detect.networks.crops import from_picture
from bodyfit.detect.networks.landmarks import Landmarker
from bodyfit.detect.networks.lift import MAPS, POOLED_MAP, features_at, geometry_of
from bodyfit.detect.regions import Roi
from bodyfit.detect.search.similarity import COCO_ROWS
from bodyfit.runtime.atomic import write_atomically
from bodyfit.skeleton import SMPL, layout_names, mirrored_rows
from scripts.train.picture.drawn import DrawnPerson, read_people, read_scenes
from scripts.train.picture.network import JOINTS

__all__ = ["disturbed", "look_at"]

_SWAP, _SWAP_JOINTS = mirrored_rows(layout_names("mediapipe33")), mirrored_rows(SMPL.names)[:JOINTS]
_A_FILE = 200
_LEAST_POINTS, _OFF = 8, 0.1
"""Who has fewer landmarks in the picture is not looked at; a look whose landmarks are farther off at the median, in
parts of the region's side, is one at somebody else."""
_SHIFT, _SIZE, _TURN = 0.03, 0.1, 0.1
"""Deviations of a region: of its centre by its side, of the logarithm of its side, and of its turn, radians."""

Source = Iterator[tuple[UInt8[np.ndarray, "S S 3"], DrawnPerson]]


def look_at(folder: Path, people: Path, scenes: Sequence[Path], seed: int) -> None:
    """Look at all people, and write files of looks; what is there is not looked at again."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = {path.stem: partial(read_people, path) for path in sorted(people.glob("*.npz"))}
    for scene in scenes:
        last = max((int(path.stem) for path in (scene / "params").glob("*.npz")), default=-1)
        for start in range(0, last + 1, _A_FILE):
            sources[f"{scene.name}_{start:06d}"] = partial(read_scenes, scene, range(start, start + _A_FILE))
    landmarker = Landmarker(maps=(*MAPS, POOLED_MAP))
    for number, (name, source) in enumerate(sources.items()):
        path = folder / f"{name}.npz"
        if path.is_file():
            continue
        looks = _looks(landmarker, source(), np.random.default_rng([seed, 7, number]))
        rows = list(looks)
        if rows:
            with write_atomically(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **{key: np.stack([row[key] for row in rows]) for key in rows[0]})
        print(f"{path.name}: {len(rows)} looks", flush=True)


def _looks(landmarker: Landmarker, source: Source, rng: np.random.Generator) -> Iterator[dict[str, np.ndarray]]:
    """Look once at each person, at the picture or at its mirror image."""
    for image, person in source:
        side, mirror = len(image), bool(rng.random() < 0.5)
        if mirror:
            image, person = image[:, ::-1], _mirrored(person)
        xy = person.points[:, :2] / np.maximum(person.points[:, 2:], 0.05) * person.focal_px + side / 2
        inside = np.all((xy > 0) & (xy < side), axis=1)
        if inside.sum() < _LEAST_POINTS:
            continue
        about = region(np.concatenate([xy, inside[:, None]], 1)[COCO_ROWS])
        x, y = (about.x, about.y) + rng.normal(0, _SHIFT, 2) * about.size
        size, angle = about.size * math.exp(rng.normal(0, _SIZE)), about.angle + rng.normal(0, _TURN)
        roi = Roi(float(x), float(y), size, float(angle))
        seen = landmarker.outputs(disturbed(np.ascontiguousarray(image), rng), roi)
        if seen is None:
            continue
        to_region = from_picture(roi, 1)
        off = np.linalg.norm(xy @ to_region[:, :2].T + to_region[:, 2] - seen.xy[:33], axis=1)
        if np.median(off[inside]) > _OFF:
            continue
        R = _region_axes(roi, float(person.focal_px), side)
        yield {
            "geometry": geometry_of(seen.points, seen.world, seen.xy),
            "features": features_at(seen.maps, seen.xy).astype(np.float16),
            "pooled": seen.maps[POOLED_MAP].ravel().astype(np.float16),
            "points": ((person.points - person.points[23:25].mean(0)) @ R.T).astype(np.float32),
            "joints": ((person.joints - person.joints[0]) @ R.T).astype(np.float32),
            "rest": person.rest,
            "root": (R @ person.root).astype(np.float32),
            "pose": person.pose,
        }


def _region_axes(roi: Roi, focal_px: float, side: int) -> Float[np.ndarray, "3 3"]:
    """The rotation from the picture's camera to one that looks straight at a region, and is turned as it is."""
    R = np.eye(3)
    R[:2, :2] = from_picture(roi, 1)[:, :2] * roi.size
    return R @ rotation_to_ray(((roi.x - side / 2) / focal_px, (roi.y - side / 2) / focal_px, 1.0)).T


def _mirrored(person: DrawnPerson) -> DrawnPerson:
    """The person in a mirror."""
    across, about = np.array([-1.0, 1.0, 1.0], np.float32), np.array([1.0, -1.0, -1.0], np.float32)
    return DrawnPerson(
        person.focal_px,
        (across * person.points)[_SWAP],
        (across * person.joints)[_SWAP_JOINTS],
        (across * person.rest)[_SWAP_JOINTS],
        across[:, None] * person.root * across,
        (about * person.pose)[[row - 1 for row in _SWAP_JOINTS[1:]]],
    )


def disturbed(picture: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """Change a picture as cameras, light and files do: hidden parts, tone, colour, blur, grain and JPEG."""
    image = picture.astype(np.float32) / 255
    height, width = image.shape[:2]
    if rng.random() < 0.12:
        size, middle = rng.uniform(0.06, 0.22) * width, rng.uniform(0.15, 0.85, 2) * (width, height)
        box = cv2.boxPoints(((0, 0), (size, size * rng.uniform(0.3, 2)), rng.uniform(0, 90)))
        cv2.fillConvexPoly(image, (middle + box).astype(np.int32), rng.uniform(0, 1, 3).tolist())
    image = image ** math.exp(rng.normal(0, 0.25))
    grey = image.mean(2, keepdims=True)
    image = grey + (image - grey) * (0.0 if rng.random() < 0.04 else rng.uniform(0.5, 1.4))
    image = image.mean() + (image - image.mean()) * rng.uniform(0.65, 1.35)
    image = (image * rng.normal(1, 0.07, 3) * rng.uniform(0.75, 1.25)).astype(np.float32)
    image = _blurred(image, rng)
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0, 0.05), image.shape)
    image = (image.clip(0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.5:
        packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(25, 90))])[1]
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return image


def _blurred(image: Float[np.ndarray, "H W 3"], rng: np.random.Generator) -> Float[np.ndarray, "H W 3"]:
    """Blur most pictures not at all, others out of focus, along a motion, or by too few pixels."""
    kind = rng.choice(4, p=(0.4, 0.3, 0.15, 0.15))
    if kind == 1:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    if kind == 2:
        n, angle = int(rng.integers(3, 9)), rng.uniform(0, math.pi)
        along = np.linspace(-1, 1, 4 * n) * (n - 1) / 2
        kernel = np.zeros((n, n), np.float32)
        rows, columns = ((n - 1) / 2 + along * way for way in (math.sin(angle), math.cos(angle)))
        kernel[rows.round().astype(int), columns.round().astype(int)] = 1
        return cv2.filter2D(image, -1, kernel / kernel.sum())
    if kind == 3:
        size = tuple(int(rng.uniform(0.35, 0.9) * n) for n in image.shape[1::-1])
        return cv2.resize(cv2.resize(image, size, interpolation=cv2.INTER_AREA), image.shape[1::-1])
    return image
