"""Read PHALP and 4D-Humans: tracked people by frame, with rotation matrices and a camera of long focal length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bodyfit.io.motions import weak
from bodyfit.io.motions.parts import betas_of, columns
from bodyfit.io.motions.programs.smplx_named import body_of, has_smplx_names
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import concatenate_people

__all__ = ["FORMAT"]

_FOCAL = 5000 / 256
"""Focal length of its camera, in units of the picture's longer side."""


def _is_frame(value: Any) -> bool:
    """Tell whether a value is a frame of this layout."""
    return isinstance(value, dict) and {"tid", "smpl", "camera"} <= value.keys()


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    value = file.value
    return isinstance(value, dict) and bool(value) and all(map(_is_frame, value.values())) and not file.is_folder


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    recording = concatenate_people(_people(file), file.path)
    if not recording:
        file.part(file.value).fail("nobody is tracked in it")
    return recording


def _people(file: MotionFile) -> Iterator[Recording]:
    """Yield the people of every frame; people that PHALP only extrapolates are skipped. Raises `AssetError`."""
    for i, (name, frame) in enumerate(file.value.items()):
        age, size = frame.get("tracked_time"), frame.get("size")
        for row, (person, smpl) in enumerate(zip(frame["tid"], frame["smpl"], strict=False)):
            extrapolated = (
                isinstance(age, list) and row < len(age) and isinstance(age[row], (int, np.integer)) and age[row] > 0
            )
            if extrapolated or not has_smplx_names(smpl):
                continue
            where = f"{name} person {person}"
            part = file.part(smpl | {"camera": frame["camera"][row]}, where)
            poses, joints = body_of(part)
            sizes = None
            if isinstance(size, (list, tuple)) and row < len(size):
                sizes = columns(file.part({"size": size[row]}, where), "size", 2)
            yield Recording(
                poses=poses,
                joints=joints,
                trans=weak.rescale_depth(columns(part, "camera", 3, 1), _FOCAL, sizes),
                axes="camera",
                program="PHALP",
                person=str(person),
                betas=betas_of(part, "betas", 1),
                frames=np.array([_time(frame, i)]),
                notes=(weak.NOTE,),
            )


def _time(frame: dict[str, Any], place: int) -> int:
    """Return the frame's number, by default its place in the file."""
    time = frame.get("time", place)
    return int(time) if isinstance(time, (int, np.integer)) and abs(time) < 1 << 31 else place


FORMAT = MotionFormat("4D-Humans, PHALP", _matches, _read_people, "results/demo_*.pkl (joblib)")
