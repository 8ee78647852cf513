"""The open family: one mesh, one shape space a gender, and the 24, 52 or 55 joints of SMPL, SMPL-H or SMPL-X.

`assets/body/open.npz` holds what all of them share, with 55 joints and the two that only the 24-joint tree has;
`open_{gender}.npz` the mean shape and its directions. A layout is made by merging joints that it lacks into the nearest
that it has, so betas carry over and a body in the rest pose has the same vertices in every layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bodyfit.body.families.kinds import KINDS, Kind
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.body.record import BodyAssets, HandSpace, Landmarks, PoseBlocks

__all__ = ["OPEN_KINDS", "is_open", "open_body"]

OPEN_KINDS = {"open": "smpl", "open-h": "smplh", "open-x": "smplx"}
"""What `load_model` calls them, and their layouts."""
_VERTICES = 13492
"""No published body has as many."""


def is_open(body: Any) -> bool:
    """Whether a `BodyModel` or `BodyAssets` is of the family, also one that was written to a file and read again: whose
    betas and expression it takes."""
    return body.name in OPEN_KINDS or len(body.v_template) == _VERTICES


def open_body(name: str, gender: str) -> BodyAssets:
    """One member of the family; names as in `OPEN_KINDS`."""
    shared = read_archive(asset_path("body", "open.npz"))
    shape = read_archive(asset_path("body", f"open_{gender}.npz"))
    kind = KINDS[OPEN_KINDS[name]]
    joints = [str(joint) for joint in shared["joint_names"]]
    rows = [joints.index(joint) for joint in kind.skeleton.names]
    regressor = np.asarray(shared["J_regressor"], np.float64)
    keypoints = {str(k): row for k, row in zip(shared["keypoint_names"], shared["keypoint_regressor"], strict=True)}
    for extra in ("left_hand", "right_hand"):
        if extra not in kind.skeleton.names:  # a joint of the smaller tree is a point on the skin of the larger
            keypoints[extra] = regressor[joints.index(extra)]
    whole = kind.name == "smplx"
    return BodyAssets(
        name=name,
        kind=kind,
        gender=gender,
        v_template=np.asarray(shape["v_template"], np.float64),
        shapedirs=np.asarray(shape["shapedirs"], np.float64),
        posedirs=_pose_blocks(shared, joints, rows),
        J_regressor=regressor[rows],
        weights=_merged(np.asarray(shared["weights"], np.float64), joints, kind),
        faces=np.asarray(shared["f"], np.int64),
        exprdirs=np.asarray(shared["exprdirs"], np.float64) if whole else None,
        hands=_hands(shared) if kind.name != "smpl" else {},
        keypoints={name: np.asarray(row, np.float64) for name, row in keypoints.items()},
        landmarks=_landmarks(shared) if whole else None,
        uv=np.asarray(shared["vt"], np.float64),
        uv_faces=np.asarray(shared["ft"], np.int64),
    )


def _merged(weights: np.ndarray, joints: list[str], kind: Kind) -> np.ndarray:
    """(V, J) skinning weights of a layout from those of the 55 joints."""
    merged = np.zeros((len(weights), len(kind.skeleton)))
    for joint, column in zip(joints, weights.T, strict=False):  # the two joints of the small tree come last, weightless
        merged[:, kind.skeleton.index(_stand_in(joint, kind))] += column
    return merged / merged.sum(1, keepdims=True)


def _stand_in(joint: str, kind: Kind) -> str:
    """The joint of a layout that carries what `joint` carries in the largest one."""
    if joint in kind.skeleton.names:
        return joint
    side = joint.partition("_")[0]
    if side in ("left", "right") and "eye" not in joint:
        # The 24-joint hand bends four fingers at once; a thumb so far from its axis would tear from the palm.
        return f"{side}_wrist" if "thumb" in joint else f"{side}_hand"
    return "head"


def _pose_blocks(shared: dict[str, Any], joints: list[str], rows: list[int]) -> PoseBlocks | None:
    """The pose blend shapes of the joints that a layout has."""
    if "posedirs_joint" not in shared:
        return None
    place = np.full(len(joints), -1)
    place[rows] = np.arange(len(rows))
    joint = place[shared["posedirs_joint"]]
    kept = joint >= 0
    vertex, joint = np.asarray(shared["posedirs_vertex"], np.int64)[kept], joint[kept]
    order = np.lexsort((joint, vertex))
    return PoseBlocks(vertex[order], joint[order], shared["posedirs_block"][kept][order])


def _hands(shared: dict[str, Any]) -> dict[str, HandSpace]:
    return {
        side: HandSpace(
            np.asarray(shared[f"hands_mean{side[0]}"], np.float64),
            np.asarray(shared[f"hands_components{side[0]}"], np.float64),
        )
        for side in ("left", "right")
    }


def _landmarks(shared: dict[str, Any]) -> Landmarks:
    return Landmarks(
        np.asarray(shared["lmk_faces_idx"], np.int64),
        np.asarray(shared["lmk_bary_coords"], np.float64),
        np.asarray(shared["dynamic_lmk_faces_idx"], np.int64),
        np.asarray(shared["dynamic_lmk_bary_coords"], np.float64),
    )
