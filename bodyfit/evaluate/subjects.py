"""Load prediction and ground truth for a comparison from any supported file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.files.archive import UnreadObjects, read_archive
from bodyfit.body.model import BodyModel, BodyOutput, BodyParams, load_model
from bodyfit.errors import AssetError, OptionError
from bodyfit.evaluate.datasets import dataset_of, read_annotations
from bodyfit.evaluate.joint_sets import JointSet, joint_set
from bodyfit.evaluate.scene_sets import is_scenes, read_scenes, scene_body
from bodyfit.evaluate.sequence import Sequence, array, in_float64
from bodyfit.fit.result import model_of
from bodyfit.io.results.params import load_result
from bodyfit.skeleton import LAYOUTS, SMPL

__all__ = ["Subject", "Wanted", "load_subject", "points_of", "subject_of"]

_CHUNK = 64
"""Bodies posed at a time, to bound memory."""
_WIDTHS = {72: "smpl", 66: "", 156: "smplh", 165: "smplx"}
"""Model families by the number of columns of AMASS's `poses`."""


@dataclass(frozen=True)
class Wanted:
    """The points to compare."""

    joints: JointSet
    """The joint set."""
    vertices: bool = False
    """Compare vertices too."""
    regressor: Float[np.ndarray, "17 V"] | None = None
    """Regressor of the points of an h36m set; None for the model's own keypoints."""


@dataclass(frozen=True)
class Subject:
    """Prediction or ground truth: the points of people or frames, metres."""

    points: Float[np.ndarray, "N P 3"]
    """Points in the order of the joint set; NaN where unknown or where the fit failed."""
    valid: Bool[np.ndarray, "N"]
    """Items that count."""
    how: str
    """A phrase for reports that says where the points come from."""
    fps: float | None = None
    """Frames per second, where the items are one motion and the file has it."""
    vertices: Float[np.ndarray, "N V 3"] | None = None
    """Vertices, where they were requested."""
    axes: str = "camera"
    """Axes of the points, as in `Sequence`."""


def load_subject(path: str | Path, wanted: Wanted, *, model: str | Path | None = None, person: int = 0) -> Subject:
    """Load points from a fit, parameters in AMASS's layout, an array of joints, a data set's annotations or scenes.

    Joints are an .npy or the `joints` (or joints3d) of an npz, (N, P, 3) in the order of the joint set, and `vertices`
    (N, V, 3); carried points are optional. model: the body for parameters, as for `load_model` (a folder holds both
    genders); a fit names its own. person: index of the person in an annotation file. A folder
    of `bodyfit scene` has an item for each person of its annotations.json (`read_scenes`). Raises `AssetError` and
    `OptionError`.
    """
    path = Path(path)
    if is_scenes(path):
        return _from_scenes(path, wanted)
    if not path.is_file():
        raise AssetError(f"{path}: no such file; give a fit, parameters, joints or a data set's annotations")
    if path.suffix == ".npy":
        return _from_arrays(path, {"joints": _npy(path)}, wanted)
    if path.suffix == ".pkl":
        return _from_annotations(path, wanted, model, person)
    arrays = read_archive(path)
    if dataset_of(arrays) is not None:
        return _from_annotations(path, wanted, model, person)
    if "bodyfit_format" in arrays and "status" in arrays:
        return _from_fit(path, wanted, model)
    if {"poses", "trans"} <= arrays.keys():
        return _from_parameters(path, arrays, wanted, model)
    return _from_arrays(path, arrays, wanted)


def points_of(
    model: BodyModel, params: BodyParams, wanted: Wanted
) -> tuple[Float[np.ndarray, "N P 3"], Float[np.ndarray, "N V 3"] | None, str]:
    """Compute the points and, if requested, the vertices of posed bodies, with a phrase that says how.

    Raises `OptionError` where the regressor is for another mesh, or the model lacks a joint that counts.
    """
    joints, regressor = wanted.joints, wanted.regressor
    if joints.family == "h36m" and regressor is not None and regressor.shape[1] != len(model.v_template):
        raise OptionError(
            f"the regressor is of a mesh of {regressor.shape[1]} vertices, and {model.name} has {len(model.v_template)}"
        )
    model = in_float64(model)
    points, vertices = [], []
    for start in range(0, params.batch, _CHUNK):
        some = params.select(slice(start, start + _CHUNK)).to("cpu", torch.float64)
        with torch.no_grad():
            # Joints alone are a hundred times cheaper than the mesh.
            cheap = joints.family == "smpl" and not wanted.vertices
            out = model.joints(model.params(**some)) if cheap else model(**some)
        posed = out if isinstance(out, BodyOutput) else None
        joints_cam = out.joints if isinstance(out, BodyOutput) else out
        points.append(_select_points(model, joints_cam, posed, wanted))
        if posed is not None and wanted.vertices:
            vertices.append(
                posed.vertices.numpy().astype(np.float32)
            )  # float32: micrometre precision at half the memory
    n_p = len(joints.points)
    how = f"joints of {model.name} ({model.gender})"
    if joints.family == "h36m":
        how = f"keypoints of {model.name} ({model.gender}), pelvis = middle of the hips"
        how = how if regressor is None else f"regressed from the vertices of {model.name} ({model.gender})"
    all_points = np.concatenate(points) if points else np.empty((0, n_p, 3))
    return all_points, (np.concatenate(vertices) if vertices else None), how


def _select_points(model: BodyModel, joints_cam: Tensor, posed: BodyOutput | None, wanted: Wanted) -> np.ndarray:
    """Compute a joint set's points on posed bodies. Raises `OptionError`."""
    joints = wanted.joints
    if joints.family == "smpl":
        return joints.select(joints_cam.numpy(), model.skeleton.names)
    assert posed is not None
    if wanted.regressor is not None:
        return wanted.regressor[list(joints.regressor_rows)] @ posed.vertices.numpy()
    names = ("pelvis", *LAYOUTS["h36m17"][1:])
    with torch.no_grad():
        return joints.select(model.keypoints(posed, "h36m17").numpy(), names)


def _from_fit(path: Path, wanted: Wanted, model: str | Path | None) -> Subject:
    """Load the points of a fit. Raises `AssetError` and `OptionError`."""
    result = load_result(path)
    good = np.ones(len(result), bool)
    if wanted.joints.family == "smpl" and not wanted.vertices:
        names = SMPL.names[: 24 if result.joints.shape[1] == len(SMPL) else 22]
        points = wanted.joints.select(result.joints.numpy().astype(np.float64)[:, : len(names)], names)
        return Subject(points, good, f"joints of {result.model_name} ({result.gender})")
    body = model_of(result, model, dtype=torch.float64)
    points, vertices, how = points_of(body, result.params, wanted)
    return Subject(points, good, how, vertices=vertices)


def _from_parameters(path: Path, arrays: Mapping[str, Any], wanted: Wanted, model: str | Path | None) -> Subject:
    """Pose parameters in AMASS's layout. Raises `AssetError` and `OptionError`."""
    if model is None:
        raise OptionError(f"{path} holds parameters and does not say of which model; name it (open, or an SMPL file)")
    poses = array(path, "poses", arrays["poses"], (None, None))
    n, width = poses.shape
    trans = array(path, "trans", arrays["trans"], (n, 3))
    if {"bodyfit_format", "global_orient", "transl"} <= arrays.keys():  # ours; its poses and trans are AMASS's, z up
        poses = np.concatenate([array(path, "global_orient", arrays["global_orient"], (n, 3)), poses[:, 3:]], 1)
        trans = array(path, "transl", arrays["transl"], (n, 3))
    if width not in _WIDTHS:
        raise AssetError(f"{path}: poses has {width} columns, expected {', '.join(map(str, _WIDTHS))}")
    gender = str(arrays.get("gender", "neutral")).removeprefix("b").strip("'")  # old files hold the repr of bytes
    betas = np.atleast_2d(array(path, "betas", arrays.get("betas", np.zeros((1, 0))), None))
    body = load_model(model, gender=gender, num_betas=max(10, betas.shape[1]), dtype=torch.float64)
    if betas[:, body.num_betas :].any():
        raise OptionError(f"{path}: {betas.shape[1]} betas, and {body.name} has {body.num_betas}")
    betas = betas[:, : body.num_betas]
    if _WIDTHS[width] not in ("", body.kind.name.replace("star", "smpl")):
        raise OptionError(f"{path}: poses of {width} columns are not of {body.name}, a {body.kind.title} body")
    parts: dict[str, np.ndarray] = {"global_orient": poses[:, :3], "body_pose": poses[:, 3 : 72 if width == 72 else 66]}
    if width > 72:  # the hands come last; SMPL-X has jaw and eyes before them
        parts |= {"left_hand_pose": poses[:, -90:-45], "right_hand_pose": poses[:, -45:]}
    if width == 165:
        parts |= {k: poses[:, 66 + 3 * i : 69 + 3 * i] for i, k in enumerate(("jaw_pose", "leye_pose", "reye_pose"))}
    if width == 66:
        extra = [name for name, _ in body.kind.poses if name in arrays]
        parts |= {name: array(path, name, arrays[name], (n, None)) for name in [*extra, "expression"] if name in arrays}
    parts |= {
        "transl": trans,
        "betas": np.broadcast_to(betas, (n, betas.shape[1])),
    }
    params = body.params(**{k: torch.from_numpy(np.array(v)) for k, v in parts.items()})
    points, vertices, how = points_of(body, params, wanted)
    return Subject(points, np.ones(n, bool), how, _rate(path, arrays), vertices)


def _from_arrays(path: Path, arrays: Mapping[str, Any], wanted: Wanted) -> Subject:
    """Load arrays of joints and vertices. Raises `AssetError` and `OptionError`."""
    key = next((key for key in ("joints", "joints3d") if key in arrays), None)
    if key is None or isinstance(arrays[key], UnreadObjects):
        raise AssetError(
            f"{path}: neither a fit, parameters (poses, trans), joints nor annotations of a known data set"
        )
    raw = array(path, key, arrays[key], (None, None, 3), metres=True)
    joints = wanted.joints
    if raw.shape[1] not in (len(joints.names), len(joints.points)):
        raise OptionError(f"{path}: {key} has {raw.shape[1]} joints, and {joints.name} has {len(joints.names)}")
    points = joints.select(raw, joints.points[: raw.shape[1]])
    vertices = None
    if wanted.vertices and "vertices" in arrays:
        vertices = array(path, "vertices", arrays["vertices"], (len(raw), None, 3), metres=True)
    return Subject(points, np.ones(len(raw), bool), f"{key} of the file", _rate(path, arrays), vertices)


def _from_annotations(path: Path, wanted: Wanted, model: str | Path | None, person: int) -> Subject:
    """Load the points of one person of an annotation file. Raises `AssetError` and `OptionError`."""
    models = None if model is None else cache(lambda gender: load_model(model, gender=gender, dtype=torch.float64))
    people = read_annotations(path, models=models)
    if not 0 <= person < len(people):
        raise OptionError(f"{path} has {len(people)} people or motions, numbered from 0; there is no {person}")
    return subject_of(people[person], wanted, models=models, source=path)


def subject_of(
    sequence: Sequence, wanted: Wanted, *, models: Callable[[str], BodyModel] | None, source: str | Path
) -> Subject:
    """Take the points of an annotated person: the annotated joints, or those that its parameters pose.

    models: the body of a gender, None for joints alone. source: what errors name. Raises `OptionError`.
    """
    own = joint_set(sequence.joint_set)
    name = ascii(sequence.name)[1:-1]  # escaped, for a file's text may hold control characters
    same = own.family == wanted.joints.family
    posed: tuple[np.ndarray, np.ndarray | None, str] | None = None
    if sequence.params is not None and models is not None and (not same or wanted.vertices):
        posed = points_of(models(sequence.gender), sequence.params, wanted)
    if same:
        points = wanted.joints.select(sequence.joints3d, own.points)
        how = f"joints of {sequence.dataset}, {name}, person {sequence.person}"
    elif posed is None:
        raise OptionError(
            f"{source} has {own.name} and not {wanted.joints.name}; "
            + (
                "choose other joints"
                if sequence.params is None
                else f"give its {sequence.gender} SMPL body and a regressor"
            )
        )
    else:
        points, how = posed[0], f"{posed[2]}, {sequence.dataset} {name}, person {sequence.person}"
    vertices = sequence.vertices if posed is None else posed[1]
    return Subject(points, sequence.valid, how, sequence.fps, vertices if wanted.vertices else None, sequence.axes)


def _from_scenes(folder: Path, wanted: Wanted) -> Subject:
    """Pose the people of a folder of scenes, in the order of its annotations. Raises `AssetError` and `OptionError`."""
    name, sequences = scene_body(folder), read_scenes(folder)
    people = sum(map(len, sequences))
    points = np.full((people, len(wanted.joints.points), 3), np.nan)
    vertices: np.ndarray | None = None
    for sequence in sequences:
        assert sequence.params is not None
        own, posed, _ = points_of(load_model(name, gender=sequence.gender), sequence.params, wanted)
        points[sequence.frame] = own
        if posed is not None:
            vertices = np.empty((people, *posed.shape[1:]), posed.dtype) if vertices is None else vertices
            vertices[sequence.frame] = posed
    return Subject(points, np.ones(people, bool), f"people of {folder.name}, {name}", vertices=vertices)


def _rate(path: Path, arrays: Mapping[str, Any]) -> float | None:
    """Return the file's frames per second, None where it has none or marks single pictures by 0."""
    key = next((k for k in ("mocap_framerate", "mocap_frame_rate", "fps") if k in arrays), None)
    return (float(array(path, key, arrays[key], ())) or None) if key else None


def _npy(path: Path) -> np.ndarray:
    """Read an .npy of numbers. Raises `AssetError`."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise AssetError(f"{path}: not an .npy array: {ascii(str(error)[:120])[1:-1]}") from None
