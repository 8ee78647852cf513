"""From a clip to bodies in motion: detect and track people, then fit each person's whole track at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int

from bodyfit.app.estimates.clips import estimates_of_clip, matched_trails
from bodyfit.app.parts import detector_of_parts, part_arrays, parts_to_fit, without_parts
from bodyfit.app.pipeline import Lens, lift_to_camera
from bodyfit.app.silhouettes import with_outlines
from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.params import BodyParams
from bodyfit.detect import DEFAULT, Detector
from bodyfit.detect.tracking.clip import watch
from bodyfit.errors import ImageError, OptionError, VideoError
from bodyfit.fit.config import FitConfig, SequenceConfig
from bodyfit.fit.estimate import PoseEstimate
from bodyfit.fit.result import FitStatus, take
from bodyfit.fit.sequence.fitter import SequenceFitter
from bodyfit.fit.sequence.focal import Focal
from bodyfit.fit.sequence.track import Track
from bodyfit.fit.silhouette.masks import MaskInput
from bodyfit.geometry.camera import focal_px_from
from bodyfit.io import ClipKeypoints, KeypointFiles, VideoReader, load_keypoints
from bodyfit.io.clip_masks import ClipMasks
from bodyfit.io.keypoints.clip import CLOCK_SIDE_PX
from bodyfit.io.keypoints.of_clip import files_of_clip
from bodyfit.io.masks import MaskFiles
from bodyfit.timeline import clock_rate, is_even
from bodyfit.tracker import Sighting, TrackerConfig, Trail, trails

__all__ = ["DETECT_SIDE_PX", "Watched", "fit_trail", "fit_video", "fit_watched", "look_side_px", "watch_clip"]

DETECT_SIDE_PX = 1280
"""Longer side of the frames in which people are detected; a person of a fifth of it fills the landmark network."""

_FOCAL_TRAILS = 3
"""Number of people from whom the focal length of a clip is estimated, those with the longest trails."""

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Callback (step, amount done, total or None if unknown)."""


@dataclass(frozen=True)
class Watched:
    """People detected and tracked in a clip."""

    path: Path
    """The clip."""
    size: tuple[int, int]
    """Width and height of its upright frames, pixels."""
    fps: float
    """Average number of processed frames per second."""
    frames: Int[np.ndarray, "N"]
    """Numbers of the processed frames in the clip."""
    times_s: Float[np.ndarray, "N"]
    """Their times."""
    trails: list[Trail]
    """Trail of each person; keypoints in pixels of `size`."""
    skipped: int
    """Number of damaged frames that were left out."""
    cut_short: bool
    """Whether the file ends in the middle of its data."""
    start_s: float = 0.0
    """Start of the processed part of the clip, seconds from its first frame."""
    notes: tuple[str, ...] = ()
    """Remarks for the user about how the clip was read."""
    mask_notes: Mapping[str, int] = field(default_factory=dict)
    """Why masks of single frames were left out before the fit, with the number of masks."""

    @property
    def clock_fps(self) -> float:
        """Rate of the common clock of all people (`Track.fps`)."""
        return clock_rate(self.times_s, self.fps)

    @property
    def origin_s(self) -> float:
        """Start of that clock (`Track.origin_s`): `start_s`, or less than a tick later so that ticks are at frames."""
        if self.start_s == 0 or not len(self.times_s):
            return 0.0
        late = float(self.times_s[0]) - self.start_s
        return float(self.times_s[0]) - np.floor(late * self.clock_fps + 1e-6) / self.clock_fps


def fit_video(
    clip: str | Path,
    *,
    model: BodyModel | None = None,
    detector: str | Detector = DEFAULT,
    keypoints: str | Path | KeypointFiles | None = None,
    first_frame: int | None = None,
    focal_px: float | None = None,
    focal_mm: float | None = None,
    sensor_mm: float | None = None,
    fov_deg: float | None = None,
    fps: float | int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    stride: int = 1,
    hands: bool | None = None,
    face: bool | None = None,
    silhouette: bool = False,
    masks: str | Path | None = None,
    estimates: str | Path | Sequence[str | Path] | None = None,
    config: FitConfig | None = None,
    sequence: SequenceConfig | None = None,
    tracker: TrackerConfig | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> list[Track]:
    """Fit every person in a clip of a stationary camera: one shape and a smooth motion each, in order of appearance.

    A clip is a video file, an animated image, or a folder of images with `fps`, their number per second
    (`VideoReader`). The focal length is set as in `fit_image`, for the upright clip, without EXIF; if it is not given
    and `sequence.focal_frames` is not 0, it is estimated, one for all people (`fit/sequence/focal.py`). Every
    `stride`-th frame from `start_s` to before `end_s` (seconds) is read. A person who is lost for up to
    `tracker.max_gap_s` keeps the same number, and the motion fills the gap (`Track.seen`). The clip is never in memory
    as a whole. hands, face: whether fingers, and jaw, eyes and expression, are fitted; by default if the model has them
    and the detector finds them. silhouette: whether the shape is fitted to the detector's masks, too.
    masks: folder of masks in their place, named CLIP_000123.png or 000123.png after the frames (`ClipMasks`).
    estimates: files of another program's bodies in the clip, or a folder of them (`estimates_of_clip`), to start at and
    stay near to.

    `keypoints`: files of other programs (`load_keypoints`) instead of a detector; `first_frame` is their number of the
    first frame (`ClipKeypoints`). Raises `VideoError`, `OptionError`, `DetectorError`,
    `KeypointFileError`, `ImageError` and `AssetError`.
    """
    lens = Lens(focal_px=focal_px, focal_mm=focal_mm, sensor_mm=sensor_mm, fov_deg=fov_deg)
    wanted = parts_to_fit(model, hands, face)
    if keypoints is not None and detector != DEFAULT:
        raise OptionError("keypoints take the place of a detector; leave detector out")
    keypoints = detector if isinstance(detector, KeypointFiles) else keypoints
    if first_frame is not None and keypoints is None:
        raise OptionError("first_frame is of keypoints; give those too")
    files_of_masks = None if masks is None else ClipMasks(MaskFiles(masks), Path(clip))
    detector_or_files = None
    if keypoints is not None:
        if not isinstance(keypoints, KeypointFiles):
            keypoints = load_keypoints(files_of_clip(Path(keypoints), Path(clip)))
        detector_or_files = ClipKeypoints(keypoints, Path(clip), first_frame=first_frame)
    part = {"fps": fps, "start_s": start_s, "end_s": end_s, "stride": stride}
    reader = VideoReader(clip, **part, max_side_px=look_side_px(detector_or_files))
    focal_of(reader.full_size, lens)  # a wrong focal length is told before the slow part
    if detector_or_files is None:
        loaded = (
            detector_of_parts(detector, wanted, masks=silhouette and masks is None)
            if isinstance(detector, str)
            else detector
        )
        detector_or_files = loaded
    watched = watch_clip(reader, detector_or_files, masks=files_of_masks, tracker=tracker, progress=progress)
    config = without_parts(config, wanted)
    bodies = None
    if estimates is not None:
        model = load_model(device=device or "cpu") if model is None else model
        paths = [Path(path) for path in ([estimates] if isinstance(estimates, str | Path) else estimates)]
        read = estimates_of_clip(paths, Path(clip), model)
        bodies, _ = matched_trails(read, watched.trails, model, watched.size)
    return fit_watched(
        watched,
        model=model,
        lens=lens,
        config=config,
        sequence=sequence,
        estimates=bodies,
        device=device,
        progress=progress,
    )


def look_side_px(detector_or_files: Detector | ClipKeypoints | None) -> int:
    """Return the longer side (pixels) of frames for detection; the smallest with keypoint files."""
    return CLOCK_SIDE_PX if isinstance(detector_or_files, ClipKeypoints) else DETECT_SIDE_PX


def watch_clip(
    reader: VideoReader,
    detector: Detector | ClipKeypoints,
    *,
    masks: ClipMasks | None = None,
    tracker: TrackerConfig | None = None,
    progress: Progress | None = None,
) -> Watched:
    """Detect people in every frame and track them.

    masks: files in the place of the detector's masks. Raises `VideoError` for a clip without frames,
    `KeypointFileError` for keypoint files of another clip and `ImageError` for masks of none of the frames.
    """
    mask_notes: Counter[str] = Counter()
    frames: list[int] = []
    times: list[float] = []
    if isinstance(detector, ClipKeypoints):
        scale, seen = 1.0, detector.watch(reader)
    else:
        scale = reader.full_size[0] / reader.size[0]
        seen = watch(detector, reader, every=min(max(round(reader.fps), 2), 30))  # about once a second for everyone

    def counted(sightings: Iterable[Sighting]) -> Iterator[Sighting]:
        for sighting in sightings:
            frames.append(sighting.frame)
            times.append(sighting.time_s)
            if progress is not None:
                progress("watching", len(frames), reader.expected)
            if masks is None:
                people = [p.scaled(scale) for p in with_outlines(sighting.people, reader.size, mask_notes)]
            else:  # files have the clip's own size
                people = [person.scaled(scale) for person in sighting.people]
                own = masks.of(sighting.frame, reader.full_size, people)
                people = [replace(person, mask=mask) for person, mask in zip(people, own, strict=True)]
                people = with_outlines(people, reader.full_size, mask_notes)
            yield replace(sighting, people=tuple(people))

    found = trails(counted(seen), tracker)
    if not frames:
        raise VideoError(f"{reader.path}: no frame lies between start and end; it is {reader.clip_s:.1f} s long")
    if masks is not None and reader.path.is_dir() and reader.skipped:
        raise ImageError(
            f"{reader.path} has {reader.skipped} damaged pictures, and the frames after them other numbers than their "
            "masks; take these pictures out of the folder"
        )
    if masks is not None and masks.frames.isdisjoint(frames):
        raise ImageError(
            f"{masks.files.folder}: its masks are of frames {min(masks.frames)} to {max(masks.frames)}, and of "
            f"{reader.path.name} frames {frames[0]} to {frames[-1]} are read; count frames from 0"
        )
    return Watched(
        path=reader.path,
        size=reader.full_size,
        fps=reader.fps,
        frames=np.array(frames),
        times_s=np.array(times),
        trails=found,
        skipped=reader.skipped,
        cut_short=reader.cut_short,
        start_s=reader.start_s,
        notes=reader.notes,
        mask_notes=dict(mask_notes),
    )


def fit_watched(
    watched: Watched,
    *,
    model: BodyModel | None = None,
    lens: Lens | None = None,
    config: FitConfig | None = None,
    sequence: SequenceConfig | None = None,
    estimates: Mapping[int, BodyParams] | None = None,
    device: torch.device | str | None = None,
    progress: Progress | None = None,
) -> list[Track]:
    """Fit a track of every person with sufficient observations.

    estimates: another program's bodies by a trail's number, a row for each of its frames (`matched_trails`).
    """
    focal_px, source = focal_of(watched.size, Lens() if lens is None else lens)
    sequence = SequenceConfig(covariance=False) if sequence is None else sequence  # for an hour it takes gigabytes
    fitters = {
        layout: SequenceFitter(layout=layout, model=model, config=config, sequence=sequence, device=device)
        for layout in {trail.people.layout for trail in watched.trails}
    }
    if source == "guess" and sequence is not None and sequence.focal_frames > 0 and watched.trails:
        if progress is not None:
            progress("fitting", 0, len(watched.trails))
        focal_px, source = estimate_focal(watched, fitters, focal_px), "found"
    tracks = []
    for done, trail in enumerate(watched.trails):
        if progress is not None:
            progress("fitting", done, len(watched.trails))
        own = None if estimates is None else estimates.get(trail.id)
        track = fit_trail(watched, trail, fitters[trail.people.layout], focal_px, own)
        if track is not None:
            tracks.append(replace(track, result=replace(track.result, focal_source=source)))
    return tracks


def estimate_focal(watched: Watched, fitters: dict[str, SequenceFitter], guess_px: float) -> float:
    """Estimate the focal length of a clip (pixels) from its longest tracks, one after the other."""
    order = sorted(watched.trails, key=lambda trail: -len(trail.frames))[:_FOCAL_TRAILS]
    some = [(fitters[trail.people.layout], trail) for trail in order]
    precision = sum(fitter.focal_precision(np.empty(len(trail.frames))) for fitter, trail in some)
    believed = Focal(guess_px, precision)
    for fitter, trail in some:
        seen = _clocked(watched, trail, believed.px)
        believed = fitter.focal(
            seen.xyc, image_size=watched.size, fps=seen.fps, believed=believed, joints3d=seen.joints3d
        )
    return believed.px


def focal_of(size: tuple[int, int], lens: Lens) -> tuple[float, str]:
    """Return the focal length of a clip (pixels) and its source: "given" or "guess"."""
    return focal_px_from(
        size, focal_px=lens.focal_px, focal_mm=lens.focal_mm, sensor_mm=lens.sensor_mm, fov_deg=lens.fov_deg
    )


def fit_trail(
    watched: Watched, trail: Trail, fitter: SequenceFitter, focal_px: float, estimates: BodyParams | None = None
) -> Track | None:
    """Fit one person from their first frame to their last; None if nothing can be fitted.

    estimates: another program's bodies, a row for each frame of the trail.
    """
    seen = _clocked(watched, trail, focal_px)
    slots = seen.slots.tolist()
    more = {"joints3d": seen.joints3d, "masks": _clocked_masks(trail, seen)}
    more |= _clocked_parts(watched, trail, seen, fitter, focal_px)
    if estimates is not None:
        more["estimate"] = _clocked_estimates(estimates, trail, seen)
    result = fitter(seen.xyc, image_size=watched.size, fps=seen.fps, focal_px=focal_px, **more)
    status = [result.status[slot] for slot in slots]
    usable = [i for i, s in enumerate(status) if s.ok]
    if not usable:
        return None
    fitted_span = slice(usable[0], usable[-1] + 1)
    return Track(
        id=trail.id,
        frames=seen.frames[fitted_span],
        times_s=seen.times_s[fitted_span],
        fps=watched.clock_fps,
        origin_s=watched.origin_s,
        seen=np.array([s is not FitStatus.FILLED for s in status[fitted_span]]),
        result=take(result, slots[fitted_span]),
    )


@dataclass(frozen=True)
class _Clocked:
    """A trail resampled to an even clock."""

    frames: Int[np.ndarray, "F"]
    """Numbers of the frames from the first with the person to the last."""
    times_s: Float[np.ndarray, "F"]
    """Their times."""
    slots: Int[np.ndarray, "F"]
    """Tick of each frame."""
    fps: float
    """Ticks per second."""
    xyc: Float[np.ndarray, "T K 3"]
    """Keypoints of each tick; confidence 0 where there are none."""
    joints3d: Float[np.ndarray, "T K 3"] | None
    """Lift of each tick, metres, camera axes; NaN where there is none."""


def _clocked(watched: Watched, trail: Trail, focal_px: float) -> _Clocked:
    """Convert a trail to the input of `SequenceFitter`."""
    rows = slice(*np.searchsorted(watched.frames, (trail.frames[0], trail.frames[-1] + 1)).tolist())
    frames, times = watched.frames[rows], watched.times_s[rows]
    slots, fps = even_slots(times, watched.fps)
    at = dict(zip(frames.tolist(), slots.tolist(), strict=True))
    n_k = len(trail.people[0].xyc)
    xyc = np.zeros((int(slots[-1]) + 1, n_k, 3), np.float32)
    lift = np.full((len(xyc), n_k, 3), np.nan, np.float32)
    for frame, person in zip(trail.frames, trail.people, strict=True):
        xyc[at[frame]] = person.xyc
        turned = lift_to_camera(person, focal_px, watched.size)
        if turned is not None:
            lift[at[frame]] = turned
    joints3d = lift if np.isfinite(lift).any() else None
    return _Clocked(frames, times, slots, fps, xyc, joints3d)


def _clocked_parts(
    watched: Watched, trail: Trail, seen: _Clocked, fitter: SequenceFitter, focal_px: float
) -> dict[str, np.ndarray]:
    """Arrange what was seen of a person's hands and face, as `Evidence` has it, by tick; NaN where there is nothing."""
    people, count = trail.people, len(trail.frames)
    found = part_arrays(people, [focal_px] * count, [watched.size] * count, fitter.model)
    ticks = seen.slots[np.searchsorted(seen.frames, trail.frames)]
    out = {}
    for name, values in found.items():
        out[name] = np.full((len(seen.xyc), *values.shape[1:]), np.nan, np.float32)
        out[name][ticks] = values
    return out


def _clocked_estimates(bodies: BodyParams, trail: Trail, seen: _Clocked) -> PoseEstimate:
    """Arrange the estimates of a person by tick; NaN where there is none."""
    ticks = torch.from_numpy(seen.slots[np.searchsorted(seen.frames, trail.frames)])
    clocked = bodies.unknown(len(seen.xyc))
    for name in clocked:
        clocked[name][ticks] = bodies[name]
    return PoseEstimate(clocked)


def _clocked_masks(trail: Trail, seen: _Clocked) -> list[MaskInput] | None:
    """Arrange the outlines of a person's masks by tick; None without any."""
    found: list[MaskInput] = [None] * len(seen.xyc)
    for tick, person in zip(seen.slots[np.searchsorted(seen.frames, trail.frames)].tolist(), trail.people, strict=True):
        found[tick] = person.mask
    return found if any(mask is not None for mask in found) else None


def even_slots(times_s: Float[np.ndarray, "T"], fps: float) -> tuple[Int[np.ndarray, "T"], float]:
    """Assign frames to ticks of an even clock, ascending from 0; return also the clock's rate.

    The motion residual assumes even steps; it fills ticks without a frame. Two frames never share a tick.
    """
    number = np.arange(len(times_s))
    rate = clock_rate(times_s, fps)
    if is_even(times_s, rate):
        return number, rate
    ideal = np.round((times_s - times_s[0]) * rate).astype(np.int64)
    return np.maximum.accumulate(ideal - number) + number, rate
