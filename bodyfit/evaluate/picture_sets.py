"""Read the annotation files of AGORA and Human3.6M: people in single pictures, and motions without a camera."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.body.files.safe_pickle import as_array, read_pickle
from bodyfit.errors import AssetError
from bodyfit.evaluate.joint_sets import joint_set
from bodyfit.evaluate.sequence import Sequence, array
from bodyfit.skeleton import LAYOUTS, SMPL

__all__ = ["AGORA_EXPORT", "agora", "h36m_pictures", "h36m_positions"]

AGORA_EXPORT = (
    "import numpy as np, pandas as pd; "
    "d = pd.read_pickle('validation_0_withjv.pkl'); "
    "r = [(p.imgPath, p.gender[i], p.isValid[i], p.occlusion[i], p.gt_joints_2d[i], p.gt_joints_3d[i]) "
    "for p in d.itertuples() for i in range(len(p.gt_joints_3d))]; "
    "k = ('imgPath', 'gender', 'isValid', 'occlusion', 'gt_joints_2d', 'gt_joints_3d'); "
    "np.savez('validation_0.npz', **{n: np.array([x[j] for x in r]) for j, n in enumerate(k)})"
)
"""A program that converts one of AGORA's tables to the npz that `read_agora` reads: a row a person, the table's names
and units. gt_verts (N, V, 3) may be added. It executes the pickle: use it on files that you trust."""

_SPIN24 = {**{name: row for row, name in enumerate(LAYOUTS["lsp14"])}, "pelvis": 14, "spine2": 16, "nose": 17}
_SPIN24["head_top"] = 18
"""Rows of h36m17's points among the 24 of the customary preprocessing (Kolotouros et al. 2019). The top of the head
that counts is Human3.6M's, row 18; LSP's, row 13, is empty in these files."""
_MOST_HIDDEN = 90.0
"""Percent of a person of AGORA that something else hides, up to which the person counts."""
_H36M32_TO_17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Rows of the recorded 32-joint skeleton in the order of h36m17; the others are duplicates or end sites."""


def agora(path: Path, arrays: Mapping[str, Any]) -> Sequence:
    """Make the sequence of an AGORA export; see `read_agora`."""
    raw = array(path, "gt_joints_3d", arrays["gt_joints_3d"], (None, None, 3), metres=True)
    n, n_j = raw.shape[:2]
    # SMPL's tables have the 24 joints, with or without 21 more points of smplx; SMPL-X's have 127 points.
    name = {24: "smpl24", 45: "smpl24", 127: "smpl22"}.get(n_j)
    if name is None:
        raise AssetError(f"{path}: gt_joints_3d has {n_j} joints, expected 24 or 45 (SMPL) or 127 (SMPL-X)")
    images = _texts(path, "imgPath", arrays["imgPath"], n)
    valid = array(path, "isValid", arrays["isValid"], (n,)) != 0 if "isValid" in arrays else np.ones(n, bool)
    if "occlusion" in arrays:  # in percent
        hidden = array(path, "occlusion", arrays["occlusion"], (n,))
        valid &= (hidden >= 0) & (hidden <= _MOST_HIDDEN)
    genders = set(_texts(path, "gender", arrays["gender"], n)) if "gender" in arrays else set()
    vertices = None
    if "gt_verts" in arrays:
        vertices = array(path, "gt_verts", arrays["gt_verts"], (n, None, 3), metres=True)
    keypoints = None
    if "gt_joints_2d" in arrays:
        points = array(path, "gt_joints_2d", arrays["gt_joints_2d"], (n, n_j, 2))[:, :24]
        keypoints = np.concatenate([points, np.ones((*points.shape[:2], 1))], 2)
    return Sequence(
        dataset="agora",
        name=path.stem,
        person=0,
        gender=genders.pop() if len(genders) == 1 else "mixed",
        joints3d=joint_set(name).select(raw[:, : len(joint_set(name).names)], SMPL.names),
        joint_set=name,
        valid=valid,
        frame=np.arange(n),
        images=images,
        fps=None,
        keypoints2d=keypoints,
        keypoints2d_layout="" if keypoints is None else f"{path.stem}.gt_joints_2d",
        vertices=vertices,
    )


def h36m_pictures(path: Path, arrays: Mapping[str, Any], *, camera: str | None = None) -> Sequence:
    """Make the sequence of an H36M file with imgname and S; see `read_h36m`."""
    raw = array(path, "S", arrays["S"], None)
    if raw.ndim != 3 or raw.shape[1] not in (17, 24) or raw.shape[2] not in (3, 4):
        raise AssetError(f"{path}: S has shape {raw.shape}, expected (N, 24, 4) or (N, 17, 4)")
    n = len(raw)
    points = raw[..., :3].copy()
    if raw.shape[2] == 4:
        points[raw[..., 3] <= 0] = np.nan
    names = joint_set("h36m17").names
    if raw.shape[1] == 24:
        points = points[:, [_SPIN24[name] for name in names]]
    array(path, "S", points, (n, None, 3), metres=True)
    images = _texts(path, "imgname", arrays["imgname"], n)
    keypoints = _points_in_pictures(path, arrays, n)
    keep = np.array([camera is None or camera in image for image in images], bool)
    if camera is not None and not keep.any():
        raise AssetError(f"{path}: no picture of camera {camera}")
    return Sequence(
        dataset="h36m",
        name=path.stem,
        person=0,
        gender="neutral",
        joints3d=points[keep],
        joint_set="h36m17",
        valid=np.ones(int(keep.sum()), bool),
        frame=np.flatnonzero(keep),
        images=tuple(image for image, used in zip(images, keep, strict=True) if used),
        fps=None,
        keypoints2d=None if keypoints is None else keypoints[keep],
        keypoints2d_layout="" if keypoints is None else f"{path.stem}.part",
    )


def _points_in_pictures(path: Path, arrays: Mapping[str, Any], n: int) -> np.ndarray | None:
    """Read where people are in their pictures, (N, K, 3): `part`, or two corners of the square of `center` and `scale`
    (its side in 200 pixels); None where the file has neither. Raises `AssetError`."""
    if "part" in arrays:
        return array(path, "part", arrays["part"], (n, None, 3))
    if not {"center", "scale"} <= arrays.keys():
        return None
    centre, half = array(path, "center", arrays["center"], (n, 2)), 100 * array(path, "scale", arrays["scale"], (n,))
    corners = np.stack([centre - half[:, None], centre + half[:, None]], 1)
    return np.concatenate([corners, np.ones((n, 2, 1))], 2)


def h36m_positions(path: Path) -> list[Sequence]:
    """Make the sequences of an H36M file with positions_3d; see `read_h36m`.

    positions_3d is a dict of subjects, each a dict of actions, each (T, 32, 3) or (T, 17, 3). Raises `AssetError`.
    """
    subjects = _objects(path, "positions_3d")
    sequences = []
    for subject, actions in subjects.items():
        if not isinstance(actions, dict):
            raise AssetError(f"{path}: positions_3d must hold the actions of each subject")
        for action, raw in actions.items():
            points = array(path, f"{subject}/{action}", raw, (None, None, 3), metres=True)
            if points.shape[1] not in (17, 32):
                raise AssetError(f"{path}: {subject}/{action} has {points.shape[1]} joints, expected 32 or 17")
            points = points[:, list(_H36M32_TO_17)] if points.shape[1] == 32 else points
            n = len(points)
            sequences.append(
                Sequence(
                    dataset="h36m",
                    name=f"{subject}/{action}",
                    person=0,
                    gender="neutral",
                    joints3d=points,
                    joint_set="h36m17",
                    valid=np.ones(n, bool),
                    frame=np.arange(n),
                    images=("",) * n,
                    fps=50.0,
                    axes="world",
                )
            )
    return sequences


def _objects(path: Path, key: str) -> dict[Any, Any]:
    """Read the one dict in an object array of an npz, by the allow-listed reader. Raises `AssetError`.

    Such an array is a pickle after a header; it is wrapped as the only value of a dict, which the reader accepts.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
            version = np.lib.format.read_magic(member)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = header[version](member)
            program = member.read()
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise AssetError(f"{path}: {key} is damaged: {ascii(str(error)[:120])[1:-1]}") from None
    if shape != () or not dtype.hasobject or program[-1:] != b".":
        raise AssetError(f"{path}: {key} must be one pickled dict, found {dtype} of {shape}")
    with tempfile.TemporaryDirectory() as folder:
        wrapped = Path(folder) / "value.pkl"
        # {"": value}: EMPTY_DICT, the key, the program without its STOP, SETITEM, STOP.
        wrapped.write_bytes(b"\x80\x02}U\x00" + program[:-1] + b"s.")
        try:
            value = read_pickle(wrapped)[""]
        except AssetError as error:
            raise AssetError(str(error).replace(str(wrapped), str(path))) from None
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    if not isinstance(value, dict):
        raise AssetError(f"{path}: {key} must hold a dict, found {type(value).__name__}")
    return value


def _texts(path: Path, key: str, value: Any, n: int) -> tuple[str, ...]:
    """Return n strings of a file. Raises `AssetError`."""
    texts = as_array(value)
    if texts.shape != (n,) or texts.dtype.kind not in "US":
        raise AssetError(f"{path}: {key} must hold {n} texts, found {texts.dtype} of {texts.shape}")
    return tuple(str(text, "utf-8", "replace") if isinstance(text, bytes) else str(text) for text in texts.tolist())
