"""Read human_body_prior's keys (root_orient, pose_body, ...), which AMASS's SMPL-X files, GRAB and SLAHMR also have."""

from __future__ import annotations

import numpy as np

from bodyfit.io.motions.parts import betas_of, columns, expression_of, gender_of, rate_of, rotation_vectors
from bodyfit.io.motions.recording import BODY22, MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPLH, SMPLX

__all__ = ["FORMAT", "recording_of"]

_PARTS = {"pose_jaw": 1, "pose_eye": 2}
"""Parts between the body and the hands in SMPL-X's order, and their numbers of joints."""


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    return isinstance(file.value, dict) and {"root_orient", "pose_body"} <= file.value.keys()


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    return [recording_of(file)]


def recording_of(file: MotionFile) -> Recording:
    """Read the motion of a file. Raises `AssetError`."""
    part = file.part(file.value)
    orient = rotation_vectors(part, "root_orient", 1)
    count = len(orient)
    body = rotation_vectors(part, "pose_body", (21, 23))
    if len(body) != count:
        part.fail(f"pose_body has {len(body)} frames and root_orient {count}")
    whole = any(part.has(key) for key in _PARTS)
    pieces = [orient, body[:, :21]]
    if whole:
        for key, joints in _PARTS.items():
            pieces.append(rotation_vectors(part, key, joints) if part.has(key) else np.zeros((count, joints, 3)))
    joints = BODY22
    if part.has("pose_hand"):
        pieces.append(rotation_vectors(part, "pose_hand", 30))
        joints = SMPLX if whole else SMPLH
    elif whole:
        pieces.append(np.zeros((count, 30, 3)))
        joints = SMPLX
    if any(len(piece) != count for piece in pieces):
        part.fail("its parts have different numbers of frames")
    trans_key = "trans" if part.has("trans") else "transl"
    return Recording(
        poses=np.concatenate(pieces, 1),
        joints=joints,
        trans=columns(part, trans_key, 3, count) if part.has(trans_key) else np.zeros((count, 3)),
        axes="z_up",
        program="human_body_prior",
        betas=betas_of(part, "betas", count),
        space="smplx" if whole or str(part.text("surface_model_type") or "").startswith("smplx") else "smpl",
        expression=expression_of(part, "face_expr", count),
        fps=rate_of(part),
        gender=gender_of(file.value.get("gender", "")),
        notes=() if part.has(trans_key) else ("the file has no trans: the body stays in its place",),
    )


FORMAT = MotionFormat("human_body_prior, GRAB", _matches, _read_people, "npz with root_orient, pose_body, trans")
