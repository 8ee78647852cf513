"""Write body models to files: bodyfit's complete npz, or the layout that smplx reads."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.body.assets import load_assets
from bodyfit.body.record import BodyAssets, PoseBlocks
from bodyfit.errors import OptionError, OutputError
from bodyfit.runtime.atomic import write_atomically

__all__ = ["MODEL_LAYOUTS", "save_model", "smplx_class"]

MODEL_LAYOUTS = ("bodyfit", "smplx")
"""Layouts that `save_model` writes."""

_CLASSES = {"smpl": "SMPL", "smplh": "SMPLH", "smplx": "SMPLX", "mano_left": "MANO", "mano_right": "MANO"}
_CLASSES["flame"] = "FLAME"
_ONLY_PICKLED = ("SMPL", "FLAME")
"""Classes of smplx that read only pickles."""
_SHORT = 10
"""Columns of shape, and of expression, of the shapedirs that smplx takes for a short one; else 300 and 100."""
_LONG = (300, 100)


def smplx_class(assets: BodyAssets) -> str:
    """Return the class of smplx that reads a body. Raises `OptionError` where there is none."""
    if assets.kind.name not in _CLASSES:
        raise OptionError(f"smplx has no {assets.kind.title} model; write layout bodyfit instead")
    return _CLASSES[assets.kind.name]


def save_model(
    source: BodyAssets | str | Path, path: str | Path, *, layout: str = "bodyfit", gender: str = "neutral"
) -> Path:
    """Write a body model, plain arrays only, and return the path of its file.

    source: a model, or an argument of `load_model` with its gender. layout "bodyfit": an npz without pickles that reads
    back as the same `BodyAssets`; numbers are float32 where the source's are. layout "smplx": a file for smplx.create,
    an npz or (suffix .pkl) a pickle of numpy arrays; SMPL is always a pickle, for smplx reads no other. A path that is
    a folder or has no suffix gets smplx's folders, smpl/SMPL_NEUTRAL.pkl and so on.

    Raises `AssetError`, `OptionError` and `OutputError`.
    """
    if layout not in MODEL_LAYOUTS:
        raise OptionError(f"layout must be one of {', '.join(MODEL_LAYOUTS)}, got {layout!r}")
    path = Path(path)
    assets = source if isinstance(source, BodyAssets) else load_assets(source, gender=gender)
    as_folder = path.is_dir() or not path.suffix
    if layout == "bodyfit":
        if as_folder or path.suffix.lower() != ".npz":
            raise OptionError(f"{path}: bodyfit's own layout is an npz; give a name that ends in .npz, or layout smplx")
        _refuse_input(source, path)
        _write(path, _common(assets) | _own(assets), pickled=False)
        return path
    name, arrays = smplx_class(assets), _common(assets) | _for_smplx(assets)
    if as_folder:
        path = path / name.lower() / _file_name(assets, name)
    elif path.suffix.lower() not in (".npz", ".pkl"):
        raise OptionError(f"{path}: smplx reads .npz and .pkl; give a name with one of these endings, or a folder")
    elif name == "FLAME":
        raise OptionError(f"{path}: smplx reads FLAME from a folder only; give a folder")
    _refuse_input(source, path)
    _write(path, arrays, pickled=path.suffix.lower() == ".pkl" or name in _ONLY_PICKLED)
    beside = path.with_name("flame_static_embedding.pkl")
    if name == "FLAME" and not beside.exists():  # it keeps its landmarks apart, one file for all genders
        landmarks = {"lmk_face_idx": arrays["lmk_faces_idx"], "lmk_b_coords": arrays["lmk_bary_coords"]}
        _write(beside, landmarks, pickled=True)
    return path


def _file_name(assets: BodyAssets, name: str) -> str:
    """Return the name by which smplx finds the file in a folder."""
    which = assets.kind.name.removeprefix("mano_") if name == "MANO" else assets.gender
    return f"{name}_{which.upper()}.{'npz' if name == 'SMPLX' else 'pkl'}"


def _refuse_input(source: BodyAssets | str | Path, path: Path) -> None:
    """Raise `OutputError` where the model would overwrite the file that it was read from."""
    origin = Path(source.name if isinstance(source, BodyAssets) else source)
    if not (path.exists() and origin.exists()):
        return
    if os.path.samefile(origin, path) or (origin.is_dir() and origin in path.parents):
        raise OutputError(f"{path} is the model that is read; give another name")


def _common(assets: BodyAssets) -> dict[str, np.ndarray]:
    """Return the arrays of both layouts, by the official keys."""
    joints = len(assets.parents)
    arrays = {
        "bodyfit_model": np.array(assets.kind.name),
        "gender": np.array(assets.gender),
        "v_template": assets.v_template,
        "J_regressor": assets.J_regressor,
        "weights": assets.weights,
        "kintree_table": np.stack([np.array(assets.parents), np.arange(joints)]),
        "f": assets.faces.astype(np.uint32),
        "bs_type": np.array("lrotmin"),
        "bs_style": np.array("lbs"),
    }
    # Also where there are none, for a reader would otherwise use those of the published meshes.
    arrays["keypoint_names"] = np.array(list(assets.keypoints), dtype=str)
    arrays["keypoint_regressor"] = np.array(list(assets.keypoints.values())).reshape(-1, len(assets.v_template))
    if assets.uv is not None and assets.uv_faces is not None:
        arrays |= {"vt": assets.uv, "ft": assets.uv_faces.astype(np.uint32)}
    for side, space in assets.hands.items():
        suffix = "" if assets.kind.name.startswith("mano") else side[0]
        arrays |= {f"hands_mean{suffix}": space.mean, f"hands_components{suffix}": space.components}
    if (face := assets.landmarks) is not None:
        arrays |= {"lmk_faces_idx": face.faces_idx, "lmk_bary_coords": face.bary_coords}
        if face.contour_faces_idx is not None and face.contour_bary_coords is not None:
            arrays["dynamic_lmk_faces_idx"] = face.contour_faces_idx
            arrays["dynamic_lmk_bary_coords"] = face.contour_bary_coords
    return arrays


def _own(assets: BodyAssets) -> dict[str, np.ndarray]:
    """Return the arrays of bodyfit's layout: shape and expression separate, pose blend shapes sparse if they are."""
    arrays = {"shapedirs": assets.shapedirs}
    if assets.exprdirs is not None:
        arrays["exprdirs"] = assets.exprdirs
    elif assets.kind.shapes:
        arrays["bodyfit_columns"] = np.array([assets.shapedirs.shape[2], 0])
    if isinstance(blocks := assets.posedirs, PoseBlocks):
        arrays |= {"posedirs_vertex": blocks.vertex, "posedirs_joint": blocks.joint, "posedirs_block": blocks.block}
    elif blocks is not None:
        arrays["posedirs"] = blocks
    return arrays


def _for_smplx(assets: BodyAssets) -> dict[str, np.ndarray]:
    """Return all keys that smplx needs, with fillers where the body lacks a part; a key lists the fillers."""
    n_v, posedirs = len(assets.v_template), assets.posedirs
    arrays: dict[str, np.ndarray] = {}
    if isinstance(posedirs, PoseBlocks):
        posedirs = posedirs.dense(n_v, len(assets.parents))
    if posedirs is None:
        posedirs = np.zeros((n_v, 3, assets.kind.pose_features), np.float32)
    shape, expr = assets.shapedirs, assets.exprdirs
    columns = shape.shape[2], 0 if expr is None else expr.shape[2]
    arrays |= {"posedirs": posedirs, "bodyfit_columns": np.array(columns)}
    if max(columns) <= _SHORT:
        first, rest = _SHORT, _SHORT
    else:
        first, rest = max(_LONG[0], columns[0]), max(_LONG[1], columns[1])
    if assets.kind.shapes and columns[0] > _LONG[0]:
        raise OptionError(f"smplx takes up to {_LONG[0]} betas of {assets.kind.title}, {assets.name} has {columns[0]}")
    full = np.zeros((n_v, 3, first + (rest if assets.kind.shapes else 0)))
    full[..., : columns[0]] = shape
    if expr is not None:
        full[..., first : first + columns[1]] = expr
    arrays["shapedirs"] = full
    fillers = []
    hands = {"": assets.kind.name.removeprefix("mano_")} if assets.kind.name.startswith("mano") else {}
    if assets.kind.name in ("smplh", "smplx"):
        hands = {"l": "left", "r": "right"}
    for suffix, side in hands.items():
        if side not in assets.hands:
            arrays |= {f"hands_mean{suffix}": np.zeros(45), f"hands_components{suffix}": np.eye(45)}
            fillers.append(f"{side}_hand")
    if assets.kind.shapes and assets.landmarks is None:
        arrays |= {"lmk_faces_idx": np.zeros(51, np.int64), "lmk_bary_coords": np.full((51, 3), 1 / 3)}
        fillers.append("landmarks")
    return arrays | {"bodyfit_fillers": np.array(fillers, dtype=str)}


def _write(path: Path, arrays: dict[str, Any], *, pickled: bool) -> None:
    # Pose blend shapes keep the dtype of their file.
    arrays = {key: array if key.startswith("posedirs") else _narrow(array) for key, array in arrays.items()}
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        if pickled:
            pickle.dump(arrays, file, protocol=4)
        else:  # an open file, because numpy appends .npz to names that lack it
            np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def _narrow(array: np.ndarray) -> np.ndarray:
    """Convert to float32 where that is exact, so that a model read from float32 does not grow."""
    if array.dtype != np.float64:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return narrow if np.array_equal(narrow, array) else array
