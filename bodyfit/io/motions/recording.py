"""One person's motion as another program wrote it, before it is put on a body, and what reads such files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bodyfit.body.files.arrays import FileArrays
from bodyfit.skeleton import SMPL, SMPLH, SMPLX, Skeleton

__all__ = ["BODY22", "SKELETONS", "MotionFile", "MotionFormat", "Recording"]

BODY22 = Skeleton(SMPL.names[:22], SMPL.parents[:22])
"""The joints that SMPL, SMPL-H and SMPL-X share."""
SKELETONS: dict[int, Skeleton] = {len(joints): joints for joints in (BODY22, SMPL, SMPLH, SMPLX)}
"""By the number of joints that a pose has."""


@dataclass(frozen=True)
class Recording:
    """One person over time; lengths in metres, angles in radians."""

    poses: Float[np.ndarray, "T J 3"]
    """Axis-angle of each joint in its parent's axes, the root's in the file's."""
    joints: Skeleton
    """Whose joints they are."""
    trans: Float[np.ndarray, "T 3"]
    """Where `anchor` is, in the file's axes."""
    axes: str
    """The file's: "camera" (OpenCV: y down, z forward), "y_up" or "z_up"."""
    program: str
    """Which program's or data set's layout it is, for messages."""
    person: str = "0"
    """Who it is, by the file's own number or name."""
    anchor: str = "model"
    """What `trans` places. "model": the model, so that the root joint is at trans plus its place at rest (smplx's
    transl). "pelvis": the root joint itself. "hips": the middle of the hip joints."""
    pivot: Float[np.ndarray, "T 3 3"] | None = None
    """Where the body is turned about the file's origin and not about its root joint, that rotation: the root joint is
    then at pivot times its place at rest, plus trans."""
    betas: Float[np.ndarray, "N S"] | None = None
    """Shape, one for all or several of the same person, as a rule a row a frame."""
    space: str = "smpl"
    """Whose betas and expression they are: "smpl" (SMPL-H's too), "smplx", "open", or "" where nothing says and they
    are taken as the model's."""
    expression: Float[np.ndarray, "T E"] | None = None
    """Coefficients of expression."""
    hands: Mapping[str, Float[np.ndarray, "T _"]] = field(default_factory=dict)
    """By side, for fingers that `joints` lacks: 45 angles about the mean hand, or fewer coefficients of components."""
    frames: Int[np.ndarray, "T"] | None = None
    """The clip's frame of each row; None for one after another."""
    start_s: float | None = None
    """When the first row is shown, seconds, where the file says so; None leaves it to `frames`, else it is 0."""
    fps: float = 0.0
    """Frames a second that the file states; 0 where it does not."""
    usual_fps: float = 0.0
    """Frames a second of all that the program or data set writes, for files that do not state them; 0 for none."""
    gender: str = "neutral"
    """Of the body: neutral, male or female."""
    are_frames: bool = True
    """Whether the rows are one person over time; else they are several people, each with betas of their own."""
    notes: tuple[str, ...] = ()
    """What had to be assumed or left out, in words."""
    other_axes: tuple[str, ...] = ()
    """Axes that such files are also met in: taken where the body stands upright in them and not in `axes`."""


@dataclass(frozen=True)
class MotionFile:
    """The contents of a file, or of a folder that holds a file a frame."""

    path: Path
    """The file or folder."""
    value: Any
    """What is in it; of a folder, the contents of its files by their paths below it."""
    is_folder: bool = False
    """Which of the two."""
    trajectory: str = "world"
    """Which motion is wanted of a file that has both: "world" or "camera"."""

    def part(self, values: Any, where: str = "") -> FileArrays:
        """The arrays of a dict in it; `where` says in errors which."""
        return FileArrays(self.path, values if isinstance(values, dict) else {}, where)


@dataclass(frozen=True)
class MotionFormat:
    """How one program, or several of one layout, write motion."""

    name: str
    """The programs, for messages and lists."""
    matches: Callable[[MotionFile], bool]
    """Whether a file is in this layout: a look at its keys, not at its numbers."""
    read: Callable[[MotionFile], list[Recording]]
    """Everyone in it. Raises `AssetError`, naming the file."""
    files: str = ""
    """The files that it writes, for lists."""
