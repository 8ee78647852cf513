"""Read RICH (Huang et al. 2022): people before static cameras in scanned places, as SMPL-X bodies in world axes.

The test part holds test/SEQUENCE/cam_NN/FRAME_NN.jpeg, test_body/SEQUENCE/FRAME/SUBJECT.pkl (one SMPL-X body each:
betas, global_orient, body_pose, transl) and scan_calibration/SCENE/calibration/NNN.xml of OpenCV; a SEQUENCE is
SCENE_SUBJECT_ACTION. The genders are in the gender.json that comes with the data set's toolkit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.files.archive import read_archive
from bodyfit.body.model import BodyModel
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.sequence import Models, Sequence, array, in_camera, model_for, rigid

__all__ = ["read_rich"]

_BODY = {"betas": 10, "global_orient": 3, "body_pose": 63, "transl": 3}
_GENDERS = ("male", "female", "neutral")


def read_rich(folder: str | Path, sequence: str, camera: str, *, models: Models) -> list[Sequence]:
    """Read the people of one sequence of the test part before one camera ("cam_00"), 30 frames a second.

    joints3d are smpl22, of the SMPL-X body of `models` (any model of 21 body joints serves), in camera axes. `images`
    are relative to the folder. Raises `AssetError`, naming the file, and `OptionError`.
    """
    folder = Path(folder)
    bodies: dict[str, dict[int, Path]] = {}
    for path in sorted((folder / "test_body" / sequence).glob("*/*.pkl")):
        if not path.parent.name.isdigit():
            raise AssetError(f"{path.parent}: frames of RICH are numbered folders")
        bodies.setdefault(path.stem, {})[int(path.parent.name)] = path
    if not bodies:
        raise AssetError(f"{folder}: no bodies in test_body/{sequence}")
    genders = _genders(folder / "gender.json")
    found = []
    for number, (subject, paths) in enumerate(bodies.items()):
        gender = genders.get(subject.lstrip("0") or "0", "")
        if gender not in _GENDERS:
            raise AssetError(f"{folder / 'gender.json'}: no gender, male, female or neutral, of subject {subject}")
        model = model_for(models, gender)
        if model is None or "body_pose" not in model.params() or model.params().body_pose.shape[1] < _BODY["body_pose"]:
            raise OptionError(f"{folder} holds parameters of SMPL-X and no joints; give that model's folder")
        found.append(_before_camera(folder, sequence, paths, number, model, camera))
    return found


def _before_camera(
    folder: Path, sequence: str, paths: dict[int, Path], person: int, model: BodyModel, camera: str
) -> Sequence:
    """Make the sequence of one person before one camera, with the frames that have a body."""
    number = camera.removeprefix("cam_")
    if not number.isdigit():
        raise AssetError(f"{folder / 'test' / sequence / camera}: cameras of RICH are folders cam_NN")
    K, motion = _calibration(folder, sequence, number)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in _BODY}
    for path in paths.values():
        own = read_archive(path)
        for name, width in _BODY.items():
            values = np.ravel(array(path, name, own.get(name), None))
            if len(values) < width:
                raise AssetError(f"{path}: {name} has {len(values)} numbers, expected {width}")
            rows[name].append(values[:width])
    n, width = len(paths), model.params().body_pose.shape[1]
    pose = np.zeros((n, width))
    pose[:, : _BODY["body_pose"]] = np.stack(rows["body_pose"])
    own = {name: np.stack(rows[name]) for name in ("global_orient", "transl")} | {"body_pose": pose}
    own["betas"] = np.stack(rows["betas"])[:, : model.num_betas]
    world = model.params(**{name: torch.from_numpy(values) for name, values in own.items()})
    cameras = np.tile(motion, (n, 1, 1))
    with torch.no_grad():
        rest = model.rest_joints(model.coefficients(world))[:, 0].numpy()
        params = in_camera(world, cameras, rest)
        joints = model.joints(params)[:, :22].numpy()
    return Sequence(
        dataset="rich",
        name=f"{sequence}/{camera}",
        person=person,
        gender=model.gender,
        joints3d=joints,
        joint_set="smpl22",
        valid=np.ones(n, bool),
        frame=np.array(list(paths)),
        images=tuple(f"test/{sequence}/{camera}/{frame:05d}_{number}.jpeg" for frame in paths),
        fps=30.0,
        params=params,
        camera_from_world=cameras,
        intrinsics=K,
    )


def _genders(path: Path) -> dict[str, str]:
    """Read the genders of the subjects, by their numbers without leading zeros. Raises `AssetError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AssetError(
            f"{path}: not readable as JSON ({ascii(str(error)[:80])[1:-1]}); it is in RICH's toolkit"
        ) from None
    if not isinstance(content, dict):
        raise AssetError(f"{path}: holds no genders by subject")
    return {str(subject).lstrip("0") or "0": str(gender) for subject, gender in content.items()}


def _calibration(folder: Path, sequence: str, number: str) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "4 4"]]:
    """Read the camera matrix and the extrinsics of a camera. Raises `AssetError`."""
    path = folder / "scan_calibration" / sequence.split("_")[0] / "calibration" / f"{int(number):03d}.xml"
    K, pose = _matrices(path, {"Intrinsics": (3, 3), "CameraMatrix": (3, 4)})
    motion = np.eye(4)
    motion[:3] = pose
    rigid(path, "CameraMatrix", motion[None], np.ones(1, bool))
    return K, motion


def _matrices(path: Path, shapes: Mapping[str, tuple[int, int]]) -> list[np.ndarray]:
    """Read matrices of OpenCV's XML by their names. Raises `AssetError`."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
        found = [np.array(root.findtext(f"{name}/data", "").split(), np.float64) for name in shapes]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise AssetError(f"{path}: no calibration of OpenCV ({ascii(str(error)[:80])[1:-1]})") from None
    for (name, shape), values in zip(shapes.items(), found, strict=True):
        if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
            raise AssetError(f"{path}: {name} must hold {shape[0]} by {shape[1]} finite numbers")
    return [values.reshape(shape) for values, shape in zip(found, shapes.values(), strict=True)]
