"""Transfer a recording to a body: joints by name, betas within one shape space, in the model's axes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation, Slerp

from bodyfit.body.families.open import is_open
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import AssetError, OptionError
from bodyfit.geometry.camera import turned_orient, y_up_from
from bodyfit.io.motions.motion import Motion
from bodyfit.io.motions.recording import Recording
from bodyfit.io.motions.tracks import rows_of
from bodyfit.io.motions.upright import stands_along
from bodyfit.skeleton import Skeleton

__all__ = ["by_name", "space_of", "transfer"]

_MAX_FILLED = 20
"""Most frames interpolated for each frame of the file; beyond, its frame numbers must mean something else."""
_STILL = 1e-6
"""Values (radians, or standard deviations) below this count as zero."""
_SAME = 1e-5
"""Rounding differences of one person's betas."""
_TITLES = {"smpl": "SMPL", "smplx": "SMPL-X", "open": "the open body"}
_LIMBS = {"fingers": ("index", "middle", "pinky", "ring", "thumb"), "jaw": ("jaw",), "eyes": ("eye_smplhf",)}
_HAND_POSES = {"left": "left_hand_pose", "right": "right_hand_pose"}


def transfer(recording: Recording, model: BodyModel, path: Path, *, axes: str | None = None) -> Motion:
    """Transfer a recording to a body; the motion's notes name all assumptions.

    axes: the file's axes, to override those of the recording. Raises `AssetError`, naming the file, and `OptionError`.
    """
    if model.kind.body_joints == 0:
        raise OptionError(f"a {model.kind.title} is no whole body, which {path} moves")
    if model.num_pca_comps is not None:
        raise OptionError("a model of num_pca_comps cannot take every hand pose; load it without")
    if not np.isfinite(recording.trans).all():
        raise AssetError(f"{path}: person {recording.person} is infinitely far off (a camera of scale 0)")
    recording = _every_frame(recording, path)
    notes = list(recording.notes)
    betas = _betas(recording, model, notes)
    axes = _axes(recording, notes) if axes is None else axes
    turn = y_up_from(axes)
    pose = by_name(recording.poses, recording.joints, model.skeleton)
    rest = model.rest_joints(torch.nn.functional.pad(betas, (0, model.num_expression_coeffs))).double().cpu().numpy()
    pelvis = _pelvis(recording, rest, model.skeleton) @ turn.T
    pose[:, 0] = turned_orient(pose[:, 0], turn)
    params = _pose_params(recording, model, pose, notes)
    params |= {"betas": betas, "transl": torch.from_numpy(pelvis - rest[:, 0])}
    if (expression := _expression(recording, model, notes)) is not None:
        params["expression"] = expression
    return Motion(
        params=_params(model, params),
        fps=recording.fps,
        gender=recording.gender,
        path=path,
        start_s=_start_s(recording),
        person=recording.person,
        program=recording.program,
        frames=recording.frames,
        notes=tuple(dict.fromkeys(notes)),
    )


def _params(model: BodyModel, values: dict[str, torch.Tensor]) -> BodyParams:
    """Make parameters of the model's dtype and device."""
    return model.params(**{name: value.to(model.v_template) for name, value in values.items()})


def _start_s(recording: Recording) -> float:
    """Return the time of the first row, seconds from the clip's first frame."""
    frames, rows = recording.frames, len(recording.poses)
    if recording.start_s is not None:
        return recording.start_s
    if frames is None or rows == 0 or recording.fps <= 0:
        return 0.0
    step = frames[1] - frames[0] if rows > 1 else 1
    return max(float(frames[0]) / (recording.fps * step), 0.0)


def by_name(pose: Float[np.ndarray, "T J 3"], source: Skeleton, target: Skeleton) -> Float[np.ndarray, "T K 3"]:
    """Reorder joints from one skeleton to another by name, with missing joints at rest."""
    out = np.zeros((len(pose), len(target), 3))
    for row, name in enumerate(target.names):
        if name in source.names:
            out[:, row] = pose[:, source.index(name)]
    return out


def _axes(recording: Recording, notes: list[str]) -> str:
    """Return the file's axes, or others of such files if the body stands upright only in those."""
    upright = stands_along(recording.poses[:, 0])
    if upright is None or upright == recording.axes:
        return recording.axes
    words = {"y_up": "y up", "z_up": "z up", "camera": "y down, as in a camera"}
    if upright in recording.other_axes:
        notes.append(
            f"the body stands upright with {words[upright]}, which is taken; if it lies, give axes {recording.axes}"
        )
        return upright
    if recording.axes != "camera" and upright != "camera":
        notes.append(
            f"{words[recording.axes]} as usual in such files; the body would stand upright with {words[upright]}"
        )
    return recording.axes


def _pelvis(recording: Recording, rest: Float[np.ndarray, "#T J 3"], joints: Skeleton) -> Float[np.ndarray, "T 3"]:
    """Return the position of the root joint in the file's axes, metres."""
    if recording.pivot is not None:
        return (recording.pivot @ rest[:, 0, :, None])[:, :, 0] + recording.trans
    if recording.anchor == "pelvis":
        return recording.trans
    if recording.anchor == "hips":
        hips = (rest[:, joints.index("left_hip")] + rest[:, joints.index("right_hip")]) / 2
        return recording.trans - Rotation.from_rotvec(recording.poses[:, 0]).apply(hips - rest[:, 0])
    return recording.trans + rest[:, 0]


def _pose_params(
    recording: Recording, model: BodyModel, pose: Float[np.ndarray, "T J 3"], notes: list[str]
) -> dict[str, torch.Tensor]:
    """Split the pose into the model's parameters, hands relative to their mean."""
    params, at = {"global_orient": torch.from_numpy(pose[:, 0])}, 1
    for name, joints in model.kind.poses:
        params[name] = torch.from_numpy(pose[:, at : at + joints].reshape(len(pose), -1))
        at += joints
    has_fingers = any("index1" in name for name in recording.joints.names)
    for row, (side, name) in enumerate(_HAND_POSES.items()):
        if name not in params:
            continue
        if has_fingers:  # absolute angles
            params[name] = params[name] - model.hand_means[row].double().cpu()
        else:
            params[name] = _hand(recording, side, row, model, notes)
    _note_missing_joints(recording, model, notes)
    return params


def _hand(recording: Recording, side: str, row: int, model: BodyModel, notes: list[str]) -> torch.Tensor:
    """Return (T, 45) angles relative to the mean hand; zeros where the file has no hand."""
    values = recording.hands.get(side)
    if values is None:
        return torch.zeros(len(recording.poses), 45)
    if values.shape[1] == 45:
        return torch.from_numpy(values)
    if not is_open(model):
        return torch.from_numpy(values) @ model.hand_components[row, : values.shape[1]].double().cpu()
    if np.abs(values).max(initial=0) > _STILL:
        count = values.shape[1]
        notes.append(f"the hands are {count} components of MANO's, which {model.name} has not: they are relaxed")
    return torch.zeros(len(recording.poses), 45)


def _note_missing_joints(recording: Recording, model: BodyModel, notes: list[str]) -> None:
    """Add a note on joints that the file moves and the model lacks."""
    missing = [name for name in recording.joints.names if name not in model.skeleton.names]
    moved = {
        name for name in missing if np.abs(recording.poses[:, recording.joints.index(name)]).max(initial=0) > _STILL
    }
    limbs = [limb for limb, words in _LIMBS.items() if any(word in name for name in moved for word in words)]
    if "fingers" not in limbs and "left_hand_pose" not in dict(model.kind.poses):
        limbs += ["fingers"] if any(np.abs(hand).max(initial=0) > _STILL for hand in recording.hands.values()) else []
    if {"left_hand", "right_hand"} & moved:
        limbs.append("the hands' own joints of SMPL")
    if limbs:
        notes.append(f"left out, for {model.name} has none: {', '.join(limbs)}")


def _betas(recording: Recording, model: BodyModel, notes: list[str]) -> Float[torch.Tensor, "N S"]:
    """Return the file's betas if they are of the model's shape space, one row, as many as the model has."""
    betas = np.zeros((1, 0)) if recording.betas is None else recording.betas
    if recording.are_frames:
        mean = betas.mean(0, keepdims=True)
        spread = np.abs(betas - mean).max(initial=0)
        if spread > _SAME:
            notes.append(f"the betas differ from frame to frame by up to {spread:.2g}: their mean is taken")
        betas = mean
    if recording.space not in ("", space := space_of(model)):
        if np.abs(betas).max(initial=0) > _STILL:
            notes.append(
                f"the betas are of {_TITLES[recording.space]}'s shapes and mean nothing to {_TITLES[space]}: the mean "
                f"body of {model.name} is moved"
            )
        betas = betas[:, :0]
    truncated = np.abs(betas[:, model.num_betas :]).max(initial=0) > _STILL
    if truncated:
        notes.append(
            f"{model.name} is loaded with {model.num_betas} betas, the file has {betas.shape[1]}: {model.num_betas} to "
            f"{betas.shape[1] - 1} are left out"
        )
    out = torch.zeros(len(betas), model.num_betas, dtype=torch.float64)
    used = betas[:, : model.num_betas]
    out[:, : used.shape[1]] = torch.from_numpy(used)
    return out.to(model.v_template)


def space_of(model: BodyModel) -> str:
    """Return the shape space of a model's betas and expression: "open", "smplx" or "smpl" (also SMPL-H and STAR)."""
    if is_open(model):
        return "open"
    return "smplx" if model.kind.name == "smplx" else "smpl"


def _expression(recording: Recording, model: BodyModel, notes: list[str]) -> torch.Tensor | None:
    """Return the file's expression if it is of the model's expression space, as many coefficients as it has."""
    values = recording.expression
    if values is None or np.abs(values).max(initial=0) <= _STILL:
        return None
    if not model.num_expression_coeffs or recording.space not in ("", space_of(model)):
        notes.append(f"the expression is left out: {model.name} has no such face")
        return None
    if np.abs(values[:, model.num_expression_coeffs :]).max(initial=0) > _STILL:
        used = model.num_expression_coeffs
        notes.append(f"{model.name} takes {used} of {values.shape[1]} coefficients of expression")
    return torch.from_numpy(values[:, : model.num_expression_coeffs])


def _every_frame(recording: Recording, path: Path) -> Recording:
    """Sort the rows by frame and interpolate missing frames: rotations by slerp, positions linearly."""
    frames = recording.frames
    if frames is None or len(frames) == 0:
        return recording
    rows = np.unique(frames, return_index=True)[1]
    recording = rows_of(recording, rows)
    frames = frames[rows]
    step = int(np.gcd.reduce(np.diff(frames))) if len(frames) > 1 else 1
    count = int(frames[-1] - frames[0]) // step + 1
    if count > _MAX_FILLED * len(frames) + 1000:
        raise AssetError(f"{path}: person {recording.person}'s {len(frames)} frames are numbered up to {frames[-1]}")
    recording = replace(recording, fps=recording.fps / step)
    missing = count - len(frames)
    if not missing:
        return recording
    note = f"{missing} frames without person {recording.person} are filled in from those before and after"
    every = frames[0] + step * np.arange(count)
    return replace(_interpolate(recording, frames, every), notes=(*recording.notes, note))


def _interpolate(recording: Recording, frames: Int[np.ndarray, "N"], every: Int[np.ndarray, "T"]) -> Recording:
    """Interpolate a recording to all frames."""
    poses = [_slerp(Rotation.from_rotvec(joint), frames, every).as_rotvec() for joint in recording.poses.swapaxes(0, 1)]
    pivot, expression = recording.pivot, recording.expression
    return replace(
        recording,
        poses=np.stack(poses, 1),
        trans=_lerp(recording.trans, frames, every),
        pivot=None if pivot is None else _slerp(Rotation.from_matrix(pivot), frames, every).as_matrix(),
        expression=None if expression is None else _lerp(expression, frames, every),
        hands={side: _lerp(hand, frames, every) for side, hand in recording.hands.items()},
        frames=every,
    )


def _slerp(rotations: Rotation, frames: Int[np.ndarray, "N"], every: Int[np.ndarray, "T"]) -> Rotation:
    """Interpolate rotations to frames by slerp."""
    return Slerp(frames, rotations)(every)


def _lerp(
    table: Float[np.ndarray, "N C"], frames: Int[np.ndarray, "N"], every: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "T C"]:
    """Interpolate columns to frames linearly."""
    return np.stack([np.interp(every, frames, column) for column in table.T], 1)
