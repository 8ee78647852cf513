"""Bodies that other programs estimated in pictures: read from their files, and told apart by the detected people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import AssetError, OptionError
from bodyfit.geometry.boxes import assigned_boxes
from bodyfit.geometry.camera import default_focal_px, turned_orient, y_up_from
from bodyfit.io.motions.load import motion_file, moved, recordings_of
from bodyfit.keypoints import Keypoints2D

__all__ = ["EstimateFiles", "matched", "read_estimates"]

_OVERLAP = 0.1
"""Least intersection over union of a body's box and a person's: both cameras may be guesses."""
_ENDINGS = (".npz", ".pkl", ".pt", ".pth", ".json", ".smpl")


class EstimateFiles:
    """Files of estimates: one for one picture, or a folder with one for each, named as the pictures."""

    def __init__(self, path: str | Path, model: BodyModel) -> None:
        """Raises `OptionError` where there is no such file or folder."""
        self.path, self.model = Path(path), model
        if not self.path.exists():
            raise OptionError(f"{self.path}: no such file or folder of estimates")

    def of(self, picture: str | Path) -> BodyParams | None:
        """Read the bodies of a picture; None where a folder has no file of its name. Raises `AssetError`."""
        if self.path.is_file():
            return read_estimates(self.path, self.model)
        stem = Path(picture).stem
        files = [file for ending in _ENDINGS if (file := self.path / f"{stem}{ending}").is_file()]
        if len(files) > 1:
            raise AssetError(f"{self.path}: {len(files)} files named {stem}; keep one for each picture")
        return read_estimates(files[0], self.model) if files else None


def read_estimates(path: str | Path, model: BodyModel) -> BodyParams:
    """Read the bodies that another program estimated in one picture, a row a person, in camera axes (OpenCV), metres.

    The file is one of those that `load_motions` reads, of one frame; parameters by smplx's names alone are taken for
    those of the picture's people in camera axes, as regressors write them. Nothing in it is executed. Raises
    `AssetError`, naming the file, where it is damaged, of a clip, or in world axes.
    """
    path = Path(path)
    people = recordings_of(motion_file(path, "camera"))
    if other := [one for one in people if "camera" not in (one.axes, *one.other_axes)]:
        raise AssetError(
            f"{path}: {other[0].program} writes motion in world axes, where the picture's camera is unknown; "
            "give estimates in the camera's axes"
        )
    rows = []
    for motion, _ in moved(path, people, model, axes="camera"):
        person = next(one for one in people if one.person == motion.person)
        if person.are_frames and person.axes == "camera" and motion.params.batch > 1:
            raise AssetError(f"{path}: a clip of {motion.params.batch} frames, not the people of one picture")
        rows.append(_in_camera(motion.params, model))
    params = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return BodyParams(**params)


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
    for i, j in assigned_boxes(boxes, _boxes(model, estimates, size), _OVERLAP):
        found[i] = estimates.select([j])
    return found


def _boxes(model: BodyModel, params: BodyParams, size: tuple[int, int]) -> Float[np.ndarray, "N 4"]:
    """Project bodies by the default camera, and return the boxes about their joints, pixels; NaN behind the camera."""
    with torch.no_grad():
        joints = model.joints(params).double().cpu().numpy()
    ahead = np.all(joints[..., 2] > 0.05, axis=1)
    depth = np.where(ahead[:, None], joints[..., 2], 1.0)
    xy = default_focal_px(size) * joints[..., :2] / depth[..., None] + np.array(size) / 2
    return np.where(ahead[:, None], np.concatenate([xy.min(1), xy.max(1)], axis=1), np.nan)
