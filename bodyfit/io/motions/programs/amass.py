"""AMASS (Mahmood et al. 2019) and data sets in its layout, 22 joints (BMLmovi's) to 55; fits and parameters of ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodyfit.body.families.open import OPEN_FAMILIES
from bodyfit.errors import AssetError
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.motions.parts import betas_of, columns, expression_of, gender_of, rate_of
from bodyfit.io.motions.recording import SKELETONS, MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import apart
from bodyfit.io.results.params import FRAME_PREFIX

__all__ = ["FORMAT", "read_amass"]

_WIDTHS = {3 * len(joints): joints for joints in SKELETONS.values()}
"""Columns of `poses`, and whose joints they are."""
_HANDS = {"left": "left_hand_pose", "right": "right_hand_pose"}


def _matches(file: MotionFile) -> bool:
    return isinstance(file.value, dict) and {"poses", "trans"} <= file.value.keys()


def _read(file: MotionFile) -> list[Recording]:
    found = read_amass(file)
    return [found] if found.are_frames else list(apart(found))


def read_amass(file: MotionFile, up: str | None = None) -> Recording:
    """The one motion of such a file. up: its axis, "y" or "z", where the caller knows better. Raises `AssetError`."""
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
    frames = f"{FRAME_PREFIX}poses"  # of a clip with uneven times, whose shapes are those of its frames
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
    """When the first row is shown, which files of ours say, else None. Raises `AssetError` for what is no number."""
    value = file.value.get("start_s")
    if value is None:
        return None
    start = np.asarray(value)
    if start.shape != () or start.dtype.kind not in "fiu" or not np.isfinite(start):
        raise AssetError(f"{file.path}: start_s must be one number of seconds")
    return max(float(start), 0.0)


def _axes(values: dict[str, Any]) -> str:
    """The file's, if it says; our fits of before it said have the camera's, our parameters y up, and AMASS z up."""
    if "up_axis" in values:
        return f"{Placing(str(values['up_axis'])).up}_up"
    if "bodyfit_format" in values:
        return "camera" if "status" in values else "y_up"
    return "z_up"


def _space(values: dict[str, Any], joints: int) -> str:
    """Whose betas."""
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
    """What AMASS files have and bodies here have not."""
    soft = values.get("dmpls")
    if isinstance(soft, np.ndarray) and soft.dtype.kind == "f" and soft.any():
        return ("the motion of soft tissue (dmpls) is left out",)
    return ()


def _table(file: MotionFile, key: str) -> np.ndarray:
    """A table of finite numbers, float64."""
    value = file.value[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        raise AssetError(f"{file.path}: {key} is no array of numbers")
    if value.ndim != 2:
        raise AssetError(f"{file.path}: {key} has shape {value.shape}, expected 2 axes")
    if value.size == 0 or not np.isfinite(value).all():
        raise AssetError(f"{file.path}: {key} is empty or holds NaN or infinity")
    return value.astype(np.float64)


FORMAT = MotionFormat("AMASS, BMLmovi", _matches, _read, "npz with poses (T, 66, 72, 156 or 165) and trans")
