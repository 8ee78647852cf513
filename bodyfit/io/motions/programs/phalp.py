"""PHALP and 4D-Humans: by frame the people that are tracked in it, with rotation matrices and a far camera."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bodyfit.io.motions import weak
from bodyfit.io.motions.parts import betas_of, columns
from bodyfit.io.motions.programs.smplx_named import body_of, is_named
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import joined

__all__ = ["FORMAT"]

_FOCAL = 5000 / 256
"""Of its camera, in sides of a square about the picture."""


def _is_frame(value: Any) -> bool:
    return isinstance(value, dict) and {"tid", "smpl", "camera"} <= value.keys()


def _matches(file: MotionFile) -> bool:
    value = file.value
    return isinstance(value, dict) and bool(value) and all(map(_is_frame, value.values())) and not file.is_folder


def _read(file: MotionFile) -> list[Recording]:
    found = joined(_people(file), file.path)
    if not found:
        file.part(file.value).fail("nobody is tracked in it")
    return found


def _people(file: MotionFile) -> Iterator[Recording]:
    """Everyone in every frame who is seen there: who is lost is carried on as last seen, which is passed over."""
    for i, (name, frame) in enumerate(file.value.items()):
        age, size = frame.get("tracked_time"), frame.get("size")
        for row, (person, smpl) in enumerate(zip(frame["tid"], frame["smpl"], strict=False)):
            lost = isinstance(age, list) and row < len(age) and isinstance(age[row], (int, np.integer)) and age[row] > 0
            if lost or not is_named(smpl):
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
                trans=weak.nearer(columns(part, "camera", 3, 1), _FOCAL, sizes),
                axes="camera",
                program="PHALP",
                person=str(person),
                betas=betas_of(part, "betas", 1),
                frames=np.array([_time(frame, i)]),
                notes=(weak.NOTE,),
            )


def _time(frame: dict[str, Any], place: int) -> int:
    time = frame.get("time", place)
    return int(time) if isinstance(time, (int, np.integer)) and abs(time) < 1 << 31 else place


FORMAT = MotionFormat("4D-Humans, PHALP", _matches, _read, "results/demo_*.pkl (joblib)")
