"""Read AMASS (Mahmood et al. 2019), data sets in its layout of 22 to 55 joints, and bodyfit's fits and parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodyfit.body.families.open import OPEN_FAMILIES
from bodyfit.errors import AssetError
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.motions.parts import betas_of, columns, expression_of, gender_of, rate_of
from bodyfit.io.motions.recording import SKELETONS, MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import split_rows
from bodyfit.io.results.params import FRAME_PREFIX

__all__ = ["FORMAT", "read_amass"]

_WIDTHS = {3 * len(joints): joints for joints in SKELETONS.values()}
"""Skeletons by the number of columns of `poses`."""
_HANDS = {"left": "left_hand_pose", "right": "right_hand_pose"}


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    return isinstance(file.value, dict) and {"poses", "trans"} <= file.value.keys()


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    recording = read_amass(file)
    return [recording] if recording.are_frames else list(split_rows(recording))


def read_amass(file: MotionFile, up: str | None = None) -> Recording:
    """Read the motion of a file; `up` overrides its up axis, "y" or "z". Raises `AssetError`."""
    part = file.part(file.value)
    values: dict[str, Any] = file.value
    if missing := [key for key in ("poses", "trans") if key not in values]:
        part.fail(f"no motion in AMASS's layout, it lacks {', '.join(missing)}")
    poses, trans = (_table(file, key) for key in ("poses", "trans"))
    if poses.shape[1] not in _WIDTHS or trans.shape != (len(poses), 3):
        expected = ", ".join(f"(T, {width})" for width in _WIDTHS)
        part.fail(f"poses {poses.shape} and trans {trans.shape}; expected {expected} and (T, 3)")
    axes = f"{Placing(up).up}_up" if up is not None else _axes(values)
    joints = _WIDTHS[poses.shape[1]]
    own = "bodyfit_format" in values
    frames = f"{FRAME_PREFIX}poses"  # a clip with uneven times has betas of its original frames
    shapes = len(columns(part, frames, None)) if own and part.has(frames) else len(poses)
    hands = {side: _table(file, key) for side, key in _HANDS.items() if own and part.has(key)}
    return Recording(
        poses=poses.reshape(len(poses), -1, 3),
        joints=joints,
        trans=trans,
        axes=axes,
        program="bodyfit" if own else "AMASS",
        betas=betas_of(part, "betas", shapes),
        space=_space(values, len(joints)),
        hands=hands,
        expression=expression_of(part, "expression", len(poses)),
        start_s=_start_s(file),
        fps=(fps := rate_of(part)),
        are_frames=not own or fps > 0,
        gender=gender_of(values.get("gender", "")),
        notes=_dropped(values),
    )


def _start_s(file: MotionFile) -> float | None:
    """Return the time of the first row, which bodyfit's files have, or None. Raises `AssetError`."""
    value = file.value.get("start_s")
    if value is None:
        return None
    start = np.asarray(value)
    if start.shape != () or start.dtype.kind not in "fiu" or not np.isfinite(start):
        raise AssetError(f"{file.path}: start_s must be one number of seconds")
    return max(float(start), 0.0)


def _axes(values: dict[str, Any]) -> str:
    """Return the file's axes, by default the camera's for bodyfit's fits, y up for its parameters, z up for AMASS."""
    if "up_axis" in values:
        return f"{Placing(str(values['up_axis'])).up}_up"
    if "bodyfit_format" in values:
        return "camera" if "status" in values else "y_up"
    return "z_up"


def _space(values: dict[str, Any], joints: int) -> str:
    """Return the shape space of the betas."""
    name = str(values.get("model_name", ""))
    if "bodyfit_format" in values and not name:
        return ""
    stated = str(values.get("shape_space", ""))
    if stated in ("open", "smpl", "smplx"):
        return stated
    if name in OPEN_FAMILIES:
        return "open"
    return "smplx" if joints == 55 or str(values.get("surface_model_type", "")).startswith("smplx") else "smpl"


def _dropped(values: dict[str, Any]) -> tuple[str, ...]:
    """Return notes on content of AMASS files that our bodies lack."""
    soft = values.get("dmpls")
    if isinstance(soft, np.ndarray) and soft.dtype.kind == "f" and soft.any():
        return ("the motion of soft tissue (dmpls) is left out",)
    return ()


def _table(file: MotionFile, key: str) -> np.ndarray:
    """Return a table of finite numbers, float64. Raises `AssetError`."""
    value = file.value[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise AssetError(f"{file.path}: {key} is no array of numbers")
    if value.ndim != 2:
        raise AssetError(f"{file.path}: {key} has shape {value.shape}, expected 2 axes")
    if value.size == 0 or not np.isfinite(value).all():
        raise AssetError(f"{file.path}: {key} is empty or holds NaN or infinity")
    return value.astype(np.float64)


FORMAT = MotionFormat("AMASS, BMLmovi", _matches, _read_people, "npz with poses (T, 66, 72, 156 or 165) and trans")
