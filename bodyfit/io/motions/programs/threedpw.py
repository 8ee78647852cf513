"""Read 3DPW: a pickle a clip with a list of people in world axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodyfit.io.motions.parts import betas_of, columns, gender_of, rotation_vectors
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPL

__all__ = ["FORMAT"]

_FPS = 30.0
_GENDERS = {"m": "male", "f": "female"}


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    value = file.value
    return isinstance(value, dict) and {"poses", "trans", "betas"} <= value.keys() and isinstance(value["poses"], list)


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    values: dict[str, Any] = file.value
    genders = values.get("genders", [])
    people = []
    for i, pose in enumerate(values["poses"]):
        rows = {key: values[key][i] for key in ("trans", "betas") if i < len(values[key])}
        rows["betas"] = np.asarray(rows.get("betas", np.zeros(10)))[:10]
        part = file.part(rows | {"poses": pose}, f"person {i}")
        poses = rotation_vectors(part, "poses", 24)
        gender = str(genders[i]) if i < len(genders) else ""
        people.append(
            Recording(
                poses=poses,
                joints=SMPL,
                trans=columns(part, "trans", 3, len(poses)),
                axes="y_up",
                program="3DPW",
                person=str(i),
                betas=betas_of(part, "betas", len(poses)),
                usual_fps=_FPS,
                gender=gender_of(_GENDERS.get(gender, gender)),
                other_axes=("z_up", "camera"),
            )
        )
    return people


FORMAT = MotionFormat("3DPW", _matches, _read_people, "sequenceFiles/*.pkl")
