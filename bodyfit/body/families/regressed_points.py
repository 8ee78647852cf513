"""Define named surface points on published meshes: the vertices that detectors' keypoints correspond to."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from bodyfit.body.families.kinds import ModelFamily
from bodyfit.body.files.arrays import FileArrays
from bodyfit.body.record import FaceLandmarks

__all__ = ["keypoints_of", "landmarks_of"]


def _tips(side: str, *vertices: int) -> dict[str, int]:
    """Name the fingertips of a side, thumb first."""
    return {f"{side}_{f}_tip": v for f, v in zip(("thumb", "index", "middle", "ring", "pinky"), vertices, strict=True)}


_VERTICES: dict[int, dict[str, int]] = {
    6890: {
        **{"nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583, "head_top": 411},
        **{"left_big_toe": 3216, "left_small_toe": 3226, "left_heel": 3387},
        **{"right_big_toe": 6617, "right_small_toe": 6624, "right_heel": 6787},
        **_tips("left", 2746, 2319, 2445, 2556, 2673),
        **_tips("right", 6191, 5782, 5905, 6016, 6133),
    },
    10475: {
        **{"nose": 9120, "right_eye": 9929, "left_eye": 9448, "right_ear": 616, "left_ear": 6},
        **{"left_big_toe": 5770, "left_small_toe": 5780, "left_heel": 8846},
        **{"right_big_toe": 8463, "right_small_toe": 8474, "right_heel": 8635},
        **_tips("left", 5361, 4933, 5058, 5169, 5286),
        **_tips("right", 8079, 7669, 7794, 7905, 8022),
    },
}
"""Vertices of named points by the mesh's number of vertices: SMPL (also SMPL-H and STAR), and SMPL-X."""
_HAND_VERTICES = (744, 320, 443, 554, 671)
"""Fingertips on MANO's 778 vertices, thumb first."""
_KNUCKLES = {"thumb": "thumb2", "index": "index1", "middle": "middle1", "ring": "ring1", "pinky": "pinky1"}
_FACE = {
    **{30 - 17: "nose_tip", 36 - 17: "right_eye_outer", 39 - 17: "right_eye_inner", 42 - 17: "left_eye_inner"},
    **{45 - 17: "left_eye_outer", 48 - 17: "mouth_right", 54 - 17: "mouth_left"},
}
"""Names of some of the 51 landmarks of the inner face: the 68-point layout without its 17 of the contour."""


def keypoints_of(
    file: FileArrays,
    kind: ModelFamily,
    template: Float[np.ndarray, "V 3"],
    regressor: Float[np.ndarray, "J V"],
    faces: Int[np.ndarray, "F 3"],
    landmarks: FaceLandmarks | None,
) -> dict[str, np.ndarray]:
    """Make regressors of surface points: the file's own, or our tables for published meshes. Raises `AssetError`."""
    n_v = len(template)
    if "keypoint_regressor" in file.values:
        names = file.words("keypoint_names")
        if len(set(names)) < len(names):
            file.fail("keypoint_names has a name twice")
        return dict(zip(names, file.numbers("keypoint_regressor", (len(names), n_v)), strict=True))
    vertices = dict(_VERTICES.get(n_v, {})) if kind.body_joints else {}
    if kind.name.startswith("mano") and n_v == 778:
        vertices = _tips(kind.name.removeprefix("mano_"), *_HAND_VERTICES)
    if kind.name == "smplx" and vertices:
        vertices["head_top"] = int(template[:, 1].argmax())
    points = {name: np.eye(1, n_v, vertex)[0] for name, vertex in vertices.items()}
    return points | _joint_points(kind, regressor) | _face_points(n_v, faces, landmarks)


def _joint_points(kind: ModelFamily, regressor: np.ndarray) -> dict[str, np.ndarray]:
    """Regress knuckles and the 24-joint tree's hands where the tree has fingers."""
    names, points = kind.skeleton.names, {}
    for side in ("left", "right"):
        if f"{side}_middle1" in names and kind.body_joints:
            points[f"{side}_hand"] = regressor[names.index(f"{side}_middle1")]
        for finger, joint in _KNUCKLES.items():
            if f"{side}_{joint}" in names:
                points[f"{side}_{finger}_knuckle"] = regressor[names.index(f"{side}_{joint}")]
    return points


def _face_points(n_v: int, faces: np.ndarray, landmarks: FaceLandmarks | None) -> dict[str, np.ndarray]:
    """Regress the nose's tip and the corners of eyes and mouth from the 51 landmarks."""
    if landmarks is None or len(landmarks.faces_idx) != 51:
        return {}
    points = {}
    for row, name in _FACE.items():
        points[name] = np.zeros(n_v)
        np.add.at(points[name], faces[landmarks.faces_idx[row]], landmarks.bary_coords[row])
    return points


def landmarks_of(file: FileArrays, n_faces: int) -> FaceLandmarks | None:
    """Read SMPL-X's landmarks of the face; None where the file has none (FLAME has separate files).

    Raises `AssetError`.
    """
    if not file.has("lmk_faces_idx", "lmk_bary_coords") or "landmarks" in file.words("bodyfit_fillers"):
        return None
    index = file.indices("lmk_faces_idx", (None,), n_faces, "faces")
    bary = file.numbers("lmk_bary_coords", (len(index), 3), f"{len(index)} landmarks")
    if not file.has("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords"):
        return FaceLandmarks(index, bary)
    contour = file.indices("dynamic_lmk_faces_idx", (None, None), n_faces, "faces")
    return FaceLandmarks(
        index,
        bary,
        contour,
        file.numbers("dynamic_lmk_bary_coords", (*contour.shape, 3), "the landmarks of the contour"),
    )
