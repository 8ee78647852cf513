"""From images to bodies: detect people, rotate lifts to camera axes, fit in few batches."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.app.parts import detector_of_parts, part_arrays, parts_to_fit, without_parts
from bodyfit.app.rays import rotation_to_ray
from bodyfit.app.silhouettes import masks_of
from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.detect import DEFAULT, Detector
from bodyfit.errors import ImageError, ShapeError
from bodyfit.fit.config import FitConfig
from bodyfit.fit.depth.maps import DepthView, in_metres
from bodyfit.fit.estimate import PoseEstimate
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.result import FitResult, split
from bodyfit.fit.silhouette.masks import MaskInput
from bodyfit.geometry.camera import focal_px_from
from bodyfit.images.frame import Frame, read_image
from bodyfit.keypoints import Keypoints2D, SoftMask

__all__ = ["Lens", "as_frame", "fit_detections", "fit_frames", "fit_image", "lift_to_camera", "rotation_to_ray"]


@dataclass(frozen=True, kw_only=True)
class Lens:
    """Focal length or field of view, the same for all images (`camera.focal_px_from`)."""

    focal_px: float | None = None
    """Focal length in pixels of the image."""
    focal_mm: float | None = None
    """Focal length in millimetres, with `sensor_mm`."""
    sensor_mm: float | None = None
    """Width of the sensor along the image's longer side, millimetres."""
    fov_deg: float | None = None
    """Field of view along the longer side, degrees."""

    def focal_of(self, frame: Frame) -> tuple[float, str]:
        """Return the focal length of an image (pixels) and its source: "given", "exif" or "guess"."""
        return focal_px_from(
            frame.size,
            focal_px=self.focal_px,
            focal_mm=self.focal_mm,
            sensor_mm=self.sensor_mm,
            fov_deg=self.fov_deg,
            exif_focal_px=frame.exif_focal_px,
        )


def fit_image(
    image: str | Path | np.ndarray | Frame,
    *,
    model: BodyModel | None = None,
    detector: str | Detector = DEFAULT,
    focal_px: float | None = None,
    focal_mm: float | None = None,
    sensor_mm: float | None = None,
    fov_deg: float | None = None,
    hands: bool | None = None,
    face: bool | None = None,
    silhouette: bool = False,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
) -> list[FitResult]:
    """Detect the people in an image and fit a body to each, the largest person first.

    `image` is a path or (H, W, 3) uint8 RGB. The focal length may be given in pixels, in millimetres with the sensor's
    width along the longer side, or as the field of view along it; otherwise it is read from EXIF, or the default.
    hands, face: fit fingers, and jaw, eyes and expression; by default if the model has them and the detector detects
    them. silhouette: fit shapes to the detector's masks, too (`FitConfig.silhouette`). Returns results of batch 1, in
    camera axes and metres; check `status` before use. The list is empty if nobody is detected. Raises `ImageError`,
    `OptionError` and `DetectorError`.
    """
    frame = as_frame(image)
    return fit_frames(
        [frame],
        model=model,
        detector=detector,
        focal_px=focal_px,
        focal_mm=focal_mm,
        sensor_mm=sensor_mm,
        fov_deg=fov_deg,
        hands=hands,
        face=face,
        silhouette=silhouette,
        config=config,
        device=device,
    )[0]


def fit_frames(
    frames: Sequence[Frame],
    *,
    model: BodyModel | None = None,
    detector: str | Detector = DEFAULT,
    focal_px: float | None = None,
    focal_mm: float | None = None,
    sensor_mm: float | None = None,
    fov_deg: float | None = None,
    hands: bool | None = None,
    face: bool | None = None,
    silhouette: bool = False,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
) -> list[list[FitResult]]:
    """Fit the people of many images (`fit_image`) in common batches; return one list per frame."""
    lens = Lens(focal_px=focal_px, focal_mm=focal_mm, sensor_mm=sensor_mm, fov_deg=fov_deg)
    for frame in frames:  # a wrong focal length is told before the slow part
        lens.focal_of(frame)
    if not frames:
        return []
    wanted = parts_to_fit(model, hands, face)
    config = without_parts(config, wanted)
    if isinstance(detector, str):
        detector = detector_of_parts(detector, wanted, masks=silhouette)
    found = detector.detect(frames)
    return fit_detections(frames, found, model=model, lens=lens, config=config, device=device)


def fit_detections(
    frames: Sequence[Frame],
    people: Sequence[Sequence[Keypoints2D]],
    *,
    model: BodyModel | None = None,
    lens: Lens | None = None,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
    fitters: dict[str, Fitter] | None = None,
    depth: Sequence[Float[np.ndarray, "h w"] | None] | None = None,
    estimates: Sequence[Sequence[BodyParams | None]] | None = None,
) -> list[list[FitResult]]:
    """Fit bodies to detected people; return one list per frame, in the order of `people`.

    People in images of any size are fitted together if their focal lengths are of one octave (factor of 2). Masks are
    used if people have some. depth: a depth map for each frame, of its size (metres, 0 or NaN for holes), or None; the
    masks tell which of its pixels are a person's. estimates: for each person the body that another program estimated
    (batch 1, camera axes), or None. Raises `OptionError` for depth of no unit that depth cameras have.

    `fitters` is filled with one fitter per layout: pass the same dict in further calls with the same model and settings
    to reuse them.
    """
    fitters = {} if fitters is None else fitters
    lens = Lens() if lens is None else lens
    focals = [lens.focal_of(frame) for frame in frames]
    groups: dict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)
    for i, (focal, persons) in enumerate(zip(focals, people, strict=True)):
        for j, person in enumerate(persons):
            groups[person.layout, math.frexp(focal[0])[1]].append((i, j))
    results: dict[tuple[int, int], FitResult] = {}
    for (layout, octave), members in groups.items():
        lifts = [lift_to_camera(people[i][j], focals[i][0], frames[i].size) for i, j in members]
        if layout not in fitters:
            fitters[layout] = Fitter(model=model, layout=layout, config=config, device=device)
        fitter, some = fitters[layout], [people[i][j] for i, j in members]
        lengths, sizes = [focals[i][0] for i, _ in members], [frames[i].size for i, _ in members]
        parts = any(person.hands or person.face for person in some)
        part_fields = part_arrays(some, lengths, sizes, fitter.model) if parts else {}
        masks = [_mask(people[i], j, frames[i].size) for i, j in members]
        maps = None
        if depth is not None:
            maps = [_depth_view(depth[i], people[i][j], focals[i][0], frames[i].size) for i, j in members]
        fitted = fitter(
            np.stack([people[i][j].xyc for i, j in members]),
            image_size=(2 ** max(0, octave), 2 ** max(0, octave)),  # for the fit's check of units alone; see below
            focal_px=torch.tensor(lengths),
            principal_point_px=torch.tensor([[n / 2 for n in size] for size in sizes]),
            joints3d=stacked_lifts(lifts),
            joints3d_scale=lift_scales(some),
            picture_px=torch.tensor(sizes, dtype=torch.float32),
            masks=masks if any(mask is not None for mask in masks) else None,
            estimate=None if estimates is None else _estimate([estimates[i][j] for i, j in members], fitter.model),
            depth=maps if maps is not None and any(view is not None for view in maps) else None,
            **part_fields,
        )
        for (i, j), one in zip(members, split(fitted), strict=True):
            camera = replace(one.camera, image_size=frames[i].size)
            results[i, j] = replace(one, camera=camera, focal_source=focals[i][1])
    return [[results[i, j] for j in range(len(persons))] for i, persons in enumerate(people)]


def _mask(people: Sequence[Keypoints2D], number: int, size: tuple[int, int]) -> MaskInput:
    """Return the mask of one of the people of a picture; None without one."""
    return None if people[number].mask is None else masks_of(people, size)[number]


def _depth_view(
    depth_m: Float[np.ndarray, "h w"] | None, person: Keypoints2D, focal_px: float, size: tuple[int, int]
) -> DepthView | None:
    """Make a person's view of a picture's depth map; None without one."""
    if depth_m is None:
        return None
    if depth_m.shape != size[::-1]:
        raise ShapeError(f"the depth map must be of the picture's size, {size[::-1]}, got {depth_m.shape}")
    mask = person.mask.full(size) > 127 if isinstance(person.mask, SoftMask) else None
    return DepthView(in_metres(depth_m), focal_px, (size[0] / 2, size[1] / 2), mask)


def _estimate(bodies: Sequence[BodyParams | None], model: BodyModel) -> PoseEstimate | None:
    """Gather the estimates of people, NaN for who has none; None where nobody has one."""
    if all(body is None for body in bodies):
        return None
    nobody = model.params().unknown(1)
    rows = [nobody if body is None else {**nobody, **body} for body in bodies]
    return PoseEstimate(BodyParams(**{name: torch.cat([row[name] for row in rows]) for name in nobody}))


def as_frame(image: str | Path | np.ndarray | Frame) -> Frame:
    """Make a frame from a path or an array, RGB or grey. Raises `ImageError`."""
    if isinstance(image, Frame):
        return image
    if isinstance(image, str | Path):
        return read_image(image)
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise ImageError(
            f"image must be uint8 from 0 to 255, got {array.dtype}; "
            "turn floats in [0, 1] into (255 * image).astype('uint8')"
        )
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, 2)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ImageError(
            f"image must be (H, W, 3) RGB, got {array.shape}; drop an alpha channel with image[..., :3], "
            "turn OpenCV's BGR with image[..., ::-1]"
        )
    return Frame(np.ascontiguousarray(array))


def lift_to_camera(
    person: Keypoints2D,
    focal_px: float,
    image_size: tuple[int, int],
    principal_point_px: tuple[float, float] | None = None,
) -> Float[np.ndarray, "K 3"] | None:
    """Rotate a person's lift (metres) to the axes of the image's camera; None without a lift.

    Lifts are in the axes of a camera that looks at the person, while the image's camera looks at the image's centre;
    the lift is rotated by the rotation between these rays, about its own origin. The principal point is the image's
    centre by default.
    """
    if person.lift_m is None or person.lift_centre_px is None:
        return person.lift_m
    (u, v), (w, h) = person.lift_centre_px, image_size
    cx, cy = (w / 2, h / 2) if principal_point_px is None else principal_point_px
    R_cam_lift = rotation_to_ray(((u - cx) / focal_px, (v - cy) / focal_px, 1.0))
    return (person.lift_m @ R_cam_lift.T).astype(person.lift_m.dtype)


def lift_scales(people: Sequence[Keypoints2D]) -> Float[np.ndarray, "B K"] | None:
    """Stack the scales of lifts' errors along the view, metres, NaN for people without; None where nobody has some."""
    return stacked_lifts([None if one.lift_scale_m is None else one.lift_scale_m[:, 1] for one in people])


def stacked_lifts(lifts: Sequence[np.ndarray | None]) -> Float[np.ndarray, "B K *C"] | None:
    """Stack lifts, or their scales, in one array, NaN for people without; None where nobody has one."""
    like = next((lift for lift in lifts if lift is not None), None)
    if like is None:
        return None
    return np.stack([np.full_like(like, np.nan) if lift is None else lift for lift in lifts])
