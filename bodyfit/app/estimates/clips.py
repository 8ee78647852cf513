"""Bodies that another program estimated in a clip: read by frame, and told apart by the people who were tracked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from bodyfit.app.estimates.pictures import (
    ESTIMATE_ENDINGS,
    boxes_of,
    camera_motions,
    fitted_to_points,
    read_estimates,
)
from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import AssetError, OptionError
from bodyfit.geometry.boxes import box_overlaps
from bodyfit.io.clips.frame_folder import FrameFolder
from bodyfit.io.estimated_points import EstimatedPoints, estimated_points
from bodyfit.tracker import Trail

__all__ = ["ClipEstimates", "estimates_of_clip", "matched_trails"]

_OVERLAP = 0.1
"""Least intersection over union of a body's box and a person's: both cameras may be guesses."""
_SAME_PERSON = 0.3
"""What a body's being of the person whom a trail is mostly paired with counts, in overlaps: people who cross."""
_LISTED = 3
"""Number of faulty files that are named."""


@dataclass(frozen=True)
class ClipEstimates:
    """Bodies in the frames of a clip, a row each."""

    bodies: BodyParams
    """Their parameters, camera axes (OpenCV), metres."""
    frames: np.ndarray
    """(N,): number of the clip's frame of each."""
    people: np.ndarray
    """(N,): which of the program's people each is; -1 where it tells nobody apart from frame to frame."""
    faults: tuple[str, ...] = ()
    """Why single files could not be read."""


def estimates_of_clip(paths: Sequence[Path], clip: Path, model: BodyModel, *, only: bool = True) -> ClipEstimates:
    """Read the estimates of a clip's frames.

    paths: files of its people's motion (WHAM's, GVHMR's, TRAM's ...), of NLF's joints by frame, or one folder: of a
    file a frame named CLIP_000123.npz or 000123.npz after the frames, from 0, or as the pictures of a folder of frames;
    or of files or folders named as the clip. only: whether there are no other clips, of which a folder's may be. A file
    of a single frame that cannot be read costs that frame alone (`faults`). Raises `AssetError` and `OptionError`.
    """
    if missing := [path for path in paths if not path.exists()]:
        raise OptionError(f"{missing[0]}: no such file or folder of estimates")
    folder = paths[0] if len(paths) == 1 and paths[0].is_dir() else None
    named = [] if folder is None else sorted(p for p in folder.iterdir() if p.stem == clip.stem and _is_estimate(p))
    if named:
        return estimates_of_clip(named, clip, model)
    if folder is not None:
        if by_frame := _frame_files(folder, clip, only=only):
            return _of_frames(by_frame, model)
        if not only:
            raise OptionError(f"{folder} has no estimates of {clip.name}; name a file or a folder as the clip")
    return _joined([piece for path in paths for piece in _of_file(path, model)])


def _is_estimate(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in ESTIMATE_ENDINGS


def _frame_files(folder: Path, clip: Path, *, only: bool) -> dict[int, Path]:
    """Find the files of single frames by their numbers, or by the names of a folder's pictures."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix.lower() in ESTIMATE_ENDINGS]
    if clip.is_dir():
        places = {picture.stem: place for place, picture in enumerate(FrameFolder.read(clip).files)}
        return {places[path.stem]: path for path in files if path.stem in places}
    patterns = [re.escape(clip.stem) + r"[_.-]?0*(\d{1,15})"] + [r"0*(\d{1,15})"] * only
    for pattern in patterns:
        found = [(re.fullmatch(pattern, path.stem, re.IGNORECASE), path) for path in files]
        if by_number := {int(match.group(1)): path for match, path in found if match}:
            return by_number
    return {}


def _of_frames(files: dict[int, Path], model: BodyModel) -> ClipEstimates:
    """Read files of a frame each. Raises `AssetError` where none can be read."""
    pieces: list[ClipEstimates] = []
    joints: list[tuple[int, EstimatedPoints]] = []
    faults: list[str] = []
    for frame, path in files.items():
        try:
            read = _of_frame(path, model)
        except AssetError as fault:  # it costs this frame alone
            faults.append(str(fault))
            continue
        if isinstance(read, BodyParams):
            pieces.append(ClipEstimates(read, np.full(read.batch, frame), np.full(read.batch, -1)))
        else:
            joints.append((frame, read))
    pieces += _of_joints(joints, model)
    if not pieces and faults:
        raise AssetError(f"none of {len(files)} estimates can be read: {faults[0]}")
    return _joined(pieces, tuple(faults))


def _of_frame(path: Path, model: BodyModel) -> BodyParams | EstimatedPoints:
    """Read the bodies, or the joints, of one frame's people. Raises `AssetError`."""
    if camera_motions(path, model) is not None:
        return read_estimates(path, model)
    pictures = estimated_points(path) or []
    if len(pictures) != 1:
        raise AssetError(f"{path}: estimates of {len(pictures)} pictures, not of one")
    return pictures[0]


def _of_file(path: Path, model: BodyModel) -> Iterator[ClipEstimates]:
    """Yield everybody in a file of a whole clip. Raises `AssetError`."""
    motions = camera_motions(path, model)
    if motions is None:
        yield from _of_joints(list(enumerate(estimated_points(path) or [])), model)
        return
    for number, (motion, _) in enumerate(motions):
        count = motion.params.batch
        frames = np.arange(count) if motion.frames is None else np.asarray(motion.frames)
        yield ClipEstimates(motion.params, frames, np.full(count, number))


def _of_joints(pictures: Sequence[tuple[int, EstimatedPoints]], model: BodyModel) -> list[ClipEstimates]:
    """Fit bodies to joints of several frames, those of one layout together."""
    pieces = []
    for layout in dict.fromkeys(one.layout for _, one in pictures):
        frames, some = zip(*((frame, one) for frame, one in pictures if one.layout == layout), strict=True)
        for frame, bodies in zip(frames, fitted_to_points(some, model), strict=True):
            pieces.append(ClipEstimates(bodies, np.full(bodies.batch, frame), np.full(bodies.batch, -1)))
    return pieces


def _joined(pieces: Sequence[ClipEstimates], faults: tuple[str, ...] = ()) -> ClipEstimates:
    """Put pieces together; the people of each file are others."""
    if not pieces:
        raise AssetError("the files of estimates have nobody in any frame")
    first, people, last = pieces[0].bodies, [], 0
    for piece in pieces:
        known = piece.people >= 0
        people.append(np.where(known, last, -1))
        last += bool(known.any())
    bodies = BodyParams(**{name: torch.cat([piece.bodies[name] for piece in pieces]) for name in first})
    return ClipEstimates(bodies, np.concatenate([p.frames for p in pieces]), np.concatenate(people), faults)


def matched_trails(
    estimates: ClipEstimates, trails: Sequence[Trail], model: BodyModel, size: tuple[int, int]
) -> tuple[dict[int, BodyParams], list[str]]:
    """Find the estimates of tracked people: by the trail's number a row for each of its frames, NaN without one.

    In every frame bodies and people are paired by the overlaps of their boxes, a body more readily with the trail that
    its person is mostly paired with. One body and one person belong together wherever the body is. Also returns notes
    on frames without estimates and on files that could not be read. size: width and height of the frames, pixels.
    """
    boxes = boxes_of(model, estimates.bodies, size)
    seen = _people_by_frame(trails)
    rows_of = {frame: np.flatnonzero(estimates.frames == frame) for frame in sorted(set(estimates.frames.tolist()))}

    def paired(mostly: dict[int, int]) -> list[tuple[int, int, int]]:
        frames = rows_of.items()
        return [p for f, rows in frames for p in _pairs(seen.get(f, []), rows, boxes, estimates.people, mostly)]

    votes = Counter((trail, int(estimates.people[body])) for trail, _, body in paired({}))
    pairs = paired({trail: person for (trail, person), _ in reversed(votes.most_common())})
    found = {}
    for number, trail in enumerate(trails):
        own = [(row, body) for which, row, body in pairs if which == number]
        if own:
            bodies = estimates.bodies.unknown(len(trail.frames))
            at, of = (list(column) for column in zip(*own, strict=True))
            for name in bodies:
                bodies[name][at] = estimates.bodies[name][of]
            found[trail.id] = bodies
    return found, _notes(estimates, trails, pairs)


def _people_by_frame(trails: Sequence[Trail]) -> dict[int, list[tuple[int, int, Float[np.ndarray, "4"]]]]:
    """List who is in each frame: the trail, its row, and the person's box, pixels."""
    seen: dict[int, list[tuple[int, int, np.ndarray]]] = {}
    for number, trail in enumerate(trails):
        for row, (frame, person) in enumerate(zip(trail.frames, trail.people, strict=True)):
            seen.setdefault(int(frame), []).append((number, row, np.array(person.box_px())))
    return seen


def _pairs(
    people: Sequence[tuple[int, int, np.ndarray]],
    rows: np.ndarray,
    boxes: Float[np.ndarray, "N 4"],
    persons: np.ndarray,
    mostly: dict[int, int],
) -> list[tuple[int, int, int]]:
    """Pair the people of a frame with bodies, each once: trail, its row, the body's row."""
    if not people or not len(rows):
        return []
    if len(people) == 1 and len(rows) == 1:
        return [(people[0][0], people[0][1], int(rows[0]))]
    overlap = box_overlaps(np.stack([box for _, _, box in people]), boxes[rows])
    usual = np.array([mostly.get(trail, -1) for trail, _, _ in people])
    same = (usual[:, None] == persons[rows]) & (persons[rows] >= 0)
    chosen = zip(*linear_sum_assignment(-(overlap + _SAME_PERSON * (same & (overlap > 0)))), strict=True)
    return [(people[i][0], people[i][1], int(rows[j])) for i, j in chosen if overlap[i, j] >= _OVERLAP]


def _notes(estimates: ClipEstimates, trails: Sequence[Trail], pairs: Sequence[tuple[int, int, int]]) -> list[str]:
    """Tell which people have estimates in how many of their frames, and which files could not be read."""
    notes = []
    count = Counter(which for which, _, _ in pairs)
    for number, trail in enumerate(trails):
        without = len(trail.frames) - count[number]
        if without:
            notes.append(f"person {trail.id}: no estimate in {without} of {len(trail.frames)} frames")
    if estimates.faults:
        more = len(estimates.faults) - _LISTED
        listed = "; ".join(estimates.faults[:_LISTED]) + (f"; and {more} more" if more > 0 else "")
        notes.append(f"{len(estimates.faults)} frames are fitted without their estimates: {listed}")
    return notes
