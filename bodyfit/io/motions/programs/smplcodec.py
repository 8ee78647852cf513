"""Read Meshcapade's .smpl files (also PromptHMR's, one a person): an npz of SMPL, SMPL-H or SMPL-X parameters."""

from __future__ import annotations

import numpy as np

from bodyfit.io.motions.parts import betas_of, columns, expression_of, rate_of, rotation_vectors
from bodyfit.io.motions.recording import SKELETONS, MotionFile, MotionFormat, Recording

__all__ = ["FORMAT"]

_JOINTS = {0: 24, 1: 52, 2: 55, 7: 55}
"""Number of joints by smplVersion; 3 to 6 are other models."""
_GENDERS = ("neutral", "male", "female")


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    return isinstance(file.value, dict) and {"codecVersion", "smplVersion"} <= file.value.keys()


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    part = file.part(file.value)
    version, gender = (_number(part, key) for key in ("smplVersion", "gender"))
    if version not in _JOINTS:
        part.fail(f"a body of kind {version} of SMPLCodec, which is neither SMPL nor SMPL-H nor SMPL-X")
    if not part.has("bodyPose"):
        part.fail("a shape without a pose (no bodyPose)")
    body = rotation_vectors(part, "bodyPose", (22, 24))
    pieces, count = [body], len(body)
    for key, joints in (("headPose", 3), ("leftHandPose", 15), ("rightHandPose", 15)):
        if version and (key != "headPose" or version != 1):
            pieces.append(rotation_vectors(part, key, joints) if part.has(key) else np.zeros((count, joints, 3)))
    poses = np.concatenate([piece if len(piece) == count else np.repeat(piece, count, 0) for piece in pieces], 1)
    if poses.shape[1] != _JOINTS[version]:
        part.fail(f"its poses have {poses.shape[1]} joints, expected {_JOINTS[version]}")
    return [
        Recording(
            poses=poses,
            joints=SKELETONS[poses.shape[1]],
            trans=columns(part, "bodyTranslation", 3, count) if part.has("bodyTranslation") else np.zeros((count, 3)),
            axes="y_up",
            program="SMPLCodec",
            betas=betas_of(part, "shapeParameters", count),
            space="smplx" if version in (2, 7) else "smpl",
            expression=expression_of(part, "expressionParameters", count),
            fps=rate_of(part),
            gender=_GENDERS[gender] if 0 <= gender < len(_GENDERS) else "neutral",
        )
    ]


def _number(part, key: str) -> int:
    """Return an integer, -1 where it is not one number."""
    values = part.numbers(key, (None,) * len(part.shape(key))).ravel() if part.has(key) else np.zeros(1)
    return int(values[0]) if len(values) == 1 else -1


FORMAT = MotionFormat("SMPLCodec (.smpl)", _matches, _read_people, "*.smpl of PromptHMR and Meshcapade")
