"""One clip through the whole pipeline and onto the disk, with what `summary.json` says of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit import io
from bodyfit.app.estimates.clips import estimates_of_clip, matched_trails
from bodyfit.app.film import FILM_SIDE_PX, write_film
from bodyfit.app.parts import without_parts
from bodyfit.app.pipeline import Lens
from bodyfit.app.video import Watched, fit_watched, look_side_px, watch_clip
from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.cli.support.common import DIGITS
from bodyfit.cli.support.runs import emptied_folder, poor_words, run_summary, timed
from bodyfit.cli.support.wording import in_options
from bodyfit.detect import Detector
from bodyfit.fit.config import FitConfig
from bodyfit.fit.sequence.track import Track
from bodyfit.io import ClipKeypoints, VideoReader
from bodyfit.io.clip_masks import ClipMasks
from bodyfit.io.export.bvh import MIN_HOLD_S, bvh_start_s
from bodyfit.io.masks import MaskFiles
from bodyfit.render import person_color
from bodyfit.runtime.json_text import plain
from bodyfit.timeline import is_even
from bodyfit.tracker import TrackerConfig

__all__ = ["ClipWorker"]

_OURS = re.compile(r"overlay\.mp4|person\d+\.(npz|glb|bvh)")


@dataclass(frozen=True)
class ClipWorker:
    """What stays the same from clip to clip."""

    out: Path
    """Folder of the results."""
    model: BodyModel
    """The body."""
    detector_or_files: Detector | Callable[[Path], ClipKeypoints]
    """Finds the people, or the files that say where they are."""
    detector_name: str
    """Its name."""
    lens: Lens
    """What the user said of it."""
    part: dict[str, Any]
    """`fps`, `start_s`, `end_s` and `stride` of `VideoReader`; `fps` for clips that have none of their own."""
    tracker: TrackerConfig
    """How people are told apart."""
    film: bool
    """Whether the film is drawn."""
    keep_poor: bool
    """Whether people most of whose frames are poor are written and drawn; without, they are only told of."""
    progress: Callable[[str, int, int | None], None]
    """Told of each step."""
    config: FitConfig | None = None
    """Settings of the fit; None for the default ones."""
    parts: Mapping[str, bool] = field(default_factory=dict)
    """Whether hands and face are fitted, where the model has them."""
    masks: MaskFiles | None = None
    """Files of masks, in the place of the detector's."""
    estimates: Sequence[Path] = ()
    """Files of another program's bodies."""
    several: bool = False
    """Whether there are several clips."""
    fps_of_folders: bool = False
    """Whether there are folders of frames among the clips."""

    def part_of(self, clip: Path) -> dict[str, Any]:
        """`part` for one clip: beside folders of frames, `fps` is theirs alone."""
        return self.part | {"fps": None} if self.fps_of_folders and not clip.is_dir() else self.part

    def run(self, clip: Path, folder: str) -> dict[str, Any]:
        """Fit a clip, write its files and return its entry in the summary."""
        seconds: dict[str, float] = {}
        finder = (
            self.detector_or_files if isinstance(self.detector_or_files, Detector) else self.detector_or_files(clip)
        )
        part = self.part_of(clip)
        reader = VideoReader(clip, **part, max_side_px=look_side_px(finder))
        masks = None if self.masks is None else ClipMasks(self.masks, clip, only=not self.several)
        with timed(seconds, "watch"):
            watched = watch_clip(reader, finder, masks=masks, tracker=self.tracker, progress=self.progress)
        with timed(seconds, "fit"):
            bodies, estimate_notes = self._estimates(clip, watched)
            config = without_parts(self.config, self.parts)
            how = {"model": self.model, "lens": self.lens, "config": config, "progress": self.progress}
            tracks = fit_watched(watched, estimates=bodies, **how)
        any_detected = bool(watched.trails)
        # Of an hour trails take as much memory as the tracks, which hold their keypoints.
        watched = replace(watched, trails=[])
        wanted = [track for track in tracks if self.keep_poor or not track.poor]
        files: dict[int, list[str]] = {}
        if wanted:
            target = emptied_folder(self.out, folder, _OURS)
            with timed(seconds, "save"):
                for done, track in enumerate(wanted):
                    self.progress("saving", done, len(wanted))
                    files[track.id] = self._save(track, target)
            if self.film:
                with timed(seconds, "film"):
                    reader = VideoReader(clip, **part, max_side_px=FILM_SIDE_PX)
                    write_film(target / "overlay.mp4", reader, wanted, self.model, progress=self.progress)
        status, message = _verdict(tracks, any_detected)
        return plain(
            {
                "input": clip,
                **({} if part == self.part else {"part": part}),
                "status": status,
                "message": message,
                "image_size": watched.size,
                "fps": watched.fps,
                "frames": len(watched.frames),
                "even": is_even(watched.times_s, watched.clock_fps),
                "clock_fps": watched.clock_fps,
                "from_s": float(watched.times_s[0]),
                "to_s": float(watched.times_s[-1]),
                "damaged_frames": watched.skipped,
                "cut_short": watched.cut_short,
                "notes": [*watched.notes, *estimate_notes, *_time_notes(watched, tracks)],
                **({"mask_notes": dict(watched.mask_notes)} if watched.mask_notes else {}),
                **(
                    {"faults": [in_options(fault) for fault in finder.faults]}
                    if isinstance(finder, ClipKeypoints) and finder.faults
                    else {}
                ),
                "people": [_person(track, files.get(track.id, []), folder) for track in tracks],
                "files": [f"{folder}/overlay.mp4"] if wanted and self.film else [],
                "seconds": seconds,
            },
            DIGITS,
        )

    def _estimates(self, clip: Path, watched: Watched) -> tuple[dict[int, BodyParams] | None, list[str]]:
        """Another program's bodies of the clip's people, and notes on who has none. Raises `AssetError`."""
        if not self.estimates or not watched.trails:
            return None, []
        read = estimates_of_clip(self.estimates, clip, self.model, only=not self.several)
        return matched_trails(read, watched.trails, self.model, watched.size)

    def summary(self, entries: list[dict[str, Any]], *, seconds: float, interrupted: bool) -> dict[str, Any]:
        """What goes into summary.json."""
        return run_summary(
            self.model, self.detector_name, entries, seconds=seconds, interrupted=interrupted, part=self.part
        )

    def _save(self, track: Track, folder: Path) -> list[str]:
        """Write a track's files; returns their names."""
        stem = f"person{track.id}"
        io.save_track(track, folder / f"{stem}.npz")
        options: dict[str, Any] = {"model": self.model}
        # By skinning alone: what that lacks, at elbows and knees, takes seconds and much memory in a clip.
        skin: dict[str, Any] = {"pose_shapes": "none", "color": person_color(track.id)}
        io.export(track, folder / f"{stem}.glb", **options, **skin)
        io.export(track, folder / f"{stem}.bvh", **options)
        return [f"{stem}.{kind}" for kind in ("npz", "glb", "bvh")]


def _person(track: Track, files: Sequence[str], folder: str) -> dict[str, Any]:
    """A person's entry in the summary."""
    result = track.result
    statuses = Counter(status.value for status in result.status)
    mask_notes = Counter(note for note in result.mask_notes if note is not None)
    return {
        "person": track.id,
        "status": "poor" if track.poor else Counter(s for s in statuses.elements() if s != "poor").most_common(1)[0][0],
        "reason": track.reason if track.poor else None,
        "statuses": dict(statuses),
        "frames_legs_at_rest": int(result.legs_at_rest.sum()),
        "first_frame": int(track.frames[0]),
        "last_frame": int(track.frames[-1]),
        "first_s": float(track.times_s[0]),
        "last_s": float(track.times_s[-1]),
        "frames": len(track),
        "frames_seen": int(track.seen.sum()),
        "gaps": gaps(track),
        "reprojection_error_px": float(result.reprojection_error_px[np.flatnonzero(track.seen)].nanmean()),
        **({"mask_notes": dict(mask_notes)} if mask_notes else {}),
        "focal_px": float(result.camera.focal_px[0]),
        "focal_source": result.focal_source,
        "betas": [float(b) for b in result.params.betas[0]],
        "files": [f"{folder}/{name}" for name in files],
    }


def _time_notes(watched: Watched, tracks: Sequence[Track]) -> list[str]:
    """What becomes of frame times that are uneven, and whose BVH does not begin with the clip."""
    notes = []
    if not all(track.even for track in tracks):
        notes.append(
            f"{watched.path}: its frames are uneven in time; .glb has their own times, the motion in .bvh and .npz is "
            f"interpolated at {watched.clock_fps:.4g} a second (frame_poses and times_s in .npz are the frames' own)"
        )
    late = [f"person{track.id}.bvh" for track in tracks if bvh_start_s(track.clock_s) > 0]
    if late:
        names = ", ".join(late[:8]) + (" and more" if len(late) > 8 else "")
        notes.append(
            f"{watched.path}: {names} begin with the person and not with the clip, {MIN_HOLD_S:g} s and more later "
            "(first_s in summary.json): BVH has no start time"
        )
    return notes


def gaps(track: Track) -> list[tuple[int, int]]:
    """First and last frame of each stretch that the motion fills."""
    hidden = np.concatenate([[False], ~track.seen, [False]]).astype(np.int8)
    starts, ends = (np.flatnonzero(np.diff(hidden) == sign) for sign in (1, -1))
    return [(int(track.frames[a]), int(track.frames[b - 1])) for a, b in zip(starts, ends, strict=True)]


def _verdict(tracks: Sequence[Track], any_detected: bool) -> tuple[str, str | None]:
    """The clip's status and, if there is no good body, why."""
    if any(not track.poor for track in tracks):
        return "ok", None
    if tracks:
        return "poor", poor_words([(track.id, track.reason) for track in tracks])
    if any_detected:
        return "failed", "too little of the people is visible to place a body"
    return "nobody", "nobody was found in the clip"
