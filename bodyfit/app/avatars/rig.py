"""Views of one person for an avatar: bodies fitted to several calibrated cameras, and what these cameras took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bodyfit.app.avatars.placed import PlacedBody, view_of
from bodyfit.app.avatars.views import AvatarMaterial, counted, moments_to_score
from bodyfit.app.results.bodies import Models
from bodyfit.body.params import BodyParams
from bodyfit.detect import Detector
from bodyfit.errors import OptionError, VideoError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.images.frame import IMAGE_SUFFIXES, Frame, read_image
from bodyfit.io import VideoReader
from bodyfit.io.clip_masks import ClipMasks
from bodyfit.io.masks import MaskFiles
from bodyfit.io.results.params import read_arrays, result_from
from bodyfit.io.results.track import track_from
from bodyfit.keypoints import Keypoints2D

__all__ = ["gather_rig_views"]


def gather_rig_views(
    file: Path,
    rig: Sequence[CalibratedCamera],
    sources: Sequence[Path],
    *,
    detector: Detector | None,
    masks: Path | None = None,
    frames: int = 24,
    delays: Sequence[int] | None = None,
    models: Models | None = None,
) -> AvatarMaterial:
    """Gather the views of one person whom several calibrated cameras saw.

    file: the result of `fit_keypoints(cameras=rig)`, saved: a track, whose frames are those of the clips, or a plain
    result, whose rows are frames 0, 1, and so on; its bodies are in the first camera's axes. sources: the clip, folder
    of frames or photograph of each camera, in the rig's order, all begun at the same moment. masks: a folder with
    masks, named after the clips and frames (`ClipMasks`); the detector's if left out. frames: most moments that are
    used, spread evenly. delays: frames by which each clip began earlier than the first. Every sixth moment is held out.
    Raises `OptionError`, `VideoError` and `ImageError`.
    """
    if len(sources) != len(rig):
        raise OptionError(f"there are {len(sources)} clips or pictures and {len(rig)} cameras; give one a camera")
    result, numbers, times_s, fps = _read(file)
    model = (Models() if models is None else models).of(result)
    if result.keypoints.ndim != 4 or result.keypoints.shape[1] != len(rig):
        count = result.keypoints.shape[1] if result.keypoints.ndim == 4 else 1
        raise OptionError(f"{file} is a fit of {count} cameras, there are {len(rig)}; give the cameras of the fit")
    motion = _of_one_shape(result.params)
    rows = [k for k, status in enumerate(result.status) if status.ok and status is not FitStatus.POOR]
    if not rows:
        raise OptionError(f"{file}: none of its {len(result)} moments has a body to rely on")
    rows = [rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(frames, len(rows))).round().astype(int))]
    mask_files = None if masks is None else MaskFiles(masks)
    views, moments, names, unused = [], [], [], Counter[str]()
    late = [0] * len(rig) if delays is None else delays
    for c, (camera, source) in enumerate(zip(_from_first(rig), sources, strict=True)):
        still = source.suffix.lower() in IMAGE_SUFFIXES and source.is_file()
        of_clip = mask_files if mask_files is None or still else ClipMasks(mask_files, source, only=len(rig) == 1)
        for row, frame in _frames(source, {int(numbers[row]) + late[c]: row for row in rows}):
            keypoints = Keypoints2D(result.layout, result.keypoints[row, c].numpy())
            at = PlacedBody(model, motion.select([row]), camera, None, keypoints, c)
            view, reason = view_of(frame, at, detector, of_clip)
            if view is None:
                unused[reason] += 1
                continue
            views.append(view)
            moments.append(row)
            names.append(f"{source.name} frame {frame.index}")
    if not views:
        raise OptionError(f"no picture of {file} can be used: {counted(unused)}")
    out = moments_to_score(np.array(moments))
    order = [*np.flatnonzero(~out).tolist(), *np.flatnonzero(out).tolist()]
    return AvatarMaterial(
        model=model,
        views=tuple(view for view, test in zip(views, out, strict=True) if not test),
        test_views=tuple(view for view, test in zip(views, out, strict=True) if test),
        names=tuple(names[k] for k in order),
        motion=motion,
        times_s=times_s,
        fps=fps,
        rows=tuple(moments[k] for k in order),
        notes=(f"left out: {counted(unused)}",) if unused else (),
    )


def _read(file: Path) -> tuple[FitResult, np.ndarray, np.ndarray | None, float]:
    """Read a result, the frame of each row, and its times and rate where it is of a clip. Raises `AssetError`."""
    arrays = read_arrays(file)
    if "track_id" in arrays:
        track = track_from(file, arrays)
        return track.result, track.frames, track.clock_s, track.fps
    result = result_from(file, arrays)
    return result, np.arange(len(result)), None, 0.0


def _of_one_shape(params: BodyParams) -> BodyParams:
    """Give all bodies the mean of their shapes."""
    betas = params.betas[params.betas.isfinite().all(1)].mean(0, keepdim=True)
    return BodyParams(**dict(params) | {"betas": betas.expand_as(params.betas).contiguous()})


def _from_first(rig: Sequence[CalibratedCamera]) -> list[CalibratedCamera]:
    """Turn cameras into the axes of the first one, which fits are in."""
    first = rig[0]
    cameras = []
    for camera in rig:
        R = camera.R @ first.R.T
        cameras.append(CalibratedCamera(K=camera.K, R=R, t=camera.t - R @ first.t, distortion=camera.distortion))
    return cameras


def _frames(source: Path, row_of: dict[int, int]) -> Iterator[tuple[int, Frame]]:
    """Read some frames of a camera: yields the row of the result and the frame. Raises `VideoError`, `ImageError`."""
    if source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES:
        if set(row_of) != {0}:
            raise OptionError(f"{source} is one picture, the fit has {len(row_of)} moments; give clips")
        yield row_of[0], read_image(source)
        return
    last, number = max(row_of), -1
    for frame in VideoReader(source):
        number = frame.index
        if number in row_of:
            yield row_of[number], frame
        if number >= last:
            return
    raise VideoError(f"{source} ends with frame {number}, the fit has frames up to {last}; give the clip of the fit")
