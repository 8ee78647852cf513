"""Motion in the layout of AMASS (Mahmood et al. 2019), as its tools write and read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from roma import rotmat_to_rotvec, rotvec_to_rotmat

from bodyfit.body.archive import UnreadObjects, read_archive
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.record import GENDERS
from bodyfit.camera import y_up_from
from bodyfit.errors import AssetError, OptionError
from bodyfit.io.atomic import write_atomically
from bodyfit.io.placing import Placing
from bodyfit.io.rig import check_clip, clip_times
from bodyfit.skeleton import SMPL, SMPLH, SMPLX, Skeleton
from bodyfit.timeline import between, even_times, is_even, lerp_rows, slerp_rotvecs

__all__ = ["AMASS_LAYOUTS", "Motion", "load_amass", "save_amass"]

AMASS_LAYOUTS: dict[str, Skeleton] = {"smpl": SMPL, "smplh": SMPLH, "smplx": SMPLX}
"""Whose joints, in which order, `poses` may hold: 72, 156 or 165 columns."""
_RATES = ("mocap_framerate", "mocap_frame_rate", "fps")


@dataclass(frozen=True)
class Motion:
    """One person over time."""

    params: BodyParams
    """In the model's own axes: y up, metres."""
    fps: float
    """Frames a second; 0 where the file does not say."""
    gender: str
    """Of the file: neutral, male or female."""
    path: Path
    """The file."""
    start_s: float = 0.0
    """When the first body is shown, seconds on the clock that files of one clip share; 0 where the file does not
    say."""


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
    """Write one person's motion as an npz of AMASS: poses (T, 72), (T, 156) or (T, 165), trans (T, 3), betas (S),
    gender, mocap_framerate; and start_s, when the first row is shown (0 unless `times_s` say otherwise).

    times_s: when each body is shown, seconds, ascending; where that is uneven, rows are interpolated at the rate `fps`,
    rotations by slerp, or at one found from the times if that is 0. axes: of the bodies. placing: the file's up, z as
    in AMASS unless said otherwise; AMASS is in metres. layout: "smpl", "smplh" or "smplx", the model's own if left out;
    joints that the model lacks are at rest, joints that the layout lacks are left out. Angles of hands are whole, not
    about a mean. Raises `OptionError` and `OutputError`.
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
    poses = _by_name(pose, model.skeleton, AMASS_LAYOUTS[layout])
    poses[:, 0], trans = _turned(poses[:, 0], bodies.transl.double().cpu().numpy(), pelvis, turn)
    if len(poses) > 1 and not is_even(times_s, fps):
        rows, part = between(times_s, even_times(times_s, fps, float(times_s[0])), fps)
        poses, trans = slerp_rotvecs(poses, rows, part), lerp_rows(trans, rows, part)
    arrays = {
        "poses": poses.reshape(len(poses), -1),
        "trans": trans,
        "betas": bodies.betas[0].double().cpu().numpy(),
        "gender": np.array(model.gender),
        **dict.fromkeys(_RATES[:2], np.array(float(fps))),  # AMASS's releases differ in the name
        "start_s": np.array(float(times_s[0])),
        "surface_model_type": np.array(layout),
        "up_axis": np.array(placing.up),
        "model_name": np.array(model.name),
    }
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def load_amass(path: str | Path, model: BodyModel, *, up: str | None = None) -> Motion:
    """The motion of an AMASS file on a body of any whole-body kind, in the model's own axes (y up).

    up: the file's axis, "y" or "z"; by default what the file says (`save_amass` does), else AMASS's z. Joints go by
    name: hands of a body that has them and a file that has not are relaxed, fingers of a file are left out where the
    body has none. Betas are taken over where file and model are of one shape space, both open or neither; else they are
    zero, for they mean nothing there. Raises `AssetError`, naming the file, and `OptionError`.
    """
    path = Path(path)
    if not path.is_file():
        raise AssetError(f"{path}: no such file; give an npz in AMASS's layout")
    arrays = read_archive(path)
    if missing := [key for key in ("poses", "trans") if key not in arrays]:
        raise AssetError(f"{path}: no motion in AMASS's layout, it lacks {', '.join(missing)}")
    poses = _numbers(path, arrays, "poses", 2)
    trans = _numbers(path, arrays, "trans", 2)
    widths = {3 * len(skeleton): skeleton for skeleton in AMASS_LAYOUTS.values()}
    if poses.shape[1] not in widths or trans.shape != (len(poses), 3):
        expected = ", ".join(f"(T, {width})" for width in widths)
        raise AssetError(f"{path}: poses {poses.shape} and trans {trans.shape}; expected {expected} and (T, 3)")
    if model.kind.body_joints == 0:
        raise OptionError(f"a {model.kind.title} is no whole body, which {path} moves")
    up = str(arrays.get("up_axis", "z")) if up is None else up
    turn = y_up_from(f"{Placing(up).up}_up")
    betas = torch.from_numpy(_betas(path, arrays, model)).to(model.v_template)[None]
    pose = _by_name(poses.reshape(len(poses), -1, 3), widths[poses.shape[1]], model.skeleton)
    pelvis = model.rest_joints(torch.nn.functional.pad(betas, (0, model.num_expression_coeffs)))[:, 0]
    pose[:, 0], trans = _turned(pose[:, 0], trans, pelvis.double().cpu().numpy(), turn)
    relaxed = poses.shape[1] == 3 * len(SMPL)
    params = _params(model, pose, trans, betas, relaxed=relaxed)
    return Motion(params, _rate(path, arrays), _gender(arrays), path, _start_s(path, arrays))


def _params(
    model: BodyModel,
    pose: Float[np.ndarray, "T J 3"],
    trans: Float[np.ndarray, "T 3"],
    betas: Float[torch.Tensor, "1 S"],
    *,
    relaxed: bool,
) -> BodyParams:
    """A model's parameters that pose it so; its mean hands where `relaxed`."""
    if model.num_pca_comps is not None:
        raise OptionError("a model of num_pca_comps cannot take every hand pose; load it without")
    flat = torch.from_numpy(np.concatenate([pose.reshape(len(pose), -1), trans], 1)).to(model.v_template)
    given, at = {"global_orient": flat[:, :3], "transl": flat[:, -3:], "betas": betas}, 3
    for name, joints in model.kind.poses:
        given[name] = flat[:, at : at + 3 * joints]
        at += 3 * joints
    for row, name in enumerate(("left_hand_pose", "right_hand_pose")):
        if name in given:
            given[name] = 0 * given[name] if relaxed else given[name] - model.hand_means[row]
    return model.params(**given)


def _turned(
    orient: Float[np.ndarray, "T 3"],
    trans: Float[np.ndarray, "T 3"],
    pelvis: Float[np.ndarray, "#T 3"],
    turn: Float[np.ndarray, "3 3"],
) -> tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, "T 3"]]:
    """Orientation and translation in other axes; the root turns about its rest position, which stays."""
    matrices = torch.from_numpy(turn) @ rotvec_to_rotmat(torch.from_numpy(np.ascontiguousarray(orient)))
    return rotmat_to_rotvec(matrices).numpy(), (trans + pelvis) @ turn.T - pelvis


def _by_name(pose: Float[np.ndarray, "T J 3"], source: Skeleton, target: Skeleton) -> Float[np.ndarray, "T K 3"]:
    """The joints of one skeleton in the order of another, at rest where there is no such joint."""
    out = np.zeros((len(pose), len(target), 3))
    for row, name in enumerate(target.names):
        if name in source.names:
            out[:, row] = pose[:, source.index(name)]
    return out


def _betas(path: Path, arrays: Mapping[str, Any], model: BodyModel) -> Float[np.ndarray, "S"]:
    """The file's betas if they are of the model's shape space, as many as the model has."""
    out = np.zeros(model.num_betas)
    ours = str(arrays.get("model_name", "")).startswith("open")
    if "betas" in arrays and ours == model.name.startswith("open"):
        betas = _numbers(path, arrays, "betas", None)
        betas = (betas[0] if betas.ndim == 2 else betas.ravel())[: model.num_betas]
        out[: len(betas)] = betas
    return out


def _numbers(path: Path, arrays: Mapping[str, Any], key: str, dims: int | None) -> np.ndarray:
    """An array of finite numbers, float64. Raises `AssetError`."""
    value = arrays[key]
    if isinstance(value, UnreadObjects) or not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise AssetError(f"{path}: {key} is no array of numbers")
    if dims is not None and value.ndim != dims:
        raise AssetError(f"{path}: {key} has shape {value.shape}, expected {dims} axes")
    if value.size == 0 or not np.isfinite(value).all():
        raise AssetError(f"{path}: {key} is empty or holds NaN or infinity")
    return value.astype(np.float64)


def _rate(path: Path, arrays: Mapping[str, Any]) -> float:
    key = next((key for key in _RATES if key in arrays), None)
    return 0.0 if key is None else float(_numbers(path, arrays, key, None).ravel()[0])


def _start_s(path: Path, arrays: Mapping[str, Any]) -> float:
    start = float(_numbers(path, arrays, "start_s", None).ravel()[0]) if "start_s" in arrays else 0.0
    return max(start, 0.0)


def _gender(arrays: Mapping[str, Any]) -> str:
    """What the file says, which in old clips is bytes; neutral where it says nothing of use."""
    told = str(arrays.get("gender", "")).removeprefix("b").strip("'").lower()
    return told if told in GENDERS else "neutral"
