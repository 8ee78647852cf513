"""Read EasyMocap: a JSON a frame, with the body rotated about the world's origin (Rh, Th)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from bodyfit.body.files.arrays import FileArrays
from bodyfit.io.motions.parts import betas_of, columns, expression_of, rotation_vectors
from bodyfit.io.motions.recording import BODY22, SKELETONS, MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import concatenate_people, frame_numbers
from bodyfit.skeleton import SMPLX, Skeleton

__all__ = ["FORMAT"]

_BODY25 = Skeleton(SMPLX.names[:25], SMPLX.parents[:25])
_ROOTLESS = {69, 63}
"""Numbers of columns of poses without the root."""
_SMPLH, _SMPLX = 78, 87
"""Numbers of columns: 66 of the body, 6 components a hand, and 9 of jaw and eyes for SMPL-X."""


def _people_of(value: Any) -> Any:
    """Return the list of people of a frame; some versions store it under annots."""
    return value.get("annots") if isinstance(value, dict) else value


def _is_frame(value: Any) -> bool:
    """Tell whether a value is a frame of this layout."""
    people = _people_of(value)
    return isinstance(people, list) and all(
        isinstance(person, dict) and {"Rh", "Th", "poses"} <= person.keys() for person in people
    )


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    if not file.is_folder:
        return _is_frame(file.value) and bool(_people_of(file.value))
    frames = list(file.value.values())
    return all(map(_is_frame, frames)) and any(_people_of(frame) for frame in frames)


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    if not file.is_folder:
        return list(_people(file, "", file.value, None))
    frames = frame_numbers(file.value)
    people = (person for name, at in frames.items() for person in _people(file, name, file.value[name], at))
    return concatenate_people(people, file.path)


def _people(file: MotionFile, name: str, frame: Any, at: int | None) -> Iterator[Recording]:
    """Yield the people of a frame. Raises `AssetError`."""
    for row, person in enumerate(_people_of(frame)):
        number = str(person.get("id", row))
        yield _recording(file.part(person, f"{name} person {number}".strip()), number, at)


def _recording(part: FileArrays, person: str, at: int | None) -> Recording:
    """Make the recording of a person in a frame. Raises `AssetError`."""
    turn = rotation_vectors(part, "Rh", 1)[:, 0]
    poses, joints, hands = _poses(part, len(turn))
    whole = Rotation.from_rotvec(turn) * Rotation.from_rotvec(poses[:, 0])  # the root in poses is usually zero
    poses[:, 0] = whole.as_rotvec()
    return Recording(
        poses=poses,
        joints=joints,
        trans=columns(part, "Th", 3, len(turn)),
        axes="z_up",
        program="EasyMocap",
        person=person,
        pivot=Rotation.from_rotvec(turn).as_matrix(),
        betas=betas_of(part, "shapes", len(turn)),
        space="smplx" if len(joints) in (25, 55) else "smpl",
        expression=expression_of(part, "expression", len(turn)),
        hands=hands,
        frames=None if at is None else np.array([at]),
        other_axes=("y_up", "camera"),
    )


def _poses(part: FileArrays, count: int) -> tuple[np.ndarray, Skeleton, dict[str, np.ndarray]]:
    """Return the pose, its skeleton, and the hands' components. Raises `AssetError`."""
    table = columns(part, "poses", None, count)
    width = table.shape[1]
    if width in _ROOTLESS:
        table, width = np.concatenate([np.zeros((count, 3)), table], 1), width + 3
    if width % 3 == 0 and width // 3 in SKELETONS:
        return table.reshape(count, -1, 3).copy(), SKELETONS[width // 3], {}
    if width not in (_SMPLH, _SMPLX):
        part.fail(f"poses has {width} columns, expected 72, {_SMPLH} or {_SMPLX}")
    hands = {"left": table[:, 66:72], "right": table[:, 72:78]}
    body, joints = table[:, :66], BODY22
    if width == _SMPLX:
        body, joints = np.concatenate([body, table[:, 78:]], 1), _BODY25
    return body.reshape(count, -1, 3).copy(), joints, hands


FORMAT = MotionFormat("EasyMocap", _matches, _read_people, "smpl/*.json, a folder or one of them")
