"""Read benchmarks' annotation files as users have them, without executing anything in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bodyfit.body.files.archive import read_archive
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.picture_sets import AGORA_EXPORT, agora, h36m_pictures, h36m_positions
from bodyfit.evaluate.sequence import Models, Sequence, array, as_params, in_camera, model_for, rigid
from bodyfit.skeleton import SMPL

__all__ = ["Sequence", "dataset_of", "read_3dpw", "read_agora", "read_annotations", "read_emdb", "read_h36m"]

_GENDERS = {"m": "male", "f": "female", "male": "male", "female": "female", "neutral": "neutral"}
_SAME_BODY_M = 0.05
"""Largest variation of the root's rest position between jointPositions and trans of 3DPW in an intact file."""

_SIGNATURES: dict[str, frozenset[str]] = {
    "3dpw": frozenset({"poses", "trans", "cam_poses", "jointPositions"}),
    "emdb": frozenset({"smpl", "camera", "good_frames_mask"}),
    "agora": frozenset({"gt_joints_3d", "imgPath"}),
    "h36m": frozenset({"S", "imgname"}),
    "h36m positions": frozenset({"positions_3d"}),
}
"""Keys by which the data sets' files are recognised."""


def dataset_of(arrays: Mapping[str, Any]) -> str | None:
    """Name the data set whose files have these keys, or None."""
    return next((name for name, keys in _SIGNATURES.items() if keys <= arrays.keys()), None)


def read_annotations(path: str | Path, *, models: Models = None) -> list[Sequence]:
    """Read the people of a 3DPW, EMDB, AGORA or H36M annotation file, recognised by its content.

    models: as in `read_3dpw` and `read_emdb`. Raises `AssetError`, naming the file.
    """
    path = Path(path)
    arrays = _read(path)
    dataset = dataset_of(arrays)
    if dataset is None:
        raise AssetError(f"{path}: not an annotation file of 3DPW, EMDB, AGORA or H36M that is known here")
    if dataset == "3dpw":
        return _3dpw(path, arrays, models)
    if dataset == "emdb":
        return [_emdb(path, arrays, models)]
    if dataset == "agora":
        return [agora(path, arrays)]
    return [h36m_pictures(path, arrays)] if dataset == "h36m" else h36m_positions(path)


def read_3dpw(path: str | Path, *, models: Models = None) -> list[Sequence]:
    """Read the one or two people of a sequenceFiles/*/*.pkl of 3DPW (von Marcard et al. 2018), 30 frames a second.

    cam_poses transform world to camera axes; frames whose campose_valid is false are kept with `valid` False and NaN in
    joints3d and params (`only_valid` drops them). joints3d are the file's jointPositions, smpl24. betas are the first
    10. The transform of parameters needs the root's rest position: that of `models` if given, else from jointPositions
    and trans. Raises `AssetError`, naming the file.
    """
    return _3dpw(Path(path), _expect(Path(path), "3dpw"), models)


def read_emdb(path: str | Path, *, models: Models) -> Sequence:
    """Read a *_data.pkl of EMDB (Kaufmann et al. 2023), 30 frames a second; `valid` is good_frames_mask.

    The file has no joints: joints3d (smpl24) are computed from its parameters by the SMPL body of `models`, and
    transformed to camera axes by the extrinsics. Raises `AssetError`, naming the file, and `OptionError`.
    """
    return _emdb(Path(path), _expect(Path(path), "emdb"), models)


def read_agora(path: str | Path) -> Sequence:
    """Read an export of AGORA's *_withjv.pkl (Patel et al. 2021), an item a person, in camera axes.

    Those files are pickled pandas tables, which cannot be read without executing them; convert each once with pandas,
    by the program `AGORA_EXPORT`. joints3d are smpl24, or smpl22 of SMPL-X's 127. valid is isValid. Raises
    `AssetError`, naming the file.
    """
    return agora(Path(path), _expect(Path(path), "agora"))


def read_h36m(path: str | Path, *, camera: str | None = None) -> list[Sequence]:
    """Read Human3.6M (Ionescu et al. 2014) as preprocessed by others, since its own files cannot be shared.

    h36m_valid_protocol{1,2}.npz: imgname and S (N, 24, 4) or (N, 17, 4), metres about the pelvis in camera axes with a
    confidence -> one sequence, h36m17. `camera` selects pictures with this in their name (60457274 is
    the frontal camera of protocol 2). data_3d_h36m.npz: positions_3d, metres in world axes, 50 frames a second -> one
    sequence for each subject and action, h36m17. Raises `AssetError`, naming the file.
    """
    path = Path(path)
    arrays = _read(path)
    dataset = dataset_of(arrays)
    if dataset == "h36m":
        return [h36m_pictures(path, arrays, camera=camera)]
    if dataset != "h36m positions":
        raise AssetError(f"{path}: not an H36M file; expected imgname and S, or positions_3d")
    if camera is not None:
        raise OptionError(f"{path} holds positions in world axes, of no camera; leave camera out")
    return h36m_positions(path)


def _expect(path: Path, dataset: str) -> dict[str, Any]:
    """Read the file of a known data set. Raises `AssetError` where it lacks keys."""
    arrays = _read(path)
    missing = sorted(_SIGNATURES[dataset] - arrays.keys())
    if missing:
        raise AssetError(f"{path}: not a {dataset.upper()} file, it lacks {', '.join(missing)}")
    return arrays


def _read(path: Path) -> dict[str, Any]:
    """Read a file's arrays. Raises `AssetError`, for a pandas table with the program that converts it."""
    try:
        return read_archive(path)
    except AssetError as error:
        if "pandas" not in str(error):
            raise
        raise AssetError(
            f"{path}: a pandas table, which cannot be read safely; convert it once: {AGORA_EXPORT}"
        ) from None


def _gender(path: Path, value: Any) -> str:
    """Return the gender that a file names. Raises `AssetError`."""
    if str(value) not in _GENDERS:
        raise AssetError(f"{path}: gender {ascii(str(value))[:20]} is none of m, f, male, female, neutral")
    return _GENDERS[str(value)]


def _frames(path: Path, key: str, value: Any, n: int) -> np.ndarray:
    """Return a mask of frames, which files hold as booleans or as 0 and 1. Raises `AssetError`."""
    return array(path, key, value, (n,)) != 0


def _3dpw(path: Path, data: Mapping[str, Any], models: Models) -> list[Sequence]:
    """Make the sequences of all people of a 3DPW file. Raises `AssetError`."""
    needed = ("genders", "betas", "poses2d", "cam_intrinsics", "campose_valid")
    missing = [key for key in needed if key not in data]
    if missing:
        raise AssetError(f"{path}: a 3DPW sequence that lacks {', '.join(missing)}")
    people = len(data["poses"]) if isinstance(data["poses"], list | tuple | np.ndarray) else -1
    for key in ("trans", "jointPositions", "genders", "betas", "poses2d", "campose_valid"):
        if not isinstance(data[key], list | tuple | np.ndarray) or len(data[key]) != people:
            raise AssetError(f"{path}: {key} must have an entry for each person, as poses")
    return [_3dpw_person(path, data, models, person) for person in range(people)]


def _3dpw_person(path: Path, data: Mapping[str, Any], models: Models, person: int) -> Sequence:
    """Make the sequence of one person of a 3DPW file. Raises `AssetError`."""
    poses = array(path, "poses", data["poses"][person], (None, 72))
    n = len(poses)
    trans = array(path, "trans", data["trans"][person], (n, 3))
    world = array(path, "jointPositions", data["jointPositions"][person], (n, 3 * len(SMPL))).reshape(n, -1, 3)
    betas = np.ravel(array(path, "betas", data["betas"][person], None))[:10]
    cameras = array(path, "cam_poses", data["cam_poses"], (n, 4, 4))
    valid = _frames(path, "campose_valid", data["campose_valid"][person], n)
    rigid(path, "cam_poses", cameras, valid)
    gender = _gender(path, data["genders"][person])
    array(path, "jointPositions", world, (n, None, 3), metres=True)
    world_params = as_params(poses, trans, betas)
    model = model_for(models, gender)
    rest = world[:, 0] - trans
    if n and np.abs(rest - np.median(rest, 0)).max() > _SAME_BODY_M:
        raise AssetError(f"{path}: jointPositions and trans of person {person} are not of one body; fetch it again")
    rest = np.broadcast_to(np.median(rest, 0), (n, 3)).copy() if model is None or not n else _rest(model, world_params)
    params = in_camera(world_params, _nan_invalid(cameras, valid), rest)
    joints = world @ cameras[:, :3, :3].transpose(0, 2, 1) + cameras[:, None, :3, 3]
    keypoints = array(path, "poses2d", data["poses2d"][person], (n, 3, 18)).transpose(0, 2, 1)
    name = str(data.get("sequence", path.stem))
    return Sequence(
        dataset="3dpw",
        name=name,
        person=person,
        gender=gender,
        joints3d=np.where(valid[:, None, None], joints, np.nan),
        joint_set="smpl24",
        valid=valid,
        frame=np.arange(n),
        images=tuple(f"imageFiles/{name}/image_{i:05d}.jpg" for i in range(n)),
        fps=30.0,
        params=params,
        camera_from_world=cameras,
        intrinsics=array(path, "cam_intrinsics", data["cam_intrinsics"], (3, 3)),
        keypoints2d=np.ascontiguousarray(keypoints),
        keypoints2d_layout="openpose18",
    )


def _nan_invalid(cameras: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Replace invalid extrinsics by NaN."""
    return np.where(valid[:, None, None], cameras, np.nan)


def _rest(model: BodyModel, params: BodyParams) -> np.ndarray:
    """Return the root's position on the shaped body in the T-pose, (T, 3) metres."""
    with torch.no_grad():
        return model.rest_joints(model.coefficients(model.params(**params)))[:, 0].numpy()


def _emdb(path: Path, data: Mapping[str, Any], models: Models) -> Sequence:
    """Make the sequence of an EMDB file. Raises `AssetError` and `OptionError`."""
    smpl, camera = data["smpl"], data["camera"]
    required = (("smpl", smpl, ("poses_root", "poses_body", "trans", "betas")),)
    for name, part, keys in (*required, ("camera", camera, ("intrinsics", "extrinsics"))):
        if not isinstance(part, dict) or not set(keys) <= part.keys():
            raise AssetError(f"{path}: {name} must hold {', '.join(keys)}")
    root = array(path, "poses_root", smpl["poses_root"], (None, 3))
    n = len(root)
    body = array(path, "poses_body", smpl["poses_body"], (n, 69))
    trans = array(path, "trans", smpl["trans"], (n, 3))
    betas = np.ravel(array(path, "betas", smpl["betas"], None))[:10]
    cameras = array(path, "extrinsics", camera["extrinsics"], (n, 4, 4))
    rigid(path, "extrinsics", cameras, np.ones(n, bool))
    gender = _gender(path, data.get("gender", "neutral"))
    model = model_for(models, gender)
    if model is None or model.num_joints != len(SMPL):
        raise OptionError(f"{path} holds parameters of the {gender} SMPL body and no joints; give that model's file")
    world_params = as_params(np.concatenate([root, body], 1), trans, betas)
    params = in_camera(world_params, cameras, _rest(model, world_params))
    with torch.no_grad():
        joints = model.joints(model.params(**params)).numpy()
    keypoints = None
    if "kp2d" in data:
        kp2d = array(path, "kp2d", data["kp2d"], (n, len(SMPL), 2))
        keypoints = np.concatenate([kp2d, np.ones((n, len(SMPL), 1))], 2)
    name = str(data.get("name", path.stem.removesuffix("_data")))
    sequence = Sequence(
        dataset="emdb",
        name=name,
        person=0,
        gender=gender,
        joints3d=joints,
        joint_set="smpl24",
        valid=_frames(path, "good_frames_mask", data["good_frames_mask"], n),
        frame=np.arange(n),
        images=tuple(f"images/{i:05d}.jpg" for i in range(n)),
        fps=30.0,
        params=params,
        camera_from_world=cameras,
        intrinsics=array(path, "intrinsics", camera["intrinsics"], (3, 3)),
    )
    return sequence if keypoints is None else replace(sequence, keypoints2d=keypoints, keypoints2d_layout="smpl24")
