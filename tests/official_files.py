"""Small random bodies that obey SMPL's laws, written in each layout in which body models are published."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from conftest import REST_JOINTS

from bodyfit.body.families.kinds import FAMILIES
from bodyfit.skeleton import SMPL

__all__ = ["FORMS", "Form", "body_arrays", "python2_pickle", "write"]

PER_JOINT = 4
"""Vertices about each joint."""


def rest_joints(kind: str, rng: np.random.Generator) -> np.ndarray:
    """(J, 3) metres: SMPL's T-pose where it has the joint; fingers run out along x, the rest strays from its parent."""
    skeleton = FAMILIES[kind].skeleton
    joints = np.zeros((len(skeleton), 3))
    for j, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        outward = 0.03 * np.array([1.0 if name.startswith("left") else -1.0, 0, 0]) if name[-1] in "123" else 0.0
        joints[j] = (joints[parent] if parent >= 0 else 0) + outward + 0.01 * rng.standard_normal(3)
        if name in SMPL.names:
            joints[j] = REST_JOINTS[SMPL.index(name)]
    return joints


def body_arrays(kind: str, *, columns: int = 10, seed: int = 0, local: bool = False) -> dict[str, Any]:
    """Plain arrays by the official keys; every number is one of float32, to which smplx rounds what it reads.

    columns: of shapedirs. local: pose blend shapes act on a tenth of the vertices, else on all.
    """
    layout, rng = FAMILIES[kind], np.random.default_rng(seed)
    n_j = len(layout.skeleton)
    n_v = PER_JOINT * n_j
    owner = np.repeat(np.arange(n_j), PER_JOINT)
    parents = np.array(layout.skeleton.parents)
    corners = 0.03 * rng.standard_normal((n_j, PER_JOINT // 2, 3))
    vertices = rest_joints(kind, rng)[:, None] + np.concatenate([corners, -corners], 1)
    weights = np.zeros((n_v, n_j))
    weights[np.arange(n_v), owner] += 0.625
    weights[np.arange(n_v), np.maximum(parents[owner], 0)] += 0.25
    weights[np.arange(n_v), rng.integers(0, n_j, n_v)] += 0.125
    posedirs = 0.003 * rng.standard_normal((n_v, 3, layout.pose_features))
    if local:
        posedirs = posedirs.reshape(n_v, 3, -1, 9) * (rng.random((n_v, 1, n_j - 1, 1)) < 0.1)
    arrays = {
        "v_template": vertices.reshape(-1, 3),
        "shapedirs": 0.01 * rng.standard_normal((n_v, 3, columns)),
        "posedirs": posedirs.reshape(n_v, 3, -1),
        "J_regressor": np.kron(np.eye(n_j), np.full((1, PER_JOINT), 1 / PER_JOINT)),
        "weights": weights,
        "kintree_table": np.stack([parents % 2**32, np.arange(n_j)]),
        "f": rng.permutation(n_v - n_v % 3).reshape(-1, 3),
        **_hands(kind, rng),
    }
    if kind in ("smplx",):
        n_f = len(arrays["f"])
        arrays |= {
            "lmk_faces_idx": rng.integers(0, n_f, 51),
            "lmk_bary_coords": rng.dirichlet(np.ones(3), 51),
            "dynamic_lmk_faces_idx": rng.integers(0, n_f, (79, 17)),
            "dynamic_lmk_bary_coords": rng.dirichlet(np.ones(3), (79, 17)),
            "vt": rng.random((2 * n_v, 2)),
            "ft": rng.integers(0, 2 * n_v, (n_f, 3)),
        }
    return {key: _rounded(value) for key, value in arrays.items()}


def _rounded(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32).astype(np.float64) if array.dtype.kind == "f" else array


def _hands(kind: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    def space(suffix: str) -> dict[str, np.ndarray]:
        basis = np.linalg.qr(rng.standard_normal((45, 45)))[0]
        coefficients = rng.standard_normal((30, 45))
        return {
            f"hands_mean{suffix}": 0.2 * rng.standard_normal(45),
            f"hands_components{suffix}": basis,
            f"hands_coeffs{suffix}": coefficients,
        }

    if kind.startswith("mano"):
        return space("")
    return space("l") | space("r") if kind in ("smplh", "smplx") else {}


class _Python2(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote both: as byte strings."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def _string(self, value: str | bytes) -> None:
        raw = value.encode("latin-1") if isinstance(value, str) else value
        head = b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))
        self.write(head + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = _string


def python2_pickle(value: Any) -> bytes:
    """As `cPickle.dump(value, file, 2)` of Python 2 with the scipy of its day."""
    out = io.BytesIO()
    _Python2(out, 2).dump(value)
    return out.getvalue().replace(b"cscipy.sparse._csc\n", b"cscipy.sparse.csc\n")


def _chumpy_body(arrays: dict[str, Any]) -> dict[str, Any]:
    """As the authors' Python 2 held it: chumpy arrays, one of them a selection, and a sparse regressor."""
    import chumpy

    n_v = len(arrays["v_template"])
    wide = np.concatenate([arrays["shapedirs"], np.ones((n_v, 3, 3))], 2)
    return {
        **arrays,
        "J_regressor_prior": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "f": arrays["f"].astype(np.uint32),
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "kintree_table": arrays["kintree_table"].astype(np.uint32),
        "J": chumpy.array(arrays["J_regressor"] @ arrays["v_template"]),
        "weights_prior": arrays["weights"],
        "weights": chumpy.array(arrays["weights"]),
        "vert_sym_idxs": np.arange(n_v)[::-1].copy(),
        **({"posedirs": chumpy.array(arrays["posedirs"])} if "posedirs" in arrays else {}),
        "bs_style": "lbs",
        "v_template": chumpy.array(arrays["v_template"]),
        "shapedirs": chumpy.array(wide)[:, :, : wide.shape[2] - 3],
        "bs_type": "lrotmin",
    }


def _as_chumpy(path: Path, arrays: dict[str, Any]) -> None:
    path.write_bytes(python2_pickle(_chumpy_body(arrays)))


def _as_clean(path: Path, arrays: dict[str, Any]) -> None:
    """As the common script that removes chumpy leaves it."""
    plain = {**arrays, "bs_type": "lrotmin", "bs_style": "lbs", "f": arrays["f"].astype(np.uint32)}
    path.write_bytes(pickle.dumps(plain | {"J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"])}, 2))


def _as_merged(path: Path, arrays: dict[str, Any]) -> None:
    """As smplx's script that gives SMPL-H the hands of MANO: a Python 3 pickle of arrays and the sparse regressor."""
    clean = {
        **arrays,
        "bs_type": "lrotmin",
        "bs_style": "lbs",
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
    }
    path.write_bytes(pickle.dumps(clean))


def _as_npz(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays, bs_type="lrotmin", bs_style="lbs")


def _as_smplx_npz(path: Path, arrays: dict[str, Any]) -> None:
    """With members that are Python objects, as the published npz has them."""
    objects = {"joint2num": {"pelvis": 0}, "part2num": {"head": 15}}
    boxed = {key: np.array(value, dtype=object) for key, value in objects.items()}
    np.savez(path, **arrays, **boxed)


def _as_star(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **{k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in arrays.items()})


def _as_flame(path: Path, arrays: dict[str, Any]) -> None:
    """With the file beside it that smplx wants."""
    _as_chumpy(path, arrays)
    n_f = len(arrays["f"])
    landmarks = {"lmk_face_idx": np.arange(51) % n_f, "lmk_b_coords": np.full((51, 3), 1 / 3)}
    (path.parent / "flame_static_embedding.pkl").write_bytes(pickle.dumps(landmarks, 2))


@dataclass(frozen=True)
class Form:
    """One published form of file."""

    kind: str
    """Of the body in it."""
    file: str
    """Its name below the folder of models."""
    columns: int
    """Of its shapedirs."""
    writer: Callable[[Path, dict[str, Any]], None]
    """Writes the arrays to a path."""
    local: bool = False
    """Whether pose blend shapes act on a few vertices only."""


FORMS = {
    "SMPL v1.0 pkl": Form("smpl", "smpl/SMPL_NEUTRAL.pkl", 10, _as_chumpy),
    "SMPL v1.1 pkl": Form("smpl", "smpl/SMPL_FEMALE.pkl", 300, _as_chumpy, local=True),
    "SMPL clean pkl": Form("smpl", "smpl/SMPL_MALE.pkl", 10, _as_clean),
    "SMPL npz": Form("smpl", "smpl/SMPL_NEUTRAL.npz", 10, _as_npz),
    "SMPL-H pkl": Form("smplh", "smplh/SMPLH_FEMALE.pkl", 10, _as_chumpy),
    "SMPL-H npz": Form("smplh", "smplh/SMPLH_MALE.npz", 16, _as_npz, local=True),
    "SMPL-H merged pkl": Form("smplh", "smplh/SMPLH_NEUTRAL.pkl", 16, _as_merged),
    "SMPL-X npz": Form("smplx", "smplx/SMPLX_NEUTRAL.npz", 400, _as_smplx_npz, local=True),
    "SMPL-X short npz": Form("smplx", "smplx/SMPLX_FEMALE.npz", 20, _as_smplx_npz),
    "SMPL-X pkl": Form("smplx", "smplx/SMPLX_MALE.pkl", 400, _as_clean),
    "STAR npz": Form("star", "star/STAR_NEUTRAL.npz", 300, _as_star),
    "MANO right pkl": Form("mano_right", "mano/MANO_RIGHT.pkl", 10, _as_chumpy),
    "MANO left pkl": Form("mano_left", "mano/MANO_LEFT.pkl", 10, _as_chumpy),
    "FLAME pkl": Form("flame", "flame/FLAME_NEUTRAL.pkl", 400, _as_flame),
    "FLAME short pkl": Form("flame", "flame_short/FLAME_FEMALE.pkl", 20, _as_flame, local=True),
}


def write(folder: Path, form: str, **options: Any) -> tuple[Path, dict[str, Any]]:
    """A file of that form below a folder, and the plain arrays that it holds."""
    made = FORMS[form]
    arrays = body_arrays(made.kind, columns=made.columns, local=made.local, **options)
    path = folder / made.file
    path.parent.mkdir(parents=True, exist_ok=True)
    made.writer(path, arrays)
    return path, arrays
