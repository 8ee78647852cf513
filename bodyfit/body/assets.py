"""Body model files: found, read, checked."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from bodyfit.body.safe_pickle import read_pickle
from bodyfit.errors import AssetError, OptionError
from bodyfit.skeleton import SMPL

__all__ = ["GENDERS", "BodyAssets", "asset_path", "load_assets", "read_archive"]

GENDERS = ("neutral", "male", "female")

_MAX_BYTES = 2 << 30  # of an npz, unpacked
_SMPL_VERTEX_KEYPOINTS = {
    **{"nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583, "head_top": 411},
    **{"left_big_toe": 3216, "left_small_toe": 3226, "left_heel": 3387},
    **{"right_big_toe": 6617, "right_small_toe": 6624, "right_heel": 6787},
}
"""Vertices of the 6890-vertex SMPL mesh that detectors' keypoints lie on."""


@dataclass(frozen=True)
class BodyAssets:
    """The arrays of one SMPL-format body model, checked, float64."""

    name: str
    """What `load_model` was asked for."""
    gender: str
    """neutral, male or female."""
    v_template: Float[np.ndarray, "V 3"]
    """Mean body in the T-pose, metres."""
    shapedirs: Float[np.ndarray, "V 3 S"]
    """Vertex offsets for one unit of each beta."""
    posedirs: Float[np.ndarray, "V 3 P"]
    """Vertex offsets for each entry of vec(R - I), row-major, joints 1 to 23."""
    J_regressor: Float[np.ndarray, "J V"]
    """Rest joints from rest vertices."""
    weights: Float[np.ndarray, "V J"]
    """Linear blend skinning weights."""
    parents: tuple[int, ...]
    """Kinematic tree, -1 for the root."""
    faces: Int[np.ndarray, "F 3"]
    """Triangles, counter-clockwise from outside."""
    keypoints: dict[str, Float[np.ndarray, "V"]] = field(default_factory=dict)
    """Regressors of named surface points."""
    uv: Float[np.ndarray, "T 2"] | None = None
    """Texture coordinates."""
    uv_faces: Int[np.ndarray, "F 3"] | None = None
    """Rows of `uv` at each face's corners."""


def asset_path(*parts: str) -> Path:
    """A file that ships with bodyfit: inside the package when installed, beside it in a source checkout."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "assets", package.parent / "assets"):
        if (path := root.joinpath(*parts)).exists():
            return path
    raise AssetError(f"the shipped file assets/{'/'.join(parts)} is missing; reinstall bodyfit")


def load_assets(source: str | Path, *, gender: str = "neutral") -> BodyAssets:
    """The open body ("open") or an SMPL-format file (.npz, .pkl).

    Raises `AssetError`, naming the file, where it is missing, unreadable or does not hold a consistent body.
    """
    if gender not in GENDERS:
        raise OptionError(f"gender must be one of {', '.join(GENDERS)}, got {gender!r}")
    if str(source) == "open":
        path = asset_path("body", f"open_{gender}.npz")
    else:
        path = Path(source)
        if not path.is_file():
            raise AssetError(f'{path}: no such file; give "open" or the path of an SMPL-format .npz or .pkl')
    arrays = read_archive(path)
    missing = [k for k in ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table") if k not in arrays]
    if missing or not ({"f", "faces"} & arrays.keys()):
        raise AssetError(f"{path}: not an SMPL-format body, it lacks {', '.join(missing or ['f'])}")
    return _validated(path, str(source), gender, arrays)


def read_archive(path: Path) -> dict[str, Any]:
    """The arrays of an npz (never unpickling) or, by the allow-listed reader, of a pickle."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head[:2] != b"PK":
            return read_pickle(path)
        with zipfile.ZipFile(path) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > _MAX_BYTES:
            raise AssetError(f"{path}: {size >> 20} MiB when unpacked is more than any body model; refused")
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except AssetError:
        raise
    except OSError as error:
        raise AssetError(f"{path}: cannot be read: {error.strerror or error}") from None
    except MemoryError:
        raise AssetError(f"{path}: refused, it asks for too much memory") from None
    except Exception as error:  # zipfile, zlib and numpy raise whatever the bytes make them stumble over
        raise AssetError(f"{path}: a damaged or unsafe npz: {error}") from None


def _validated(path: Path, name: str, gender: str, arrays: dict[str, Any]) -> BodyAssets:
    """The arrays as float64 with every shape and law checked."""

    def numbers(key: str) -> np.ndarray:
        return _numbers(path, arrays, key)

    template, shapedirs, regressor, weights = (
        numbers(k) for k in ("v_template", "shapedirs", "J_regressor", "weights")
    )
    n_v, n_j = len(template), len(SMPL.names)
    parents = _parents(path, numbers("kintree_table"))
    posedirs = numbers("posedirs") if "posedirs" in arrays else np.zeros((n_v, 3, 9 * (n_j - 1)))
    faces = numbers("f" if "f" in arrays else "faces").astype(np.int64)
    for key, array, shape in (
        ("v_template", template, (n_v, 3)),
        ("shapedirs", shapedirs, (n_v, 3, shapedirs.shape[-1])),
        ("posedirs", posedirs, (n_v, 3, 9 * (n_j - 1))),
        ("J_regressor", regressor, (n_j, n_v)),
        ("weights", weights, (n_v, n_j)),
        ("f", faces, (len(faces), 3)),
    ):
        if array.shape != shape:
            raise AssetError(f"{path}: {key} has shape {array.shape}, expected {shape} for the 24-joint SMPL layout")
    if faces.size == 0 or faces.min() < 0 or faces.max() >= n_v:
        raise AssetError(f"{path}: f must name vertices 0 to {n_v - 1}")
    off = np.abs(weights.sum(1) - 1).max()
    if weights.min() < -1e-6 or off > 1e-3:
        raise AssetError(f"{path}: weights must be non-negative and sum to 1 a vertex (off by up to {off:.2g})")
    uv, uv_faces = (numbers("vt"), numbers("ft").astype(np.int64)) if {"vt", "ft"} <= arrays.keys() else (None, None)
    if uv is not None and uv_faces is not None:
        fits = uv.shape == (len(uv), 2) and uv_faces.shape == faces.shape
        if not fits or uv_faces.min() < 0 or uv_faces.max() >= len(uv):
            raise AssetError(f"{path}: vt must be (T, 2) and ft three of its rows for each of the {len(faces)} faces")
    stated = str(arrays.get("gender", gender))
    return BodyAssets(
        name=name,
        gender=stated if stated in GENDERS else gender,
        v_template=template,
        shapedirs=shapedirs,
        posedirs=posedirs,
        J_regressor=regressor,
        weights=weights / weights.sum(1, keepdims=True),
        parents=parents,
        faces=faces,
        keypoints=_keypoints(path, arrays, n_v),
        uv=uv,
        uv_faces=uv_faces,
    )


def _numbers(path: Path, arrays: dict[str, Any], key: str) -> np.ndarray:
    """One array as finite float64, with at least one axis."""
    try:
        array = np.atleast_1d(np.asarray(arrays[key], dtype=np.float64))
    except (TypeError, ValueError):
        raise AssetError(f"{path}: {key} is not numeric") from None
    if not np.isfinite(array).all():
        raise AssetError(f"{path}: {key} holds NaN or infinity")
    return array


def _parents(path: Path, table: np.ndarray) -> tuple[int, ...]:
    """Row 0 of kintree_table, the root's 2**32 - 1 as -1; the tree must be SMPL's."""
    if table.ndim != 2 or table.shape[0] != 2:
        raise AssetError(f"{path}: kintree_table must be (2, J), got {table.shape}")
    parents = tuple(-1 if p < 0 or p >= 2**31 else int(p) for p in table[0])
    if parents != SMPL.parents:
        raise AssetError(
            f"{path}: a kinematic tree of {len(parents)} joints that is not SMPL's 24; "
            "this version fits the SMPL layout"
        )
    return parents


def _keypoints(path: Path, arrays: dict[str, Any], n_v: int) -> dict[str, np.ndarray]:
    """Regressors of surface points: the file's own, or single vertices where the mesh is SMPL's."""
    if "keypoint_regressor" in arrays:
        rows = _numbers(path, arrays, "keypoint_regressor")
        names = [str(n) for n in np.atleast_1d(arrays.get("keypoint_names", ()))]
        if rows.shape != (len(names), n_v):
            raise AssetError(f"{path}: keypoint_regressor has shape {rows.shape}, expected {(len(names), n_v)}")
        return dict(zip(names, rows, strict=True))
    if n_v != 6890:
        return {}
    return {name: np.eye(1, n_v, vertex)[0] for name, vertex in _SMPL_VERTEX_KEYPOINTS.items()}
