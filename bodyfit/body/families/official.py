"""Read body model files as their authors publish them into `BodyAssets`, detected by content and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bodyfit.body.families.kinds import ModelFamily
from bodyfit.body.families.layouts import family_of, gender_of
from bodyfit.body.families.regressed_points import keypoints_of, landmarks_of
from bodyfit.body.files.archive import read_archive
from bodyfit.body.files.arrays import FileArrays
from bodyfit.body.record import BodyAssets, HandSpace, PoseBlocks
from bodyfit.errors import AssetError

__all__ = ["read_body"]

_NEEDED = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table")
_OF_MOTION = ("poses", "trans", "pose", "smpl_poses", "smpl_trans", "global_orient", "body_pose", "root_orient")
_OF_MOTION += ("pose_body", "pred_pose", "pred_rotmat", "smpl_params_global", "bodyPose", "results")
"""Keys of motion files, which users sometimes give for a model."""
_ROUNDING = 1e-12
"""Error of a sum of weights in float64 that is not corrected, so that files round-trip unchanged."""
_SHORT = 20
"""Columns of the short layout of shapedirs: ten of shape, then ten of expression."""


def read_body(path: Path, *, name: str, gender: str) -> BodyAssets:
    """Read an SMPL, SMPL-H, SMPL-X, STAR, MANO or FLAME file (.npz, .pkl), or one that bodyfit wrote.

    `gender` is the default where the file and its name do not say. Raises `AssetError`, naming the file, where it is
    unreadable or does not hold a consistent body.
    """
    values = read_archive(path)
    missing = [key for key in _NEEDED if key not in values]
    if missing and (poses := [key for key in _OF_MOTION if key in values]):
        raise AssetError(
            f"{path}: poses and shapes of bodies ({', '.join(poses[:3])}) and no body model; bodyfit info tells about "
            "it, bodyfit convert reads it"
        )
    if missing or not ({"f", "faces"} & values.keys()):
        holds = ", ".join(ascii(key[:30])[1:-1] for key in list(values)[:5])
        has = f"; it holds {holds}" if holds and len(missing) == len(_NEEDED) else ""
        raise AssetError(f"{path}: not an SMPL-format body, it lacks {', '.join(missing or ['f'])}{has}")
    file = FileArrays(path, values)
    try:
        return _checked(file, name, gender)
    except MemoryError:
        raise AssetError(f"{path}: refused, it asks for too much memory") from None


def _checked(file: FileArrays, name: str, gender: str) -> BodyAssets:
    """Read the arrays as float64 and check their shapes and values. Raises `AssetError`."""
    kind = family_of(file)
    n_j, layout = len(kind.skeleton), f"the {len(kind.skeleton)}-joint {kind.title} layout"
    template = file.numbers("v_template", (None, 3), layout)
    n_v = len(template)
    shapedirs, exprdirs = _shape_space(file, kind, n_v, layout)
    regressor = file.numbers("J_regressor", (n_j, n_v), layout)
    weights = file.numbers("weights", (n_v, n_j), layout)
    sums = weights.sum(1, keepdims=True)
    off = np.abs(sums - 1).max(initial=0)
    if weights.min(initial=0) < -1e-6 or off > 1e-3:
        file.fail(f"weights must be non-negative and sum to 1 a vertex (off by up to {off:.2g}); fetch the file again")
    faces = file.indices("f" if "f" in file.values else "faces", (None, 3), n_v, "vertices")
    uv = uv_faces = None
    if file.has("vt", "ft"):
        uv, uv_faces = _texture(file, len(faces))
    landmarks = landmarks_of(file, len(faces))
    return BodyAssets(
        name=name,
        kind=kind,
        gender=gender_of(file, gender),
        v_template=template,
        shapedirs=shapedirs,
        posedirs=_pose_shapes(file, kind, n_v, layout),
        J_regressor=regressor,
        weights=np.where(np.abs(sums - 1) < _ROUNDING, weights, weights / sums),
        faces=faces,
        exprdirs=exprdirs,
        hands=_hands(file, kind),
        keypoints=keypoints_of(file, kind, template, regressor, faces, landmarks),
        landmarks=landmarks,
        uv=uv,
        uv_faces=uv_faces,
    )


def _shape_space(file: FileArrays, kind: ModelFamily, n_v: int, layout: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the directions of shape and of expression, which official files hold in one array. Raises `AssetError`."""
    both = file.numbers("shapedirs", (n_v, 3, None), layout)
    columns = both.shape[2]
    if "exprdirs" in file.values:
        return both, file.numbers("exprdirs", (n_v, 3, None), layout)
    first = columns
    if kind.shapes and (columns > kind.shapes or columns == _SHORT):
        first = kind.shapes if columns > kind.shapes else _SHORT // 2
    n_shape, n_expr = first, columns - first
    # Files that bodyfit padded with zeros say how many of the columns are used.
    if "bodyfit_columns" in file.values:
        n_shape, n_expr = (int(n) for n in file.indices("bodyfit_columns", (2,), columns + 1, "columns"))
        if n_shape > first or n_expr > columns - first:
            file.fail(f"bodyfit_columns says {n_shape} and {n_expr}, shapedirs has {first} and {columns - first}")
    shapes, expressions = both[..., :n_shape], both[..., first : first + n_expr]
    return np.ascontiguousarray(shapes), np.ascontiguousarray(expressions) if n_expr else None


def _pose_shapes(file: FileArrays, kind: ModelFamily, n_v: int, layout: str) -> np.ndarray | PoseBlocks | None:
    """Read the pose blend shapes: sparse where most are zero, None where all are or the file has none."""
    if "posedirs_block" in file.values:
        return _filed_blocks(file, kind, n_v)
    if "posedirs" not in file.values:
        return None
    dense = file.numbers("posedirs", (n_v, 3, kind.pose_features), layout, as_filed=True)
    if not dense.any():
        return None
    if kind.name == "star":  # its features are quaternions and do not form blocks of nine
        return dense
    filled = dense.reshape(n_v, 3, -1, 9).any((1, 3)).mean()
    return PoseBlocks.of(dense) if filled < 1 / 3 else dense


def _filed_blocks(file: FileArrays, kind: ModelFamily, n_v: int) -> PoseBlocks:
    """Read sparse pose blend shapes as `bodyfit convert` writes them. Raises `AssetError`."""
    missing = [k for k in ("posedirs_vertex", "posedirs_joint") if k not in file.values]
    if missing or kind.name == "star":
        file.fail(f"posedirs_block needs {' and '.join(missing) or 'rotation matrices, which STAR has not'}")
    block = file.numbers("posedirs_block", (None, 3, 9), as_filed=True)
    n = len(block)
    vertex = file.indices("posedirs_vertex", (n,), n_v, "vertices")
    joint = file.indices("posedirs_joint", (n,), len(kind.skeleton), "joints")
    place = vertex * len(kind.skeleton) + joint
    if joint.min() < 1 or (np.diff(place) <= 0).any():
        file.fail("posedirs_vertex and posedirs_joint must ascend, and name no root and no pair twice")
    return PoseBlocks(vertex, joint, block)


def _hands(file: FileArrays, kind: ModelFamily) -> dict[str, HandSpace]:
    """Read mean poses and principal components of the hands, by side. Raises `AssetError`."""
    if kind.name.startswith("mano"):
        keys = {kind.name.removeprefix("mano_"): ""}
    else:
        keys = {"left": "l", "right": "r"} if "left_thumb1" in kind.skeleton.names else {}
    hands, fillers = {}, file.words("bodyfit_fillers")
    for side, suffix in keys.items():
        if f"{side}_hand" in fillers:
            continue
        mean, components = f"hands_mean{suffix}", f"hands_components{suffix}"
        present = [key for key in (mean, components) if key in file.values]
        if len(present) == 1:
            file.fail(f"{present[0]} is there without {components if present[0] == mean else mean}")
        if present:
            hands[side] = HandSpace(
                file.numbers(mean, (45,), kind.title), file.numbers(components, (45, 45), kind.title)
            )
    return hands


def _texture(file: FileArrays, n_faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Read texture coordinates and their faces. Raises `AssetError`."""
    uv = file.numbers("vt", (None, 2), "texture coordinates")
    return uv, file.indices("ft", (n_faces, 3), len(uv), "three rows of vt for each face, of")
