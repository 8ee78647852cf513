"""Read WHAM: motion by track, in camera axes and in a y-up world."""

from __future__ import annotations

from typing import Any

from bodyfit.io.motions.parts import betas_of, columns, frames_of, rotation_vectors
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPL

__all__ = ["FORMAT"]


def _is_track(value: Any) -> bool:
    """Tell whether a value is a track of this layout."""
    return isinstance(value, dict) and {"pose", "trans", "pose_world", "trans_world", "betas"} <= value.keys()


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    value = file.value
    return isinstance(value, dict) and bool(value) and all(map(_is_track, value.values())) and not file.is_folder


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    people = []
    world = file.trajectory == "world"
    for person, track in file.value.items():
        part = file.part(track, f"person {person}")
        poses = rotation_vectors(part, "pose_world" if world else "pose", 24)
        people.append(
            Recording(
                poses=poses,
                joints=SMPL,
                trans=columns(part, "trans_world" if world else "trans", 3, len(poses)),
                axes="y_up" if world else "camera",
                program="WHAM",
                person=str(person),
                anchor="hips" if world else "model",  # in the world trans is the midpoint of the hips
                betas=betas_of(part, "betas", len(poses)),
                frames=frames_of(part, "frame_ids", len(poses)),
                notes=(f"the motion {'in the world' if world else 'before the camera'} of the two in the file",),
            )
        )
    return people


FORMAT = MotionFormat("WHAM", _matches, _read_people, "wham_output.pkl (joblib)")
