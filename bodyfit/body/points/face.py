"""Where detectors' points of a face lie on a model: MediaPipe's mesh, iBUG's markup, irises."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bodyfit.body.assets import asset_path, read_archive
from bodyfit.body.families.open import is_open
from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import VertexSum
from bodyfit.errors import OptionError
from bodyfit.keypoints import FACE_IBUG68

__all__ = ["EYES", "FACE_COUNTS", "face_entries"]

FACE_COUNTS = (468, 478, 68, 70)
"""Points of a face: MediaPipe's mesh without or with irises, iBUG's markup without or with pupils."""
EYES: dict[int, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    478: ((468, 33, 133), (473, 362, 263)),
    70: ((68, 36, 39), (69, 42, 45)),
}
"""By the count of points: the iris and both corners of the right and of the left eye."""
_CONTOUR, _CHIN = 17, (7, 8, 9)
"""The first points of iBUG's markup are the face's outline in a picture; only about the chin that is a place on it."""


def face_entries(model: BodyModel, count: int) -> list[VertexSum | dict[str, float]]:
    """A sum of vertices for each of the points of a face; empty for points that the model has no place for.

    All 468 lie on the open face (`scripts/build/face_points.py`); on SMPL-X those that are nearest to its own 51
    landmarks do. Raises `OptionError` for a model without jaw and eyes, or without landmarks.
    """
    if "jaw_pose" not in dict(model.kind.poses):
        raise OptionError(
            f"a face is seen, and the model {model.name} has no jaw: load 'open-x', or an SMPL-X file, or leave it out"
        )
    mesh, marks = _mesh_of(model), _landmarks(model)
    entries: list[VertexSum | dict[str, float]]
    if count in (468, 478):
        entries = [{} for _ in range(468)] if mesh is None else list(mesh[:468])
        if mesh is None:
            for row, mark in zip(FACE_IBUG68[_CONTOUR:], marks, strict=True):
                entries[row] = mark
    else:
        outline = [mesh[row] if mesh and i in _CHIN else {} for i, row in enumerate(FACE_IBUG68[:_CONTOUR])]
        entries = [*outline, *marks]
    if count in EYES:
        entries += [{} for _ in range(count - len(entries))]
        for i, (side, (iris, *_)) in enumerate(zip(("right", "left"), EYES[count], strict=True)):
            entries[iris] = _iris(model, side) if mesh is None else mesh[468 + i]
    return entries


def _mesh_of(model: BodyModel) -> list[VertexSum] | None:
    """The 468 points of the open face; None for another."""
    if not is_open(model):
        return None
    vertices, weights = _open_face()
    return [VertexSum(tuple(v), tuple(w)) for v, w in zip(vertices.tolist(), weights.tolist(), strict=True)]


@lru_cache(maxsize=1)
def _open_face() -> tuple[np.ndarray, np.ndarray]:
    arrays = read_archive(asset_path("body", "face468.npz"))
    return np.asarray(arrays["vertices"], np.int64), np.asarray(arrays["weights"], np.float64)


def _landmarks(model: BodyModel) -> list[VertexSum]:
    """The 51 landmarks of the inner face."""
    marks = model.landmarks
    if marks is None or len(marks.faces_idx) != 51:
        raise OptionError(f"the model {model.name} has no landmarks of a face (lmk_faces_idx), to fit one by")
    corners = model.faces.cpu().numpy()[marks.faces_idx]
    return [VertexSum(tuple(v), tuple(w)) for v, w in zip(corners.tolist(), marks.bary_coords.tolist(), strict=True)]


def _iris(model: BodyModel, side: str) -> VertexSum:
    """The vertex of an eyeball that is farthest forward."""
    joint = model.skeleton.index(f"{side}_eye_smplhf")
    on_eye = (model.weights[:, joint] > 0.5).nonzero()[:, 0]
    if len(on_eye) == 0:
        raise OptionError(f"the model {model.name} has no skin on its eyes, to say where they look")
    return VertexSum((int(on_eye[model.v_template[on_eye, 2].argmax()]),), (1.0,))
