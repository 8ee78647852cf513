"""A face over time as the CSV that Epic's app Live Link Face records: ARKit's 52 weights, head and eye angles."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from bodyfit.body.lbs import forward_kinematics
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import OptionError
from bodyfit.geometry.camera import y_up_from
from bodyfit.geometry.rotation import so3_exp
from bodyfit.io.export.arkit import ARKIT_NAMES, arkit_weights
from bodyfit.io.export.rig import check_clip, clip_times
from bodyfit.runtime.atomic import write_atomically

__all__ = ["LIVE_LINK_COLUMNS", "save_live_link"]

_TURNED = {"Head": "head", "LeftEye": "left_eye_smplhf", "RightEye": "right_eye_smplhf"}
"""What angles are written of, and the joints."""
_ANGLES = ("Yaw", "Pitch", "Roll")
_VALUES = (
    *(name[0].upper() + name[1:] for name in ARKIT_NAMES),
    *(f"{part}{angle}" for part in _TURNED for angle in _ANGLES),
)

LIVE_LINK_COLUMNS = ("Timecode", "BlendShapeCount", *_VALUES)
"""The header."""
_POSE_FPS = 60.0
"""What the app records at, for a single pose."""


def save_live_link(
    path: str | Path,
    model: BodyModel,
    bodies: BodyParams,
    *,
    fps: float | int = 0.0,
    times_s: Float[np.ndarray, "T"] | None = None,
    axes: str = "camera",
) -> None:
    """Write the face of one person, a row a frame: time as HH:MM:SS:FF.mmm (frames of `fps` and thousandths of one),
    61, the weights of `arkit_weights` in [0, 1], and yaw, pitch and roll of head and eyes.

    Angles are radians about the person's own axes (x left, y up, z forward; right-handed, R = Ry(yaw) Rx(pitch)
    Rz(roll)): yaw is positive to the person's left, pitch downwards, roll towards the right shoulder. The head's are
    against one that looks straight at the camera (`axes` "camera") or along the model's front; the eyes' against the
    head. Raises `OptionError` for a body without the open face, and `OutputError`.
    """
    if model.kind.name != "smplx":
        raise OptionError(f"{path}: {model.name} has no face to write; a body as open-x has one")
    fps, times_s = clip_times(bodies.batch, fps, times_s)
    check_clip(bodies, fps)
    bodies = model.params(**bodies)
    weights = arkit_weights(model, bodies)
    angles = _angles(model, bodies, axes)
    count = str(len(_VALUES))
    with write_atomically(path) as temporary, temporary.open("w", encoding="ascii", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LIVE_LINK_COLUMNS)
        for time_s, row in zip(times_s.tolist(), np.concatenate([weights, angles], 1).tolist(), strict=True):
            writer.writerow([_timecode(time_s, fps or _POSE_FPS), count, *(f"{value:.6f}" for value in row)])


def _timecode(time_s: float, fps: float) -> str:
    """Hours, minutes, seconds, and frames of that second with thousandths of one."""
    seconds = int(time_s)
    thousandths = round((time_s - seconds) * fps * 1000)
    if thousandths >= fps * 1000:
        seconds, thousandths = seconds + 1, 0
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    frame, part = divmod(thousandths, 1000)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}:{frame:02d}.{part:03d}"


def _angles(model: BodyModel, bodies: BodyParams, axes: str) -> Float[np.ndarray, "T 9"]:
    """Yaw, pitch and roll of the head in a y-up world and of the eyes in the head."""
    with torch.no_grad():
        R_local = so3_exp(model.full_pose(bodies).double()).cpu()
        rest = model.rest_joints(model.coefficients(bodies)).double().cpu()
        R_world = forward_kinematics(R_local, rest, model.parents)[0].numpy()
    columns = []
    for joint in _TURNED.values():
        row = model.skeleton.index(joint)
        R = y_up_from(axes) @ R_world[:, row] if joint == "head" else R_local[:, row].numpy()
        columns.append(Rotation.from_matrix(R).as_euler("YXZ"))
    return np.concatenate(columns, 1)
