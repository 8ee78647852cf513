"""Read SMPLify-X: a pickle a person and picture, with smplx's keys and the camera's translation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from bodyfit.io.motions.parts import columns, rotation_vectors
from bodyfit.io.motions.programs.smplx_named import has_smplx_names, read_named
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import concatenate_people

__all__ = ["FORMAT"]


def _is_person(value: Any) -> bool:
    """Tell whether a value is a person of this layout."""
    return has_smplx_names(value) and "camera_translation" in value


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    people = file.value.values() if file.is_folder else [file.value]
    return bool(people) and all(map(_is_person, people))


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    if not file.is_folder:
        return [_recording(file, "", file.value)]
    return concatenate_people(_frames(file), file.path)


def _frames(file: MotionFile) -> Iterator[Recording]:
    """Yield the person of each file: results/FRAME/PERSON.pkl, or a file a frame. Raises `AssetError`."""
    folders = [name.rpartition("/")[0] for name in file.value]
    frames = {folder: i for i, folder in enumerate(sorted(set(folders)))}
    for i, name in enumerate(sorted(file.value)):
        folder, _, last = name.rpartition("/")
        by_folder = len(frames) > 1 or bool(folder)
        person, frame = (last.partition(".")[0].lstrip("0") or "0", frames[folder]) if by_folder else ("0", i)
        yield replace(_recording(file, name, file.value[name]), person=person, frames=np.array([frame]))


def _recording(file: MotionFile, name: str, value: Any) -> Recording:
    """Make the recording of a person, with the camera's motion applied. Raises `AssetError`."""
    part = file.part(value, name)
    recording = read_named(part, program="SMPLify-X", axes="camera", other_axes=("y_up",))
    count = len(recording.poses)
    turn = np.zeros((1, 3))
    if part.has("camera_rotation"):
        turn = rotation_vectors(part, "camera_rotation", 1)[:, 0]
    if len(turn) not in (1, count):
        part.fail(f"camera_rotation has {len(turn)} rows, and there are {count} frames")
    turn = Rotation.from_rotvec(np.repeat(turn, count // len(turn), 0)).as_matrix()
    poses = recording.poses.copy()
    poses[:, 0] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    trans = (turn @ recording.trans[:, :, None])[:, :, 0] + columns(part, "camera_translation", 3, count)
    space = "smplx" if len(recording.joints) != 24 else "smpl"
    return replace(recording, poses=poses, trans=trans, pivot=turn, space=space)


FORMAT = MotionFormat("SMPLify-X", _matches, _read_people, "results/*/*.pkl, the folder or one of them")
