"""Build the open bodies: one mesh, one shape space a gender, and the 24, 52 or 55 joints of SMPL, SMPL-H or SMPL-X.

`assets/body/open.npz` holds the arrays that all of them share, with 55 joints and the two that only the 24-joint tree
has; `open_{gender}.npz` holds the mean shape and its directions. A layout merges joints that it lacks into the nearest
that it has, so that betas carry over and a body in the rest pose has the same vertices in every layout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bodyfit.body.families.kinds import FAMILIES, ModelFamily
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.body.record import BodyAssets, FaceLandmarks, HandSpace, PoseBlocks

__all__ = ["OPEN_FAMILIES", "is_open", "merge_weights", "open_body"]

OPEN_FAMILIES = {"open": "smpl", "open-h": "smplh", "open-x": "smplx"}
"""Model families of the open bodies, by their names in `load_model`."""
_VERTICES = 13492
"""The open mesh's number of vertices, which no published body has."""


def is_open(body: Any) -> bool:
    """Tell whether a `BodyModel` or `BodyAssets` is an open body, also one read from a file: it shares their betas."""
    return body.name in OPEN_FAMILIES or len(body.v_template) == _VERTICES


def open_body(name: str, gender: str) -> BodyAssets:
    """Build an open body; names as in `OPEN_FAMILIES`."""
    shared = read_archive(asset_path("body", "open.npz"))
    shape = read_archive(asset_path("body", f"open_{gender}.npz"))
    kind = FAMILIES[OPEN_FAMILIES[name]]
    joints = [str(joint) for joint in shared["joint_names"]]
    rows = [joints.index(joint) for joint in kind.skeleton.names]
    regressor = np.asarray(shared["J_regressor"], np.float64)
    keypoints = {str(k): row for k, row in zip(shared["keypoint_names"], shared["keypoint_regressor"], strict=True)}
    for extra in ("left_hand", "right_hand"):
        if extra not in kind.skeleton.names:  # a joint of the smaller tree is a surface point of the larger
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
        weights=merge_weights(np.asarray(shared["weights"], np.float64), joints, kind),
        faces=np.asarray(shared["f"], np.int64),
        exprdirs=np.asarray(shared["exprdirs"], np.float64) if whole else None,
        hands=_hands(shared) if kind.name != "smpl" else {},
        keypoints={name: np.asarray(row, np.float64) for name, row in keypoints.items()},
        landmarks=_landmarks(shared) if whole else None,
        uv=np.asarray(shared["vt"], np.float64),
        uv_faces=np.asarray(shared["ft"], np.int64),
    )


def merge_weights(weights: np.ndarray, joints: list[str], kind: ModelFamily) -> np.ndarray:
    """Sum the skinning weights of the 55 joints into those of a layout, (V, J)."""
    sums = np.zeros((len(weights), len(kind.skeleton)))
    for joint, column in zip(
        joints, weights.T, strict=False
    ):  # the two joints of the small tree come last, without weights
        sums[:, kind.skeleton.index(_stand_in(joint, kind))] += column
    return sums / sums.sum(1, keepdims=True)


def _stand_in(joint: str, kind: ModelFamily) -> str:
    """Return the joint of a layout that takes over the weights of a joint of the largest layout."""
    if joint in kind.skeleton.names:
        return joint
    side = joint.partition("_")[0]
    if side in ("left", "right") and "eye" not in joint:
        # The 24-joint hand bends four fingers at once; the thumb, far from that axis, would tear off the palm.
        return f"{side}_wrist" if "thumb" in joint else f"{side}_hand"
    return "head"


def _pose_blocks(shared: dict[str, Any], joints: list[str], rows: list[int]) -> PoseBlocks | None:
    """Select the pose blend shapes of a layout's joints."""
    if "posedirs_joint" not in shared:
        return None
    place = np.full(len(joints), -1)
    place[rows] = np.arange(len(rows))
    joint = place[shared["posedirs_joint"]]
    selected = joint >= 0
    vertex, joint = np.asarray(shared["posedirs_vertex"], np.int64)[selected], joint[selected]
    order = np.lexsort((joint, vertex))
    return PoseBlocks(vertex[order], joint[order], shared["posedirs_block"][selected][order])


def _hands(shared: dict[str, Any]) -> dict[str, HandSpace]:
    """Make the pose spaces of the hands."""
    return {
        side: HandSpace(
            np.asarray(shared[f"hands_mean{side[0]}"], np.float64),
            np.asarray(shared[f"hands_components{side[0]}"], np.float64),
        )
        for side in ("left", "right")
    }


def _landmarks(shared: dict[str, Any]) -> FaceLandmarks:
    """Make the landmarks of the face."""
    return FaceLandmarks(
        np.asarray(shared["lmk_faces_idx"], np.int64),
        np.asarray(shared["lmk_bary_coords"], np.float64),
        np.asarray(shared["dynamic_lmk_faces_idx"], np.int64),
        np.asarray(shared["dynamic_lmk_bary_coords"], np.float64),
    )
