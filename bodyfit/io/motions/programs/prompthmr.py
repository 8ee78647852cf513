"""Read PromptHMR: SMPL-X by track, in camera axes and in a y-up world."""

from __future__ import annotations

from typing import Any

from bodyfit.io.motions.parts import betas_of, columns, frames_of, rotation_vectors
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPLX

__all__ = ["FORMAT"]

_KEYS = {"world": "smplx_world", "camera": "smplx_cam"}
_WORDS = {"world": "in the world", "camera": "before the camera"}


def _is_person(value: Any) -> bool:
    """Tell whether a value is a person of this layout."""
    return isinstance(value, dict) and any(isinstance(value.get(key), dict) for key in _KEYS.values())


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    people = file.value.get("people") if isinstance(file.value, dict) else None
    return isinstance(people, dict) and bool(people) and all(map(_is_person, people.values()))


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    return [_person(file, str(number), person) for number, person in file.value["people"].items()]


def _person(file: MotionFile, number: str, person: dict[str, Any]) -> Recording:
    """Make the recording of a person. Raises `AssetError`."""
    present = [which for which, key in _KEYS.items() if isinstance(person.get(key), dict)]
    which = file.trajectory if file.trajectory in present else present[0]
    values = dict(person[_KEYS[which]])
    if "frames" in person:
        values["frames"] = person["frames"]
    part = file.part(values, f"person {number}")
    poses = rotation_vectors(part, "pose" if part.has("pose") else "rotmat", 55)
    count = "of the two in the file" if len(present) == 2 else "alone is in the file"
    return Recording(
        poses=poses,
        joints=SMPLX,
        trans=columns(part, "trans", 3, len(poses)),
        axes="y_up" if which == "world" else "camera",
        program="PromptHMR",
        person=number,
        betas=betas_of(part, "shape", len(poses)),
        space="smplx",
        frames=frames_of(part, "frames", len(poses)),
        notes=(f"the motion {_WORDS[which]} {count}",),
    )


FORMAT = MotionFormat("PromptHMR", _matches, _read_people, "results.pkl (joblib)")
