"""One person's annotations, in one form for every data set."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.files.safe_pickle import as_array
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import AssetError, OptionError

__all__ = ["Models", "Sequence", "array", "as_params", "in_camera", "in_float64", "model_for", "rigid"]

Models: TypeAlias = BodyModel | Callable[[str], BodyModel] | None
"""The licensed body that a data set is annotated with: of one gender, or what gives it for "male", "female", "neutral",
as `lambda gender: load_model(folder, gender=gender)`."""

_LONGEST_M = 20.0
"""Of a person's extent; more must be millimetres."""


@dataclass(frozen=True)
class Sequence:
    """What a data set says of one person in T frames (or T people in pictures, where `fps` is None).

    Metres, camera axes (OpenCV: x right, y down, z forward) unless `axes` says otherwise; pixels for `keypoints2d`.
    """

    dataset: str
    """3dpw, emdb, agora or h36m."""
    name: str
    """As the file names it."""
    person: int
    """Which of the file's people, from 0."""
    gender: str
    """male, female or neutral: of the body whose parameters these are."""
    joints3d: Float[np.ndarray, "T P 3"]
    """The `points` of `joint_set`; NaN where unknown."""
    joint_set: str
    """Name of the `JointSet` of `joints3d`."""
    valid: Bool[np.ndarray, "T"]
    """Frames that count: whose camera is known (3DPW), in which the person is seen (EMDB, AGORA)."""
    frame: Int[np.ndarray, "T"]
    """Which frame of the clip each is, from 0."""
    images: tuple[str, ...]
    """Names of the pictures, as the data set stores them."""
    fps: float | None
    """Frames per second of the pictures."""
    params: BodyParams | None = None
    """What the body of `gender` was posed with, float64, in camera axes: `model(**params)` lands before the camera."""
    camera_from_world: Float[np.ndarray, "T 4 4"] | None = None
    """Extrinsics."""
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    """K, pixels."""
    keypoints2d: Float[np.ndarray, "T K 3"] | None = None
    """x px, y px, confidence (1 for a projected truth, 0 for unknown)."""
    keypoints2d_layout: str = ""
    """openpose18 (3DPW: OpenPose's COCO order), smpl24 (EMDB: projected joints) or empty."""
    vertices: Float[np.ndarray, "T V 3"] | None = None
    """Where the file has them."""
    axes: str = "camera"
    """"camera"; "world" (z up) where the file does not know the cameras: good for PA-MPJPE only."""

    def __len__(self) -> int:
        return len(self.valid)

    def only_valid(self) -> Sequence:
        """Without the frames that do not count; `frame` still tells which ones are left."""
        keep = self.valid
        parts: dict[str, Any] = {
            name: value[keep]
            for name in ("joints3d", "frame", "camera_from_world", "keypoints2d", "vertices")
            if (value := getattr(self, name)) is not None
        }
        return replace(
            self,
            **parts,
            valid=keep[keep],
            images=tuple(image for image, good in zip(self.images, keep, strict=True) if good),
            params=None if self.params is None else self.params.select(torch.from_numpy(np.flatnonzero(keep))),
        )


def model_for(models: Models, gender: str) -> BodyModel | None:
    """The body of a gender, or None where there is none at all. Raises `OptionError` for another gender's."""
    if models is None:
        return None
    model = models if isinstance(models, BodyModel) else models(gender)
    if model.gender != gender:
        raise OptionError(f"the annotations are of the {gender} body, and the model is {model.gender}; give that one")
    return in_float64(model)


def in_float64(model: BodyModel) -> BodyModel:
    """The model itself or, where it is of another type or on a GPU, a copy: the caller's stays as it is."""
    if model.dtype == torch.float64 and model.device.type == "cpu":
        return model
    return copy.deepcopy(model).double().cpu()


def rigid(path: Path, name: str, matrices: Float[np.ndarray, "T 4 4"], valid: Bool[np.ndarray, "T"]) -> None:
    """Refuse extrinsics that are no rotations and translations, in the frames that count."""
    R, last = matrices[valid, :3, :3], matrices[valid, 3]
    if not np.isfinite(matrices[valid]).all():
        raise AssetError(f"{path}: {name} holds NaN or infinity")
    off = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0)
    if off > 1e-2 or (np.linalg.det(R) < 0).any() or np.abs(last - [0, 0, 0, 1]).max(initial=0.0) > 1e-6:
        raise AssetError(f"{path}: {name} is no rigid motion (R R^T is off by {off:.2g})")


def in_camera(
    params: BodyParams, camera_from_world: Float[np.ndarray, "T 4 4"], rest_root: Float[np.ndarray, "T 3"]
) -> BodyParams:
    """Parameters in world axes as parameters in camera axes, metres.

    A body's root turns about its own rest position r, so that x = R (v - r) + r + t, and the rigid motion (C, c) takes
    R to C R and t to C (r + t) + c - r. Frames whose motion is NaN get NaN.
    """
    known = np.isfinite(camera_from_world).all((1, 2))
    motion = torch.from_numpy(np.where(known[:, None, None], camera_from_world, np.eye(4)))
    C, c = motion[:, :3, :3], motion[:, :3, 3]
    r = torch.from_numpy(rest_root)
    orient = roma.rotmat_to_rotvec(C @ roma.rotvec_to_rotmat(params.global_orient))
    transl = (C @ (r + params.transl)[..., None])[..., 0] + c - r
    lost = torch.from_numpy(~known)[:, None]
    turned = {"global_orient": orient.masked_fill(lost, torch.nan), "transl": transl.masked_fill(lost, torch.nan)}
    return BodyParams(**{**params, **turned})


def array(
    path: Path, key: str, value: Any, shape: tuple[int | None, ...] | None, *, metres: bool = False
) -> np.ndarray:
    """A file's numbers as float64 of a shape, None for any length or any shape; lengths are seen to be metres.

    Raises `AssetError`, naming the file and the key.
    """
    try:
        found = np.asarray(as_array(value), np.float64)
    except (AssetError, MemoryError, TypeError, ValueError):
        raise AssetError(f"{path}: {key} is not an array of numbers") from None
    if shape is None:
        return found
    if found.ndim != len(shape) or any(want not in (None, n) for want, n in zip(shape, found.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise AssetError(f"{path}: {key} has shape {found.shape}, expected ({wanted})")
    if metres and found.ndim == 3 and np.isfinite(found).any():
        known = np.where(np.isfinite(found), found, np.nanmean(found))
        extent = float(np.median((known.max(1) - known.min(1)).max(-1)))
        if extent > _LONGEST_M:
            raise AssetError(f"{path}: {key} spans {extent:.0f} m a person; it must be metres (millimetres / 1000)")
    return found


def as_params(poses: np.ndarray, trans: np.ndarray, betas: np.ndarray) -> BodyParams:
    """SMPL's parameters (T, 72), (T, 3), (10,) as a float64 batch."""
    tensor: list[Tensor] = [torch.from_numpy(np.ascontiguousarray(a)) for a in (poses, trans)]
    shape = torch.from_numpy(betas.copy()).expand(len(poses), -1)
    return BodyParams(betas=shape, body_pose=tensor[0][:, 3:], global_orient=tensor[0][:, :3], transl=tensor[1])
