"""From several pictures of one person to one measured shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.app.clip_person import DetectedFrame, open_clip, person_of_clip
from bodyfit.app.pipeline import Lens, as_frame, lift_to_camera, stacked_lifts
from bodyfit.app.same_person import same_person
from bodyfit.app.silhouettes import masks_of
from bodyfit.app.video import Progress, focal_of
from bodyfit.body.anthropometry.intervals import Interval, measurement_intervals
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.sample import random_bodies
from bodyfit.detect import DEFAULT, Detector, load_detector, sees_masks
from bodyfit.errors import OptionError
from bodyfit.fit.config import FitConfig
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.pictures_config import PicturesConfig
from bodyfit.fit.result import FitResult, FitStatus, split
from bodyfit.fit.shared_shape import SharedShapeFitter
from bodyfit.fit.silhouette.masks import MaskInput
from bodyfit.images.files import image_by_name, looks_like_image
from bodyfit.images.frame import Frame
from bodyfit.io import VideoReader
from bodyfit.keypoints import Keypoints2D

__all__ = [
    "PictureFit",
    "ShapeResult",
    "check_numbers",
    "detect_people",
    "detector_of_masks",
    "fit_shape",
    "fit_shape_of",
    "open_input",
    "shape_of",
]

_NOBODY = "nobody was found in the picture"


@dataclass(frozen=True)
class PictureFit:
    """One picture of the person."""

    frame: Frame
    """The picture."""
    person: Keypoints2D | None = None
    """The person's keypoints; None where nobody was found."""
    people: int = 0
    """Number of people found in the picture; one of several is chosen by `same_person`."""
    by_track: bool = False
    """Whether the person was chosen by following them through a clip."""
    result: FitResult | None = None
    """The body in this picture, batch 1, camera axes; None where nobody was found."""
    reason: str | None = None
    """Why the picture does not take part in the shape; None where it does."""


@dataclass(frozen=True)
class ShapeResult:
    """One shape from pictures of one person."""

    model: BodyModel
    """The body model."""
    betas: Float[Tensor, "S"]
    """Shape; NaN where no picture shows a body."""
    covariance: Float[Tensor, "S S"]
    """Covariance of the betas, without the calibration of the intervals; NaN where no picture shows a body."""
    measurements: dict[str, Interval]
    """Measurements with intervals, by the names of `Measurements`: metres, for the mass kilograms; empty without a
    body."""
    pictures: tuple[PictureFit, ...]
    """The pictures, in the order in which they were given."""
    level: float | int = 0.9
    """Probability of the intervals."""
    height_m: float | int | None = None
    """The height that was given."""
    mass_kg: float | int | None = None
    """The mass that was given."""
    status: FitStatus = FitStatus.CONVERGED
    """`POOR` where the shape rests on poor fits alone, `UNOBSERVABLE` without a body."""
    reason: str | None = None
    """Why there is no body, or none to rely on; None for a good one."""
    notes: tuple[str, ...] = field(default=())
    """Remarks for the user."""

    @property
    def used(self) -> int:
        """Number of pictures that take part in the shape."""
        return sum(picture.reason is None for picture in self.pictures)

    def a_pose(self) -> BodyParams:
        """Return the body in the A-pose (the arms 45 degrees down), y up, its soles at y = 0. Raises `OptionError`."""
        if not self.status.ok:
            raise OptionError(f"there is no body: {self.reason}")
        like = random_bodies(1, model=self.model, pose="a-pose")
        params = self.model.params(**{**like, "betas": self.betas[None]})
        with torch.no_grad():
            lowest = self.model(**params).vertices[0, :, 1].amin()
        transl = params.transl.clone()
        transl[:, 1] -= lowest
        return self.model.params(**{**params, "transl": transl})


def fit_shape(
    images: Sequence[str | Path | np.ndarray | Frame],
    *,
    height_m: float | int | None = None,
    mass_kg: float | int | None = None,
    model: BodyModel | None = None,
    detector: str | Detector = DEFAULT,
    focal_px: float | None = None,
    focal_mm: float | None = None,
    sensor_mm: float | None = None,
    fov_deg: float | None = None,
    clothes: str = "tight",
    silhouette: bool | None = None,
    level: float | int = 0.9,
    config: FitConfig | None = None,
    device: torch.device | str | None = None,
) -> ShapeResult:
    """Fit one shape to several pictures of one person and measure it.

    images: paths or (H, W, 3) uint8 RGB, of any sizes, from any sides, in any poses; a clip's path stands for up to 16
    frames of the person who is seen largest and longest in it (`person_of_clip`). Each picture has a camera and a pose
    of its own. height_m, mass_kg: known ones. Without a height the size of the body is a guess. The focal length is set
    as in `fit_image`, for all pictures; without one, it is read from EXIF or guessed from the picture's size. In each
    picture the largest person is taken, or who clearly has the colours of the person in the others (`same_person`). A
    picture without a person, or in which the fit is poor, does not take part (`PictureFit.reason`). clothes: "tight",
    for none as well, or "loose". silhouette: use the detector's masks; by default if it makes some. level: probability
    of the intervals of the measurements.

    Raises `ImageError`, `VideoError`, `OptionError` and `DetectorError`.
    """
    lens = Lens(focal_px=focal_px, focal_mm=focal_mm, sensor_mm=sensor_mm, fov_deg=fov_deg)
    sources = [open_input(image) for image in images]
    for source in sources:  # a wrong focal length is an error before the slow part
        lens.focal_of(source) if isinstance(source, Frame) else focal_of(source.full_size, lens)
    check_numbers(height_m, mass_kg, level)
    pictures = PicturesConfig.of_clothes(clothes)
    finder = detector_of_masks(detector, silhouette) if isinstance(detector, str) else detector
    found = [one for source in sources for one in detect_people(source, finder)]
    return fit_shape_of(
        [one.frame for one in found],
        [one.people for one in found],
        choices=[one.person for one in found],
        height_m=height_m,
        mass_kg=mass_kg,
        model=load_model(device=device or "cpu") if model is None else model,
        lens=lens,
        level=level,
        config=config,
        pictures=pictures,
    )


def detector_of_masks(name: str, silhouette: bool | None, *, tta: bool = False) -> Detector:
    """Load a detector by name that makes masks if it can, or if `silhouette` says so.

    Raises `OptionError` for a detector that cannot and has to, and `DetectorError`.
    """
    return load_detector(name, tta=tta, masks=sees_masks(name) if silhouette is None else silhouette)


def fit_shape_of(
    frames: Sequence[Frame],
    people: Sequence[Sequence[Keypoints2D]],
    *,
    choices: Sequence[int | None] | None = None,
    height_m: float | int | None = None,
    mass_kg: float | int | None = None,
    model: BodyModel | None = None,
    lens: Lens | None = None,
    level: float | int = 0.9,
    config: FitConfig | None = None,
    pictures: PicturesConfig | None = None,
) -> ShapeResult:
    """Fit one shape to one of the detected people of each picture (`fit_shape`).

    people: those of each frame, whose masks are silhouettes. choices: index of the person to take in each frame, None
    where `same_person` is to choose, as it does for all by default. pictures: settings of the common fit. Raises
    `OptionError`.
    """
    check_numbers(height_m, mass_kg, level)
    if not frames:
        raise OptionError("there are no pictures to fit a shape to; give at least one")
    model = load_model() if model is None else model
    choices = [None] * len(frames) if choices is None else choices
    chosen = same_person(frames, people, choices)
    fits = [
        PictureFit(frame, person, len(found), index is not None, None, None if found else _NOBODY)
        for frame, found, person, index in zip(frames, people, chosen, choices, strict=True)
    ]
    rows, lens = _rows_of_one_layout(fits), Lens() if lens is None else lens
    if rows:
        masks = [_mask_of(people[i], fits[i].person, frames[i].size) for i in rows]
        evidence, sizes = _evidence([fits[i] for i in rows], masks, lens)
        evidence = replace(evidence, height_m=height_m, mass_kg=mass_kg)
        fitter = SharedShapeFitter(layout=evidence.layout or "", model=model, config=config, pictures=pictures)
        for i, one in zip(rows, split(fitter.fit(evidence, picture_px=sizes)), strict=True):
            frame = fits[i].frame
            camera, source = replace(one.camera, image_size=frame.size), lens.focal_of(frame)[1]
            fits[i] = replace(fits[i], result=replace(one, camera=camera, focal_source=source))
    return shape_of(fits, model, height_m=height_m, mass_kg=mass_kg, level=level, config=pictures)


def shape_of(
    pictures: Sequence[PictureFit],
    model: BodyModel,
    *,
    height_m: float | int | None = None,
    mass_kg: float | int | None = None,
    level: float | int = 0.9,
    config: PicturesConfig | None = None,
) -> ShapeResult:
    """Measure the shape that fitted pictures share, and say which pictures do not take part and why."""
    statuses = [None if p.result is None else p.result.status[0] for p in pictures]
    good = [i for i, s in enumerate(statuses) if s is not None and s.ok and s is not FitStatus.POOR]
    shared = good or [i for i, s in enumerate(statuses) if s is not None and s.ok]
    pictures = tuple(
        picture if i in shared or picture.result is None else replace(picture, reason=picture.result.reason[0])
        for i, picture in enumerate(pictures)
    )
    known = {"height_m": height_m, "mass_kg": mass_kg, "level": level}
    if not shared:
        betas = torch.full((model.num_betas,), math.nan)
        reasons = dict.fromkeys(p.reason for p in pictures if p.reason)
        why = f"no body can be placed: {'; '.join(reasons)}"
        nothing = betas, betas.expand(len(betas), -1), {}
        return ShapeResult(model, *nothing, pictures, **known, status=FitStatus.UNOBSERVABLE, reason=why)
    first = pictures[shared[0]].result
    assert first is not None
    betas, covariance = first.params.betas[0], torch.zeros(model.num_betas, model.num_betas)
    if first.covariance is not None and first.variables is not None:
        columns = first.variables["betas"]
        covariance = first.covariance[0, columns, columns]
    settings = PicturesConfig() if config is None else config
    by_masks = any(_has_silhouette(pictures[i]) for i in shared)
    error = settings.by_silhouettes if by_masks else settings.by_keypoints
    reason = None if good else "; ".join(dict.fromkeys(r for p in pictures if p.result for r in p.result.reason if r))
    return ShapeResult(
        model,
        betas,
        covariance,
        measurement_intervals(model, betas, covariance, level=level, error=error),
        pictures,
        **known,
        status=first.status[0] if good else FitStatus.POOR,
        reason=reason,
        notes=_notes(pictures, height_m),
    )


def _has_silhouette(picture: PictureFit) -> bool:
    """Tell whether a picture's mask was used."""
    has_mask = picture.person is not None and picture.person.mask is not None
    return has_mask and picture.result is not None and picture.result.mask_notes[0] is None


def open_input(image: str | Path | np.ndarray | Frame) -> Frame | VideoReader:
    """Read a picture, or open a clip. Raises `ImageError` and `VideoError`."""
    if not isinstance(image, str | Path):
        return as_frame(image)
    path = Path(image)
    is_picture = not path.is_file() or image_by_name(path) or looks_like_image(path)
    return as_frame(path) if is_picture else open_clip(path)


def detect_people(
    source: Frame | VideoReader, detector: Detector, *, progress: Progress | None = None
) -> list[DetectedFrame]:
    """Detect the people of a picture, or the person of a clip in up to 16 of its frames. Raises `VideoError`."""
    if isinstance(source, VideoReader):
        return person_of_clip(source, detector, progress=progress)
    return [DetectedFrame(source, list(detector.detect([source])[0]))]


def check_numbers(height_m: float | int | None, mass_kg: float | int | None, level: float | int = 0.9) -> None:
    """Raise `OptionError` for a height, mass or level that cannot be meant."""
    if height_m is not None and not 0.3 <= height_m <= 3:
        hint = f"; {height_m:g} cm are {height_m / 100:g} m" if 30 <= height_m <= 300 else ""
        raise OptionError(f"height_m must be in metres, between 0.3 and 3, got {height_m:g}{hint}")
    if mass_kg is not None and not 2 <= mass_kg <= 700:
        raise OptionError(f"mass_kg must be in kilograms, between 2 and 700, got {mass_kg:g}")
    if not 0 < level < 1:
        raise OptionError(f"level must be a probability between 0 and 1, such as 0.9, got {level:g}")


def _rows_of_one_layout(pictures: Sequence[PictureFit]) -> list[int]:
    """List the pictures with a person. Raises `OptionError` where their keypoints have different layouts."""
    rows = [i for i, picture in enumerate(pictures) if picture.person is not None]
    layouts = sorted({p.person.layout for p in pictures if p.person is not None})
    if len(layouts) > 1:
        raise OptionError(f"keypoints of all pictures must have one layout, got {', '.join(layouts)}")
    return rows


def _mask_of(people: Sequence[Keypoints2D], person: Keypoints2D | None, picture_px: tuple[int, int]) -> MaskInput:
    """Return the mask of one of the people of a picture; None without one."""
    number = next((i for i, one in enumerate(people) if one is person and one.mask is not None), None)
    return None if number is None else masks_of(people, picture_px)[number]


def _evidence(
    pictures: Sequence[PictureFit], masks: Sequence[MaskInput], lens: Lens
) -> tuple[Evidence, Float[Tensor, "B 2"]]:
    """Make the evidence of a person's pictures, each with its own camera and mask; return also the pictures' sizes."""
    people = [p.person for p in pictures if p.person is not None]
    sizes = [p.frame.size for p in pictures]
    focals = [lens.focal_of(p.frame)[0] for p in pictures]
    lifts = [lift_to_camera(p, f, s) for p, f, s in zip(people, focals, sizes, strict=True)]
    side = math.ceil(min(focals))  # for the check of units alone: every picture has its own size
    evidence = Evidence(
        keypoints=np.stack([p.xyc for p in people]),
        layout=people[0].layout,
        image_size=(side, side),
        focal_px=torch.tensor(focals),
        principal_point_px=torch.tensor([[w / 2, h / 2] for w, h in sizes]),
        joints3d=stacked_lifts(lifts),
        masks=None if all(mask is None for mask in masks) else masks,
    )
    return evidence, torch.tensor(sizes, dtype=torch.float32)


def _notes(pictures: Sequence[PictureFit], height_m: float | int | None) -> tuple[str, ...]:
    """Say what the user should know of how the shape was found."""
    notes = []
    if height_m is None:
        notes.append("the height is not known: all sizes hang on a guess; give the height for measurements")
    for picture in pictures:
        name = "a picture" if picture.frame.path is None else picture.frame.path.name
        if picture.people > 1 and picture.by_track:
            notes.append(f"{name} shows several people; the one who is seen largest and longest is followed")
        elif picture.people > 1:
            notes.append(f"{name} shows several people; the largest is taken, or who has the colours of the others")
        if picture.result is not None and (why := picture.result.mask_notes[0]) is not None:
            notes.append(f"the silhouette of {name} is not used: {why}")
    return tuple(dict.fromkeys(notes))  # once for all frames of a clip
