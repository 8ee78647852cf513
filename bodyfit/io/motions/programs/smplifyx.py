"""SMPLify-X: a pickle a person and picture, by smplx's names, placed by the camera's translation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from bodyfit.io.motions.parts import columns, rotation_vectors
from bodyfit.io.motions.programs.smplx_named import is_named, named
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import joined

__all__ = ["FORMAT"]


def _is_person(value: Any) -> bool:
    return is_named(value) and "camera_translation" in value


def _matches(file: MotionFile) -> bool:
    people = file.value.values() if file.is_folder else [file.value]
    return bool(people) and all(map(_is_person, people))


def _read(file: MotionFile) -> list[Recording]:
    if not file.is_folder:
        return [_recording(file, "", file.value)]
    return joined(_frames(file), file.path)


def _frames(file: MotionFile) -> Iterator[Recording]:
    """results/FRAME/PERSON.pkl, or files of frames with one person each."""
    folders = [name.rpartition("/")[0] for name in file.value]
    frames = {folder: i for i, folder in enumerate(sorted(set(folders)))}
    for i, name in enumerate(sorted(file.value)):
        folder, _, last = name.rpartition("/")
        by_folder = len(frames) > 1 or bool(folder)
        person, frame = (last.partition(".")[0].lstrip("0") or "0", frames[folder]) if by_folder else ("0", i)
        yield replace(_recording(file, name, file.value[name]), person=person, frames=np.array([frame]))


def _recording(file: MotionFile, name: str, value: Any) -> Recording:
    part = file.part(value, name)
    found = named(part, program="SMPLify-X", axes="camera", other_axes=("y_up",))
    count = len(found.poses)
    turn = np.zeros((1, 3))
    if part.has("camera_rotation"):
        turn = rotation_vectors(part, "camera_rotation", 1)[:, 0]
    if len(turn) not in (1, count):
        part.fail(f"camera_rotation has {len(turn)} rows, and there are {count} frames")
    turn = Rotation.from_rotvec(np.repeat(turn, count // len(turn), 0)).as_matrix()
    poses = found.poses.copy()
    poses[:, 0] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    trans = (turn @ found.trans[:, :, None])[:, :, 0] + columns(part, "camera_translation", 3, count)
    space = "smplx" if len(found.joints) != 24 else "smpl"
    return replace(found, poses=poses, trans=trans, pivot=turn, space=space)


FORMAT = MotionFormat("SMPLify-X", _matches, _read, "results/*/*.pkl, the folder or one of them")
