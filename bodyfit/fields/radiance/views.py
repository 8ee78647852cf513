"""Pictures of a person with masks, bodies and cameras, as rays to train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int8, Int64, UInt8, UInt16

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fields.casting.canonical import CanonicalBody, PosedBody, pose_bodies
from bodyfit.fields.casting.cast import CastConfig, cast_rays
from bodyfit.fields.casting.rays import Rays, camera_rays
from bodyfit.fields.casting.samples import RaySamples
from bodyfit.geometry.camera import CalibratedCamera

__all__ = ["TrainingRays", "View", "body_box", "camera_numbers", "check_views", "training_rays"]

_MARGIN_PX = 2


@dataclass(frozen=True, eq=False)
class View:
    """One picture with what is known of it."""

    picture: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    mask: Bool[np.ndarray, "_ _"] | UInt8[np.ndarray, "_ _"]
    """The person, of the picture's size; of 8 bits where it is soft."""
    camera: CalibratedCamera
    """In the axes of the parameters."""
    frame: int
    """Row of the parameters: the body in this picture."""
    unknown: Bool[np.ndarray, "_ _"] | None = None
    """Where somebody else may be before the person: pixels that teach nothing."""
    number: int | None = None
    """Number of the camera, whose pictures share a gain and an offset; equal cameras do if no view has one."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        height, width = self.picture.shape[:2]
        return height, width


@dataclass(frozen=True, eq=False)
class TrainingRays:
    """The rays of all views that pass the body, with their samples packed."""

    ptr: Int64[np.ndarray, "R1"]
    """Ray r has the samples `ptr[r]` to `ptr[r + 1]` - 1."""
    place: UInt16[np.ndarray, "N 3"]
    """As in `RaySamples`."""
    normal: Int8[np.ndarray, "N 3"]
    """As in `RaySamples`."""
    colors: UInt8[np.ndarray, "R 3"]
    """RGB of the picture."""
    masks: UInt8[np.ndarray, "R"]
    """255 for the person."""
    cameras: Int[np.ndarray, "R"]
    """Number of the camera, for its gain."""
    pixels: Int[np.ndarray, "R"]
    """Number of the pixel in its picture, row by row."""
    views: Int[np.ndarray, "R"]
    """Number of the picture."""
    step: UInt16[np.ndarray, "N"]
    """Step of each sample, as in `RaySamples`."""
    offsets: Float32[np.ndarray, "R"]
    """Of each ray, as in `RaySamples`."""
    step_m: float
    """Length of a step, metres."""

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def t_m(self) -> Float32[np.ndarray, "N"]:
        """Distance of each sample along its ray, metres."""
        offsets = np.repeat(self.offsets, np.diff(self.ptr))
        return ((self.step + offsets) * np.float32(self.step_m)).astype(np.float32)


def check_views(views: Sequence[View], params: BodyParams) -> None:
    """Check that views fit together. Raises `OptionError` and `ShapeError`."""
    if not views:
        raise OptionError("a radiance field needs at least one picture with a mask and a body")
    for number, view in enumerate(views):
        if view.mask.shape != view.picture.shape[:2]:
            size = view.picture.shape[:2]
            raise ShapeError(f"mask {number} must be of the picture's size {size}, got {view.mask.shape}")
        if not 0 <= view.frame < params.batch:
            raise OptionError(f"view {number} is of frame {view.frame}, of {params.batch}")
        if not view.mask.any():
            raise OptionError(f"the mask of view {number} is empty: nobody is in it; leave the view out")


def camera_numbers(views: Sequence[View]) -> Int[np.ndarray, "V"]:
    """Number the cameras of views: as they say, or equal ones the same."""
    stated = [view.number for view in views if view.number is not None]
    if len(stated) == len(views):
        return np.array(stated)
    numbers: dict[bytes, int] = {}
    keys = [b"".join(getattr(view.camera, name).tobytes() for name in ("K", "R", "t", "distortion")) for view in views]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def training_rays(
    views: Sequence[View], params: BodyParams, model: BodyModel, canonical: CanonicalBody, config: CastConfig, seed: int
) -> TrainingRays:
    """Cast the rays of all views; the views of a frame share its volume."""
    numbers = camera_numbers(views)
    samples: list[RaySamples] = []
    targets: list[tuple[np.ndarray, ...]] = []
    for frame in sorted({view.frame for view in views}):
        body = pose_bodies(canonical, model, params.select([frame]))[0]
        volume = config.volume_of(body)
        for number, view in enumerate(views):
            if view.frame != frame:
                continue
            rays, pixel = body_rays(view.camera, view.size, body, config.widest_m, seed=seed + number)
            if view.unknown is not None:
                clear = np.flatnonzero(~view.unknown.reshape(-1)[pixel])
                rays, pixel = rays.select(clear), pixel[clear]
            samples.append(cast_rays(body, rays, config, volume=volume))
            mask = view.mask.reshape(-1)[pixel]
            mask = mask if mask.dtype == np.uint8 else (255 * mask).astype(np.uint8)
            camera = np.full(len(pixel), numbers[number])
            own = np.full(len(pixel), number)
            targets.append((view.picture.reshape(-1, 3)[pixel], mask, camera, pixel, own))
    counts = [np.diff(one.ptr) for one in samples]
    hit = [count > 0 for count in counts]
    total = np.concatenate([count[rows] for count, rows in zip(counts, hit, strict=True)])
    if not len(total):
        raise OptionError("no ray of any picture passes a body; are the cameras in the axes of the bodies?")
    colors, masks, cameras, pixels, own = (
        np.concatenate([part[k][rows] for part, rows in zip(targets, hit, strict=True)]) for k in range(5)
    )
    return TrainingRays(
        ptr=np.concatenate([[0], np.cumsum(total)]),
        place=np.concatenate([one.place for one in samples]),
        normal=np.concatenate([one.normal for one in samples]),
        colors=colors,
        masks=masks,
        cameras=cameras,
        pixels=pixels,
        views=own,
        step=np.concatenate([one.step for one in samples]),
        offsets=np.concatenate([one.offsets[rows] for one, rows in zip(samples, hit, strict=True)]),
        step_m=float(config.step_m),
    )


def body_rays(
    camera: CalibratedCamera,
    size: tuple[int, int],
    body: PosedBody,
    band_m: float,
    *,
    seed: int | None = None,
    every: int = 1,
) -> tuple[Rays, Int64[np.ndarray, "R"]]:
    """Make the rays of the pixels that can show the band about a body; return them and the pixels' numbers.

    size: (height, width). every: of a grid of so many pixels along each axis only one.
    """
    left, top, right, bottom = body_box(camera, size, body.vertices, band_m)
    columns, rows = np.arange(left, right, every), np.arange(top, bottom, every)
    grid = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    rays = camera_rays(camera, (size[1], size[0]), xy_px=grid + 0.5, seed=seed)
    return rays, grid[:, 1] * size[1] + grid[:, 0]


def body_box(
    camera: CalibratedCamera, size: tuple[int, int], vertices: Float[np.ndarray, "V 3"], band_m: float
) -> tuple[int, int, int, int]:
    """Bound the pixels (left, top, right, bottom; the latter excluded) that can show the band about a body."""
    height, width = size
    depth = vertices @ camera.R[2] + camera.t[2]
    if depth.min() < 2 * band_m:
        return 0, 0, width, height
    at = camera.project(vertices.astype(np.float64))
    reach = camera.focal_px * band_m / float(depth.min()) + _MARGIN_PX
    low, high = np.floor(at.min(0) - reach), np.ceil(at.max(0) + reach)
    left, top = np.clip(low, 0, (width, height)).astype(int)
    right, bottom = np.clip(high, 0, (width, height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def frames_of(params: Sequence[BodyParams]) -> tuple[BodyParams, list[int]]:
    """Put the bodies of pictures together; pictures of one moment, whose bodies are equal, share a row."""
    rows: dict[bytes, int] = {}
    frames, used = [], []
    for one in params:
        key = b"".join(value.detach().cpu().numpy().tobytes() for value in one.values())
        if key not in rows:
            rows[key] = len(used)
            used.append(one)
        frames.append(rows[key])
    return BodyParams(**{name: torch.cat([one[name] for one in used]) for name in used[0]}), frames
