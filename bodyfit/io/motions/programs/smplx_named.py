"""Read parameters with smplx's keys (global_orient, body_pose, transl, ...), which many programs write."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodyfit.body.files.arrays import FileArrays
from bodyfit.io.motions.parts import (
    betas_of,
    columns,
    expression_of,
    gender_of,
    rate_of,
    rotation_vectors,
)
from bodyfit.io.motions.recording import BODY22, MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPL, SMPLX, Skeleton

__all__ = ["FORMAT", "body_of", "hands_of", "has_smplx_names", "read_named"]

_FACE = ("jaw_pose", "leye_pose", "reye_pose")
_HANDS = {"left": "left_hand_pose", "right": "right_hand_pose"}
_BODY25 = Skeleton(SMPLX.names[:25], SMPLX.parents[:25])
"""SMPL-X's joints without the fingers."""
_LATENT = 32
"""Length of VPoser's latent code."""


def has_smplx_names(value: Any) -> bool:
    """Tell whether a dict has smplx's keys of orientation and pose."""
    return isinstance(value, dict) and {"global_orient", "body_pose"} <= value.keys()


def read_named(part: FileArrays, **overrides: Any) -> Recording:
    """Read one person's parameters with smplx's keys; `overrides` are fields that the program determines.

    Raises `AssetError`.
    """
    poses, joints = body_of(part)
    count = len(poses)
    key = next((key for key in ("transl", "trans", "translation") if part.has(key)), None)
    whole = len(joints) == len(_BODY25) or part.has("expression") or any(part.has(key) for key in _HANDS.values())
    fields: dict[str, Any] = {
        "trans": np.zeros((count, 3)) if key is None else columns(part, key, 3, count),
        "axes": "y_up",
        "betas": betas_of(part, "betas", count),
        "space": "smplx" if whole or len(joints) == len(BODY22) else "smpl",
        "expression": expression_of(part, "expression", count),
        "hands": hands_of(part, count),
        "fps": rate_of(part),
        "gender": gender_of(part.values.get("gender", "")),
    }
    return Recording(poses=poses, joints=joints, **(fields | overrides))


def body_of(part: FileArrays) -> tuple[np.ndarray, Skeleton]:
    """Return the pose without fingers and its skeleton of 22, 24 or 25 (jaw, eyes) joints. Raises `AssetError`."""
    orient = rotation_vectors(part, "global_orient", 1)
    if part.shape("body_pose")[-1:] == (_LATENT,):
        part.fail(
            f"body_pose is VPoser's code of {_LATENT} numbers and no pose: save the result with it decoded "
            "(vposer.decode, 63 numbers)"
        )
    body = rotation_vectors(part, "body_pose", (21, 23))
    count = len(orient)
    if len(body) != count:
        part.fail(f"body_pose has {len(body)} frames and global_orient {count}")
    pieces, joints = [orient, body], SMPL if body.shape[1] == 23 else BODY22
    if body.shape[1] == 21 and any(part.has(key) for key in _FACE):
        for key in _FACE:
            turned = rotation_vectors(part, key, 1) if part.has(key) else np.zeros((count, 1, 3))
            pieces.append(np.repeat(turned, count, 0) if len(turned) == 1 else turned)
        joints = _BODY25
    if any(len(piece) != count for piece in pieces):
        part.fail("its poses have different numbers of frames")
    return np.concatenate(pieces, 1), joints


def hands_of(part: FileArrays, count: int) -> dict[str, np.ndarray]:
    """Return hand poses by side: 45 angles relative to the mean hand, or fewer coefficients. Raises `AssetError`."""
    hands = {}
    for side, key in _HANDS.items():
        if not part.has(key):
            continue
        shape = part.shape(key)
        if shape[-1:] == (3,) or shape[-2:] == (3, 3):
            hands[side] = rotation_vectors(part, key, 15).reshape(-1, 45)
        else:
            hands[side] = columns(part, key, None)
        if hands[side].shape[1] > 45 or len(hands[side]) not in (1, count):
            part.fail(f"{key} has shape {shape}, expected 45 angles or fewer coefficients of {count} frames")
        hands[side] = np.repeat(hands[side], count, 0) if len(hands[side]) == 1 else hands[side]
    return hands


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    part = file.part(file.value)
    note = () if part.has("transl") or part.has("trans") else ("the file has no transl: the body stays in its place",)
    return [read_named(part, program="smplx", other_axes=("z_up", "camera"), notes=note)]


FORMAT = MotionFormat(
    "smplx", lambda file: has_smplx_names(file.value), _read_people, "npz, pkl or pt with global_orient, body_pose"
)
