"""Read 3D joints of people that a program estimated in pictures, and their pose where the file has SMPL's.

NLF: the dict that `detect_smpl_batched` returns, saved: `joints3d` (or `joints3d_nonparam`), millimetres in camera
axes, SMPL's 24 joints or SMPL-X's 55 of each person, by picture; and `pose`, axis-angles of the same joints, by which
its vertices are posed and tell nothing more. SAM 3D Body: the list of dicts that
`process_one_image` returns, or one of them: `pred_keypoints_3d`, MHR's 70 keypoints in metres, and `pred_cam_t`, which
puts them before the camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.body.files.arrays import FileArrays
from bodyfit.body.files.contents import read_contents
from bodyfit.body.files.limits import MOTION_LIMITS
from bodyfit.body.files.safe_pickle import as_array
from bodyfit.errors import AssetError
from bodyfit.skeleton import layout_names

__all__ = ["EstimatedPoints", "estimated_points"]

_IGNORED = (
    *("pred_vertices", "vertices3d", "vertices2d", "vertices3d_nonparam", "mask", "faces", "joints2d"),
    *("joints2d_nonparam", "joint_uncertainties", "vertex_uncertainties", "pred_keypoints_2d", "pred_global_rots"),
)
"""Keys of what is not needed and would fill the memory."""
_NLF = ("joints3d", "joints3d_nonparam")
_SAM = ("pred_keypoints_3d", "pred_cam_t")
_SOMA = ("body_params_incam", "body_params_global")
"""GEM-X's keys of its own body's rotations."""
_SMPL, _SMPLX, _MHR = 24, 55, 70
_FAR_M = 50.0
"""A body that is larger, or a person who is so far off, is in millimetres."""
# MHR's 70 keypoints, by COCO-WholeBody's names for the body and the feet.
_OF_MHR = {
    **{name: row for row, name in enumerate((*layout_names("coco17")[:9], *layout_names("coco17")[11:]))},
    **{"left_big_toe": 15, "left_small_toe": 16, "left_heel": 17},
    **{"right_big_toe": 18, "right_small_toe": 19, "right_heel": 20},
    **{"right_wrist": 41, "left_wrist": 62, "neck": 69},
}


@dataclass(frozen=True)
class EstimatedPoints:
    """The people of one picture."""

    layout: str
    """Layout of the points."""
    points_m: Float[np.ndarray, "N K 3"]
    """Their points, metres, camera axes (OpenCV); NaN where the program has none."""
    pose: Float[np.ndarray, "N 66"] | None = None
    """Axis-angles of SMPL's first 22 joints, the root's in camera axes; None where the program has none."""


def estimated_points(path: Path) -> list[EstimatedPoints] | None:
    """Read the joints of people, a picture after the other; None where the file's layout is another.

    Nothing in the file is executed. Raises `AssetError`, naming the file, where it is damaged, or of GEM-X, whose
    rotations are of a body of its own.
    """
    value = read_contents(path, MOTION_LIMITS, ignored=_IGNORED)
    people = _dicts(value)
    if people and all(set(_SAM) <= one.keys() for one in people):
        return [_of_sam(path, people)]
    if isinstance(value, Mapping) and any(key in value for key in _SOMA):
        raise AssetError(
            f"{path}: its rotations are of GEM-X's own body of 77 joints (SOMA), whose rest pose the file has not; "
            "convert them to SMPL by NVIDIA's SOMA-X, and give an npz of global_orient, body_pose and transl"
        )
    if isinstance(value, Mapping) and any(key in value for key in _NLF):
        return _of_nlf(path, value)
    return None


def _dicts(value: Any) -> list[Mapping[str, Any]]:
    """The dicts of people in a dict, a list or an array of objects; empty where there is anything else."""
    if isinstance(value, Mapping):
        several = next((value[key] for key in ("outputs", "arr_0", "results") if key in value), None)
        return [value] if several is None else _dicts(several)
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.reshape(-1).tolist()
    if isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value):
        return list(value)
    return []


def _of_sam(path: Path, people: list[Mapping[str, Any]]) -> EstimatedPoints:
    """SAM 3D Body's people, as points of openpose25. Raises `AssetError`."""
    rows = []
    for number, person in enumerate(people):
        part = FileArrays(path, person, f"person {number}")
        shape = part.shape("pred_keypoints_3d")
        several = len(shape) == 3
        keypoints = part.numbers("pred_keypoints_3d", (None, _MHR, 3) if several else (_MHR, 3), "MHR's keypoints")
        place = part.numbers("pred_cam_t", (len(keypoints), 3) if several else (3,))
        rows.append(keypoints.reshape(-1, _MHR, 3) + place.reshape(-1, 1, 3))
    mhr = np.concatenate(rows)
    names = layout_names("openpose25")
    points = np.full((len(mhr), len(names), 3), np.nan)
    for row, name in enumerate(names):
        if name in _OF_MHR:
            points[:, row] = mhr[:, _OF_MHR[name]]
    return EstimatedPoints("openpose25", points)


def _of_nlf(path: Path, value: Mapping[str, Any]) -> list[EstimatedPoints]:
    """NLF's people, as SMPL's 24 joints. Raises `AssetError`."""
    key = next(key for key in _NLF if key in value)
    pictures = _by_picture(value[key], 4)
    poses = _by_picture(value["pose"], 3) if key == "joints3d" and "pose" in value else [None] * len(pictures)
    if len(poses) != len(pictures):
        FileArrays(path, value).fail(f"pose is of {len(poses)} pictures, and {key} of {len(pictures)}")
    found = []
    for picture, pose in zip(pictures, poses, strict=True):
        part = FileArrays(path, {key: picture})
        shape = part.shape(key)
        if len(shape) < 2 or 0 in shape:
            found.append(EstimatedPoints("smpl24", np.zeros((0, _SMPL, 3))))
            continue
        if shape[-2] not in (_SMPL, _SMPLX):
            part.fail(f"{key} has shape {shape}, expected SMPL's {_SMPL} or SMPL-X's {_SMPLX} joints of each person")
        joints = part.numbers(key, shape).reshape(-1, shape[-2], 3)
        joints = joints / 1000 if np.abs(joints).max() > _FAR_M else joints
        if shape[-2] == _SMPLX:  # what follows SMPL's 22 in common are jaw, eyes and fingers
            joints = np.concatenate([joints[:, :22], np.full((len(joints), 2, 3), np.nan)], 1)
        found.append(EstimatedPoints("smpl24", joints, None if pose is None else _pose_of(path, pose, len(joints))))
    return found


def _pose_of(path: Path, pose: Any, people: int) -> Float[np.ndarray, "N 66"]:
    """NLF's axis-angles of a picture's people, of the joints that SMPL and SMPL-X share. Raises `AssetError`."""
    part = FileArrays(path, {"pose": pose})
    shape = part.shape("pose")
    if np.prod(shape) not in (72 * people, 165 * people):
        part.fail(f"pose has shape {shape}, expected SMPL's 72 or SMPL-X's 165 numbers of each of {people} people")
    return part.numbers("pose", shape).reshape(people, -1)[:, :66]


def _by_picture(value: Any, axes: int) -> list[Any]:
    """What a list, or an array of so many axes whose first is that of pictures (one less for one), has of each."""
    if isinstance(value, list | tuple):
        return list(value)
    array = as_array(value)
    if array.dtype == object:
        return list(array.reshape(-1))
    return list(array) if array.ndim == axes else [array]
