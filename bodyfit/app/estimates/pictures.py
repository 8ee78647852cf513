"""Bodies that other programs estimated in pictures: read from their files, and told apart by the detected people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import fit
from bodyfit.geometry.boxes import assigned_boxes
from bodyfit.geometry.camera import default_focal_px, turned_orient, y_up_from
from bodyfit.io.estimated_points import EstimatedPoints, estimated_points
from bodyfit.io.motions.formats import format_of
from bodyfit.io.motions.load import motion_file, moved, recordings_of
from bodyfit.io.motions.motion import Motion
from bodyfit.keypoints import Keypoints2D

__all__ = [
    "ESTIMATE_ENDINGS",
    "EstimateFiles",
    "boxes_of",
    "camera_motions",
    "fitted_to_points",
    "matched",
    "read_estimates",
]

_OVERLAP = 0.1
"""Least intersection over union of a body's box and a person's: both cameras may be guesses."""
ESTIMATE_ENDINGS = (".npz", ".pkl", ".pt", ".pth", ".json", ".smpl")


class EstimateFiles:
    """Files of estimates: one for one picture, or a folder with one for each, named as the pictures."""

    def __init__(self, path: str | Path, model: BodyModel) -> None:
        """Raises `OptionError` where there is no such file or folder."""
        self.path, self.model = Path(path), model
        if not self.path.exists():
            raise OptionError(f"{self.path}: no such file or folder of estimates")

    def of(self, picture: str | Path) -> BodyParams | None:
        """Read the bodies of a picture; None where a folder has no file of its name. Raises `AssetError`."""
        file = self.file_of(picture)
        return None if file is None else read_estimates(file, self.model)

    def file_of(self, picture: str | Path) -> Path | None:
        """Find the file of a picture; None where a folder has none of its name. Raises `AssetError` for several."""
        if self.path.is_file():
            return self.path
        stem = Path(picture).stem
        files = [file for ending in ESTIMATE_ENDINGS if (file := self.path / f"{stem}{ending}").is_file()]
        if len(files) > 1:
            raise AssetError(f"{self.path}: {len(files)} files named {stem}; keep one for each picture")
        return files[0] if files else None


def read_estimates(path: str | Path, model: BodyModel) -> BodyParams:
    """Read the bodies that another program estimated in one picture, a row a person, in camera axes (OpenCV), metres.

    The file is one of those that `load_motions` reads, of one frame; parameters by smplx's names alone are taken for
    those of the picture's people in camera axes, as regressors write them. To joints of NLF and of SAM 3D Body bodies
    are fitted. Nothing in the file is executed. Raises `AssetError`, naming it, where it is damaged, of a clip, or in
    world axes.
    """
    path = Path(path)
    motions = camera_motions(path, model)
    if motions is None:
        pictures = estimated_points(path) or []
        if len(pictures) != 1:
            raise AssetError(f"{path}: estimates of {len(pictures)} pictures, not of one")
        return fitted_to_points(pictures, model)[0]
    rows = []
    for motion, one_person in motions:
        if one_person and motion.params.batch > 1:
            raise AssetError(f"{path}: a clip of {motion.params.batch} frames, not the people of one picture")
        rows.append(motion.params)
    return BodyParams(**{name: torch.cat([row[name] for row in rows]) for name in rows[0]})


def camera_motions(path: Path, model: BodyModel) -> list[tuple[Motion, bool]] | None:
    """Read everybody's motion in the camera's axes (OpenCV), and whether its rows are one person's frames.

    Of parameters by smplx's names alone, whose rows may be people as well, that is not known: False. None where the
    file is of joints (`estimated_points`). Raises `AssetError` where it is damaged, unknown, or in world axes.
    """
    file = motion_file(path, "camera")
    if format_of(file) is None and not path.is_dir() and estimated_points(path) is not None:
        return None
    people = recordings_of(file)
    if other := [one for one in people if "camera" not in (one.axes, *one.other_axes)]:
        raise AssetError(
            f"{path}: {other[0].program} writes motion in world axes, where the picture's camera is unknown; "
            "give estimates in the camera's axes"
        )
    found = []
    for motion, _ in moved(path, people, model, axes="camera"):
        person = next(one for one in people if one.person == motion.person)
        one_person = person.are_frames and person.axes == "camera"
        found.append((replace(motion, params=_in_camera(motion.params, model)), one_person))
    return found


def fitted_to_points(pictures: Sequence[EstimatedPoints], model: BodyModel) -> list[BodyParams]:
    """Make the bodies of people in pictures from their joints, all of one layout: posed as the program says, or fitted
    to the joints where it does not say; a row a person, NaN for whom none fits."""
    points = np.concatenate([one.points_m for one in pictures]) if pictures else np.zeros((0, 0, 3))
    if len(points) == 0:
        return [model.params().select([]) for _ in pictures]
    posed = [one.pose for one in pictures if len(one.points_m)]
    if all(pose is not None for pose in posed):
        params = _posed(np.concatenate([pose for pose in posed if pose is not None]), points, model)
    else:
        evidence = Evidence(points3d=points.astype(np.float32), points3d_layout=pictures[0].layout)
        params = fit(evidence, model=model).params
    ends = np.cumsum([len(one.points_m) for one in pictures]).tolist()
    return [params.select(list(range(end - len(one.points_m), end))) for one, end in zip(pictures, ends, strict=True)]


def _posed(pose: Float[np.ndarray, "N 66"], points_m: Float[np.ndarray, "N 24 3"], model: BodyModel) -> BodyParams:
    """Make bodies of the mean shape in a pose, whose 22 joints have the same middle as the points."""
    kind = {"dtype": model.dtype, "device": model.device}
    angles = torch.as_tensor(pose).to(**kind)
    width = model.params().body_pose.shape[1]
    body_pose = torch.nn.functional.pad(angles[:, 3:], (0, width - 63))
    params = model.params(global_orient=angles[:, :3], body_pose=body_pose)
    with torch.no_grad():
        off = torch.as_tensor(points_m[:, :22]).to(**kind) - model.joints(params)[:, :22]
    return BodyParams(**{**params, "transl": off.mean(1)})


def _in_camera(params: BodyParams, model: BodyModel) -> BodyParams:
    """Turn bodies from the model's axes (y up) to the camera's, about the camera."""
    turn = y_up_from("camera").T
    params = params.to(model.device, model.dtype)
    root = model.rest_joints(model.coefficients(params))[:, 0]
    orient = turned_orient(params.global_orient.double().cpu().numpy(), turn)
    flip = torch.as_tensor(turn).to(params.transl)
    return BodyParams(
        **{
            **params,
            "global_orient": torch.from_numpy(orient).to(params.global_orient),
            "transl": (params.transl + root) @ flip.T - root,
        }
    )


def matched(
    estimates: BodyParams, model: BodyModel, people: Sequence[Keypoints2D], size: tuple[int, int]
) -> list[BodyParams | None]:
    """Find the estimate of each detected person, by the overlap of their boxes in the picture; None without one.

    One body and one person belong together wherever the body is. size: width and height of the picture, pixels.
    """
    if estimates.batch == 1 and len(people) == 1:
        return [estimates]
    boxes = np.array([person.box_px() for person in people]).reshape(-1, 4)
    found: list[BodyParams | None] = [None] * len(people)
    for i, j in assigned_boxes(boxes, boxes_of(model, estimates, size), _OVERLAP):
        found[i] = estimates.select([j])
    return found


def boxes_of(model: BodyModel, params: BodyParams, size: tuple[int, int]) -> Float[np.ndarray, "N 4"]:
    """Project bodies by the default camera, and return the boxes about their joints, pixels; NaN behind the camera."""
    with torch.no_grad():
        joints = model.joints(params).double().cpu().numpy()
    ahead = np.all(joints[..., 2] > 0.05, axis=1)
    depth = np.where(ahead[:, None], joints[..., 2], 1.0)
    xy = default_focal_px(size) * joints[..., :2] / depth[..., None] + np.array(size) / 2
    return np.where(ahead[:, None], np.concatenate([xy.min(1), xy.max(1)], axis=1), np.nan)
