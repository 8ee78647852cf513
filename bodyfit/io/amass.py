"""Write and read motion in the layout of AMASS (Mahmood et al. 2019)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.files.archive import read_archive
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import AssetError, OptionError
from bodyfit.geometry.camera import turned_orient, y_up_from
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.export.rig import check_clip, clip_times
from bodyfit.io.motions.motion import Motion
from bodyfit.io.motions.posing import by_name, space_of, transfer
from bodyfit.io.motions.programs.amass import read_amass
from bodyfit.io.motions.programs.body_prior import recording_of
from bodyfit.io.motions.recording import MotionFile
from bodyfit.runtime.atomic import write_atomically
from bodyfit.skeleton import SMPL, SMPLH, SMPLX, Skeleton
from bodyfit.timeline import between, even_times, is_even, lerp_rows, slerp_rows

__all__ = ["AMASS_LAYOUTS", "Motion", "load_amass", "save_amass"]

AMASS_LAYOUTS: dict[str, Skeleton] = {"smpl": SMPL, "smplh": SMPLH, "smplx": SMPLX}
"""Skeletons of the layouts of `poses`, with 72, 156 or 165 columns."""
_SMPLX_PARTS = {
    "root_orient": slice(0, 1),
    "pose_body": slice(1, 22),
    "pose_jaw": slice(22, 23),
    "pose_eye": slice(23, 25),
    "pose_hand": slice(25, 55),
}
"""Keys of AMASS's SMPL-X files, and the joints of `poses` that each repeats."""
_RATES = ("mocap_framerate", "mocap_frame_rate")
"""Keys of the frame rate in AMASS's releases."""


def save_amass(
    path: str | Path,
    model: BodyModel,
    bodies: BodyParams,
    *,
    fps: float | int = 0.0,
    times_s: Float[np.ndarray, "T"] | None = None,
    axes: str = "camera",
    placing: Placing | None = None,
    layout: str | None = None,
) -> None:
    """Write one person's motion as an npz in AMASS's layout.

    Keys: poses (T, 72), (T, 156) or (T, 165), trans (T, 3), betas (S), gender, mocap_framerate; and start_s, the time
    of the first row (0 unless `times_s` differ).

    The columns of (T, 165) are root 3, body 63, jaw 3, left eye 3, right eye 3, left hand 45, right hand 45; they are
    repeated under the keys of AMASS's SMPL-X files, root_orient, pose_body, pose_jaw, pose_eye (T, 6), pose_hand
    (T, 90); and expression (T, E) where the model has one, in standard deviations, which AMASS lacks.

    times_s: time of each body, seconds, ascending; uneven times are interpolated at the rate `fps`, rotations by slerp,
    or at a rate chosen from the times if that is 0. axes: the bodies' axes, as for `y_up_from`. placing: the file's
    up axis, by default z as in AMASS; the unit is metres. layout: "smpl", "smplh" or "smplx", by default the model's;
    joints that the model lacks are at rest, joints that the layout lacks are omitted. Angles of hands are absolute, not
    relative to a mean. Raises `OptionError` and `OutputError`.
    """
    placing = Placing("z") if placing is None else placing
    if placing.unit != "m":
        raise OptionError(f"{path}: AMASS files are in metres, for body models are; give unit m")
    kind = model.kind.name.replace("star", "smpl")
    layout = kind if layout is None else layout
    if layout not in AMASS_LAYOUTS:
        raise OptionError(f"{path}: AMASS's layouts are {', '.join(AMASS_LAYOUTS)}, got {layout}")
    if kind not in AMASS_LAYOUTS:
        raise OptionError(f"{path}: a {model.kind.title} is no whole body, which AMASS files hold")
    fps, times_s = clip_times(bodies.batch, fps, times_s)
    check_clip(bodies, fps)
    bodies = model.params(**bodies)
    turn = placing.from_y_up @ y_up_from(axes)
    with torch.no_grad():
        pelvis = model.rest_joints(model.coefficients(bodies))[:, 0].double().cpu().numpy()
        pose = model.full_pose(bodies).double().cpu().numpy()
    poses = by_name(pose, model.skeleton, AMASS_LAYOUTS[layout])
    poses[:, 0] = turned_orient(poses[:, 0], turn)
    trans = (bodies.transl.double().cpu().numpy() + pelvis) @ turn.T - pelvis
    expression = None if bodies.expression is None else bodies.expression.double().cpu().numpy()
    if len(poses) > 1 and not is_even(times_s, fps):
        rows, part = between(times_s, even_times(times_s, fps, float(times_s[0])), fps)
        poses, trans = slerp_rows(poses, rows, part), lerp_rows(trans, rows, part)
        expression = None if expression is None else lerp_rows(expression, rows, part)
    arrays = {
        "poses": poses.reshape(len(poses), -1),
        "trans": trans,
        "betas": bodies.betas[0].double().cpu().numpy(),
        "gender": np.array(model.gender),
        **dict.fromkeys(_RATES, np.array(float(fps))),
        "start_s": np.array(float(times_s[0])),
        "surface_model_type": np.array(layout),
        "up_axis": np.array(placing.up),
        "model_name": np.array(model.name),
        "shape_space": np.array(space_of(model)),
    }
    if layout == "smplx":
        arrays |= {key: poses[:, joints].reshape(len(poses), -1) for key, joints in _SMPLX_PARTS.items()}
        arrays |= {} if expression is None else {"expression": expression}
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def load_amass(path: str | Path, model: BodyModel, *, up: str | None = None) -> Motion:
    """Load an AMASS file's motion on a whole body of any model family, in the model's axes (y up).

    up: the file's up axis, "y" or "z"; by default the file's (ours name it), else z. Joints are matched by name: hands
    that the file lacks are relaxed, fingers that the body lacks are omitted. Files of 22 joints (BMLmovi's) and of
    human_body_prior's parts (root_orient, pose_body) are read too. Betas are used where file and model have the same
    shape space, as many as the model was loaded with, else they are zero. The result's `notes` name what was omitted.
    Raises `AssetError`, naming the file, and `OptionError`.
    """
    path = Path(path)
    if not path.is_file():
        raise AssetError(f"{path}: no such file; give an npz in AMASS's layout")
    file = MotionFile(path, read_archive(path))
    if {"root_orient", "pose_body"} <= file.value.keys() and "poses" not in file.value:
        return transfer(recording_of(file), model, path, axes=None if up is None else f"{Placing(up).up}_up")
    return transfer(read_amass(file, up), model, path)
