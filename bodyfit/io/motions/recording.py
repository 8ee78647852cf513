"""Define one person's motion as another program wrote it, and the interface of its readers."""

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
"""Skeletons by the number of joints of a pose."""


@dataclass(frozen=True)
class Recording:
    """One person's motion in a file; metres and radians."""

    poses: Float[np.ndarray, "T J 3"]
    """Axis-angles of the joints in their parents' axes, the root's in the file's axes."""
    joints: Skeleton
    """The skeleton of the pose."""
    trans: Float[np.ndarray, "T 3"]
    """Translation of `anchor`, in the file's axes."""
    axes: str
    """The file's axes: "camera" (OpenCV: y down, z forward), "y_up" or "z_up"."""
    program: str
    """The program or data set, for messages."""
    person: str = "0"
    """The person's number or name in the file."""
    anchor: str = "model"
    """The point that `trans` is the position of. "model": the model's origin, so that the root joint is at trans plus
    its rest position (smplx's transl). "pelvis": the root joint. "hips": the midpoint of the hip joints."""
    pivot: Float[np.ndarray, "T 3 3"] | None = None
    """The rotation, where the file rotates bodies about its origin instead of the root joint: the root joint is then at
    pivot times its rest position, plus trans."""
    betas: Float[np.ndarray, "N S"] | None = None
    """Betas, one row for all frames or one a frame."""
    space: str = "smpl"
    """Shape space of betas and expression: "smpl" (also SMPL-H), "smplx", "open", or "" for the model's own."""
    expression: Float[np.ndarray, "T E"] | None = None
    """Expression coefficients."""
    hands: Mapping[str, Float[np.ndarray, "T _"]] = field(default_factory=dict)
    """Hand poses by side, where `joints` has no fingers: 45 angles relative to the mean hand, or fewer coefficients."""
    frames: Int[np.ndarray, "T"] | None = None
    """The clip's frame of each row; None for one after another."""
    start_s: float | None = None
    """When the first row is shown, seconds, where the file says so; None leaves it to `frames`, else it is 0."""
    fps: float = 0.0
    """Frames a second that the file states; 0 where it does not."""
    usual_fps: float = 0.0
    """Frames a second of all that the program or data set writes, for files that do not state them; 0 for none."""
    gender: str = "neutral"
    """Gender of the body: neutral, male or female."""
    are_frames: bool = True
    """Whether the rows are one person's frames; otherwise they are several people, each with their own betas."""
    notes: tuple[str, ...] = ()
    """Sentences on what was assumed or omitted."""
    other_axes: tuple[str, ...] = ()
    """Other axes that such files may have: used where the body stands upright in them and not in `axes`."""


@dataclass(frozen=True)
class MotionFile:
    """The content of a file, or of a folder with a file a frame."""

    path: Path
    """The file or folder."""
    value: Any
    """The content; for a folder, the contents of its files by relative path."""
    is_folder: bool = False
    """Whether it is a folder."""
    trajectory: str = "world"
    """The motion to read from a file that has both: "world" or "camera"."""

    def part(self, values: Any, where: str = "") -> FileArrays:
        """Access the arrays of a dict in the content; `where` names it in errors."""
        return FileArrays(self.path, values if isinstance(values, dict) else {}, where)


@dataclass(frozen=True)
class MotionFormat:
    """A layout of motion files, of one program or several."""

    name: str
    """Names of the programs, for messages and lists."""
    matches: Callable[[MotionFile], bool]
    """Tell whether a file has this layout, by its keys only."""
    read: Callable[[MotionFile], list[Recording]]
    """Read all people in a file. Raises `AssetError`, naming it."""
    files: str = ""
    """Names of the files that the programs write, for lists."""
