"""Read ROMP and BEV: an npz a picture, or one of a clip, with tracks where it was smoothed (-t)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from bodyfit.body.files.arrays import FileArrays
from bodyfit.io.motions.parts import betas_of, columns, frames_of, rotation_vectors, stack_frames
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import UNTRACKED, concatenate_people, frame_numbers
from bodyfit.skeleton import SMPL

__all__ = ["FORMAT"]

_POSES = ("smpl_thetas", "poses", "pose")
_BETAS = ("smpl_betas", "betas")
_TRANS = ("cam_trans", "trans")
_ADULT = 10
"""Number of betas; BEV has an eleventh, which interpolates to a child."""


def _is_frame(value: Any) -> bool:
    """Tell whether a value is one picture's results: arrays with a row a person, or a list of people."""
    if isinstance(value, list):
        return bool(value) and all(map(_is_frame, value))
    return isinstance(value, dict) and any(key in value for key in _POSES) and any(key in value for key in _TRANS)


def _results(value: Any) -> Any:
    """Return the results in a file's content."""
    return value.get("results") if isinstance(value, dict) else None


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    if file.is_folder:
        return bool(file.value) and all(_is_frame(_results(value)) for value in file.value.values())
    results = _results(file.value)
    if _is_frame(results):
        return True
    return isinstance(results, dict) and bool(results) and all(map(_is_frame, results.values()))


def _read_people(file: MotionFile) -> list[Recording]:
    """Read people by track where the clip was tracked, else by their order in each picture. Raises `AssetError`."""
    if file.is_folder:
        return concatenate_people(
            _frames(file, {name: _results(value) for name, value in file.value.items()}), file.path
        )
    results = _results(file.value)
    if _is_frame(results):
        return list(_people(file, results, ""))
    tracks = file.value.get("sequence_results")
    if isinstance(tracks, dict) and tracks:
        return [_track(file, str(person), track) for person, track in tracks.items() if isinstance(track, dict)]
    return concatenate_people(_frames(file, results), file.path)


def _frames(file: MotionFile, frames: dict[str, Any]) -> Iterator[Recording]:
    """Yield the people of all frames. Raises `AssetError`."""
    several = any(len(list(_people(file, value, name))) > 1 for name, value in frames.items())
    for name, frame in frame_numbers(frames).items():
        for person in _people(file, frames[name], name):
            yield _at(person, frame, (UNTRACKED,) if several else ())


def _at(recording: Recording, frame: int, notes: tuple[str, ...]) -> Recording:
    """Set the frame of a recording and add notes."""
    return replace(recording, frames=np.array([frame]), notes=(*recording.notes, *notes))


def _people(file: MotionFile, frame: Any, name: str) -> Iterator[Recording]:
    """Yield the people in one picture, each a recording of one frame. Raises `AssetError`."""
    if isinstance(frame, list):
        for i, person in enumerate(frame):
            yield _recording(file.part(person, f"{name} person {i}".strip()), str(i))
        return
    part = file.part(frame, name)
    count = len(rotation_vectors(part, _key(part, _POSES), 24))
    for row in range(count):
        rows = {key: np.asarray(value)[row] for key, value in frame.items() if len(np.shape(value)) > 1}
        yield _recording(file.part(rows, f"{name} person {row}".strip()), str(row))


def _track(file: MotionFile, person: str, track: dict[str, Any]) -> Recording:
    """Make the recording of a tracked person from lists of frames. Raises `AssetError`."""
    keys = (*_POSES, *_BETAS, *_TRANS, "frame_id")
    part = file.part({key: stack_frames(track[key]) for key in keys if key in track}, f"person {person}")
    return _recording(part, person)


def _recording(part: FileArrays, person: str) -> Recording:
    """Make a recording from a person's arrays. Raises `AssetError`."""
    poses = rotation_vectors(part, _key(part, _POSES), 24)
    betas = next((betas_of(part, key, len(poses)) for key in _BETAS if part.has(key)), None)
    is_bev = betas is not None and betas.shape[1] == _ADULT + 1
    notes = ()
    if is_bev and betas is not None and np.abs(betas[:, _ADULT]).max() > 1e-6:
        notes = ("BEV's eleventh beta, which makes a body a child's, is left out",)
    return Recording(
        poses=poses,
        joints=SMPL,
        trans=columns(part, _key(part, _TRANS), 3, len(poses)),
        axes="camera",
        program="BEV" if is_bev else "ROMP",
        person=person,
        anchor="hips" if is_bev else "model",
        betas=betas if betas is None else betas[:, :_ADULT],
        frames=frames_of(part, "frame_id", len(poses)),
        notes=notes,
    )


def _key(part: FileArrays, keys: tuple[str, ...]) -> str:
    """Return the first key that is present, else the first."""
    return next((key for key in keys if part.has(key)), keys[0])


FORMAT = MotionFormat("ROMP, BEV", _matches, _read_people, "video_results.npz, or an npz a picture")
