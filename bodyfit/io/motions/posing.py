"""Puts a recording on a body: joints by name, shape where it means the same, in the model's own axes."""

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

__all__ = ["by_name", "posed", "space_of"]

_MAX_FILLED = 20
"""Frames that are filled in for each that a file has; beyond, its numbers of frames mean something else."""
_STILL = 1e-6
"""Radians, and standard deviations: less is nothing to speak of."""
_SAME = 1e-5
"""Betas of one person may differ by so much, rounding."""
_TITLES = {"smpl": "SMPL", "smplx": "SMPL-X", "open": "the open body"}
_LIMBS = {"fingers": ("index", "middle", "pinky", "ring", "thumb"), "jaw": ("jaw",), "eyes": ("eye_smplhf",)}
_HAND_POSES = {"left": "left_hand_pose", "right": "right_hand_pose"}


def posed(recording: Recording, model: BodyModel, path: Path, *, axes: str | None = None) -> Motion:
    """A recording on a body, with everything that this took for granted in the motion's notes.

    axes: the file's, where the caller knows better. Raises `AssetError`, naming the file, and `OptionError`.
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
    given = _pose_params(recording, model, pose, notes)
    given |= {"betas": betas, "transl": torch.from_numpy(pelvis - rest[:, 0])}
    if (expression := _expression(recording, model, notes)) is not None:
        given["expression"] = expression
    return Motion(
        params=_params(model, given),
        fps=recording.fps,
        gender=recording.gender,
        path=path,
        start_s=_start_s(recording),
        person=recording.person,
        program=recording.program,
        frames=recording.frames,
        notes=tuple(dict.fromkeys(notes)),
    )


def _params(model: BodyModel, given: dict[str, torch.Tensor]) -> BodyParams:
    return model.params(**{name: value.to(model.v_template) for name, value in given.items()})


def _start_s(recording: Recording) -> float:
    """When the first row is shown; a clip's first frame is 0."""
    frames, rows = recording.frames, len(recording.poses)
    if recording.start_s is not None:
        return recording.start_s
    if frames is None or rows == 0 or recording.fps <= 0:
        return 0.0
    step = frames[1] - frames[0] if rows > 1 else 1
    return max(float(frames[0]) / (recording.fps * step), 0.0)


def by_name(pose: Float[np.ndarray, "T J 3"], source: Skeleton, target: Skeleton) -> Float[np.ndarray, "T K 3"]:
    """The joints of one skeleton in the order of another, at rest where there is no such joint."""
    out = np.zeros((len(pose), len(target), 3))
    for row, name in enumerate(target.names):
        if name in source.names:
            out[:, row] = pose[:, source.index(name)]
    return out


def _axes(recording: Recording, notes: list[str]) -> str:
    """The file's, or others that such files are met in, where the body stands upright in those and not in these."""
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
    """Where the root joint is, in the file's axes."""
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
    """The pose by the names of the model's parameters; hands about their mean."""
    given, at = {"global_orient": torch.from_numpy(pose[:, 0])}, 1
    for name, joints in model.kind.poses:
        given[name] = torch.from_numpy(pose[:, at : at + joints].reshape(len(pose), -1))
        at += joints
    has_fingers = any("index1" in name for name in recording.joints.names)
    for row, (side, name) in enumerate(_HAND_POSES.items()):
        if name not in given:
            continue
        if has_fingers:  # whole angles
            given[name] = given[name] - model.hand_means[row].double().cpu()
        else:
            given[name] = _hand(recording, side, row, model, notes)
    _say_left_out(recording, model, notes)
    return given


def _hand(recording: Recording, side: str, row: int, model: BodyModel, notes: list[str]) -> torch.Tensor:
    """(T, 45) angles about the mean hand, which is where a hand is that the file has not."""
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


def _say_left_out(recording: Recording, model: BodyModel, notes: list[str]) -> None:
    """Note the joints that the file turns and the model lacks."""
    lost = [name for name in recording.joints.names if name not in model.skeleton.names]
    moved = {name for name in lost if np.abs(recording.poses[:, recording.joints.index(name)]).max(initial=0) > _STILL}
    limbs = [limb for limb, words in _LIMBS.items() if any(word in name for name in moved for word in words)]
    if "fingers" not in limbs and "left_hand_pose" not in dict(model.kind.poses):
        limbs += ["fingers"] if any(np.abs(hand).max(initial=0) > _STILL for hand in recording.hands.values()) else []
    if {"left_hand", "right_hand"} & moved:
        limbs.append("the hands' own joints of SMPL")
    if limbs:
        notes.append(f"left out, for {model.name} has none: {', '.join(limbs)}")


def _betas(recording: Recording, model: BodyModel, notes: list[str]) -> Float[torch.Tensor, "N S"]:
    """The file's shape, one for all frames, if it is of the model's shape space; as many betas as the model has."""
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
    lost = np.abs(betas[:, model.num_betas :]).max(initial=0) > _STILL
    if lost:
        notes.append(
            f"{model.name} is loaded with {model.num_betas} betas, the file has {betas.shape[1]}: {model.num_betas} to "
            f"{betas.shape[1] - 1} are left out"
        )
    out = torch.zeros(len(betas), model.num_betas, dtype=torch.float64)
    kept = betas[:, : model.num_betas]
    out[:, : kept.shape[1]] = torch.from_numpy(kept)
    return out.to(model.v_template)


def space_of(model: BodyModel) -> str:
    """Whose betas and expression a model takes: "open", "smplx" or "smpl" (SMPL-H's and STAR's too)."""
    if is_open(model):
        return "open"
    return "smplx" if model.kind.name == "smplx" else "smpl"


def _expression(recording: Recording, model: BodyModel, notes: list[str]) -> torch.Tensor | None:
    """The file's coefficients if they are of the model's face, as many as it has."""
    values = recording.expression
    if values is None or np.abs(values).max(initial=0) <= _STILL:
        return None
    if not model.num_expression_coeffs or recording.space not in ("", space_of(model)):
        notes.append(f"the expression is left out: {model.name} has no such face")
        return None
    if np.abs(values[:, model.num_expression_coeffs :]).max(initial=0) > _STILL:
        kept = model.num_expression_coeffs
        notes.append(f"{model.name} takes {kept} of {values.shape[1]} coefficients of expression")
    return torch.from_numpy(values[:, : model.num_expression_coeffs])


def _every_frame(recording: Recording, path: Path) -> Recording:
    """In order of the frames, those in between filled in: turned evenly, moved straight."""
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
    return replace(_filled(recording, frames, every), notes=(*recording.notes, note))


def _filled(recording: Recording, frames: Int[np.ndarray, "N"], every: Int[np.ndarray, "T"]) -> Recording:
    """A recording of some frames in every frame between."""
    poses = [_turns(Rotation.from_rotvec(joint), frames, every).as_rotvec() for joint in recording.poses.swapaxes(0, 1)]
    pivot, expression = recording.pivot, recording.expression
    return replace(
        recording,
        poses=np.stack(poses, 1),
        trans=_straight(recording.trans, frames, every),
        pivot=None if pivot is None else _turns(Rotation.from_matrix(pivot), frames, every).as_matrix(),
        expression=None if expression is None else _straight(expression, frames, every),
        hands={side: _straight(hand, frames, every) for side, hand in recording.hands.items()},
        frames=every,
    )


def _turns(rotations: Rotation, frames: Int[np.ndarray, "N"], every: Int[np.ndarray, "T"]) -> Rotation:
    return Slerp(frames, rotations)(every)


def _straight(
    table: Float[np.ndarray, "N C"], frames: Int[np.ndarray, "N"], every: Int[np.ndarray, "T"]
) -> Float[np.ndarray, "T C"]:
    return np.stack([np.interp(every, frames, column) for column in table.T], 1)
