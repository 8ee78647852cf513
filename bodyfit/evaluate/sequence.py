"""Define one person's annotations, in one form for all data sets, and helpers to read them."""

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
"""The licensed body model that a data set is annotated with: of one gender, or a function of "male", "female" or
"neutral", such as `lambda gender: load_model(folder, gender=gender)`."""

_MAX_EXTENT_M = 20.0
"""Largest extent of a person; more must be in millimetres."""


@dataclass(frozen=True)
class Sequence:
    """A data set's annotations of one person in T frames (or of T people in pictures, where `fps` is None).

    Metres, camera axes (OpenCV: x right, y down, z forward) unless `axes` says otherwise; pixels for `keypoints2d`.
    """

    dataset: str
    """Data set: 3dpw, emdb, agora, h36m or scenes."""
    name: str
    """Name of the sequence in the file."""
    person: int
    """Index of the person in the file, from 0."""
    gender: str
    """Gender of the body model that the parameters are for: male, female or neutral."""
    joints3d: Float[np.ndarray, "T P 3"]
    """Positions of the `points` of `joint_set`, metres; NaN where unknown."""
    joint_set: str
    """Name of the `JointSet` of `joints3d`."""
    valid: Bool[np.ndarray, "T"]
    """Frames that count: with a known camera (3DPW), or a visible person (EMDB, AGORA)."""
    frame: Int[np.ndarray, "T"]
    """Index of each frame in the clip, from 0."""
    images: tuple[str, ...]
    """Names of the pictures, as the data set stores them."""
    fps: float | None
    """Frames per second of the pictures."""
    params: BodyParams | None = None
    """Parameters of the body model of `gender`, float64, in camera axes."""
    camera_from_world: Float[np.ndarray, "T 4 4"] | None = None
    """Extrinsics, from world to camera axes."""
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    """Camera matrix K, pixels."""
    keypoints2d: Float[np.ndarray, "T K 3"] | None = None
    """x px, y px, confidence (1 for projected ground truth, 0 for unknown)."""
    keypoints2d_layout: str = ""
    """openpose18 (3DPW: OpenPose's COCO order), smpl24 (EMDB: projected joints) or empty."""
    vertices: Float[np.ndarray, "T V 3"] | None = None
    """Vertices, where the file has them."""
    axes: str = "camera"
    """"camera", or "world" (z up) where the file has no cameras: sufficient for PA-MPJPE only."""

    def __len__(self) -> int:
        return len(self.valid)

    def only_valid(self) -> Sequence:
        """Drop the frames that do not count; `frame` has the indices of the others."""
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
    """Return the body model of a gender, None without models. Raises `OptionError` where its gender differs."""
    if models is None:
        return None
    model = models if isinstance(models, BodyModel) else models(gender)
    if model.gender != gender:
        raise OptionError(f"the annotations are of the {gender} body, and the model is {model.gender}; give that one")
    return in_float64(model)


def in_float64(model: BodyModel) -> BodyModel:
    """Return the model, or a copy in float64 on the CPU where it is of another dtype or device."""
    if model.dtype == torch.float64 and model.device.type == "cpu":
        return model
    return copy.deepcopy(model).double().cpu()


def rigid(path: Path, name: str, matrices: Float[np.ndarray, "T 4 4"], valid: Bool[np.ndarray, "T"]) -> None:
    """Raise `AssetError` where extrinsics are not rigid motions, in the frames that count."""
    R, last = matrices[valid, :3, :3], matrices[valid, 3]
    if not np.isfinite(matrices[valid]).all():
        raise AssetError(f"{path}: {name} holds NaN or infinity")
    off = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(initial=0.0)
    if off > 1e-2 or (np.linalg.det(R) < 0).any() or np.abs(last - [0, 0, 0, 1]).max(initial=0.0) > 1e-6:
        raise AssetError(f"{path}: {name} is no rigid motion (R R^T is off by {off:.2g})")


def in_camera(
    params: BodyParams, camera_from_world: Float[np.ndarray, "T 4 4"], rest_root: Float[np.ndarray, "T 3"]
) -> BodyParams:
    """Transform body parameters from world axes to camera axes, metres.

    A body's root turns about its own rest position r, x = R (v - r) + r + t, so that the rigid motion (C, c) maps R to
    C R and t to C (r + t) + c - r. Frames whose motion is NaN become NaN.
    """
    finite = np.all(np.isfinite(camera_from_world), axis=(1, 2))
    motion = torch.from_numpy(np.where(finite[:, None, None], camera_from_world, np.eye(4)))
    C, c = motion[:, :3, :3], motion[:, :3, 3]
    r = torch.from_numpy(rest_root)
    orient = roma.rotmat_to_rotvec(C @ roma.rotvec_to_rotmat(params.global_orient))
    transl = (C @ (r + params.transl)[..., None])[..., 0] + c - r
    unknown = torch.from_numpy(~finite)[:, None]
    rigid = {"global_orient": orient.masked_fill(unknown, torch.nan), "transl": transl.masked_fill(unknown, torch.nan)}
    return BodyParams(**{**params, **rigid})


def array(
    path: Path, key: str, value: Any, shape: tuple[int | None, ...] | None, *, metres: bool = False
) -> np.ndarray:
    """Return a file's numbers as float64, checked for shape (None for any length, or any shape) and unit.

    Raises `AssetError`, naming the file and the key.
    """
    try:
        numbers = np.asarray(as_array(value), np.float64)
    except (AssetError, MemoryError, TypeError, ValueError):
        raise AssetError(f"{path}: {key} is not an array of numbers") from None
    if shape is None:
        return numbers
    if numbers.ndim != len(shape) or any(want not in (None, n) for want, n in zip(shape, numbers.shape, strict=True)):
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise AssetError(f"{path}: {key} has shape {numbers.shape}, expected ({expected})")
    if metres and numbers.ndim == 3 and np.isfinite(numbers).any():
        filled = np.where(np.isfinite(numbers), numbers, np.nanmean(numbers))
        extent = float(np.median((filled.max(1) - filled.min(1)).max(-1)))
        if extent > _MAX_EXTENT_M:
            raise AssetError(f"{path}: {key} spans {extent:.0f} m a person; it must be metres (millimetres / 1000)")
    return numbers


def as_params(poses: np.ndarray, trans: np.ndarray, betas: np.ndarray) -> BodyParams:
    """Make float64 parameters from SMPL's poses (T, 72), trans (T, 3) and betas (10,)."""
    tensor: list[Tensor] = [torch.from_numpy(np.ascontiguousarray(a)) for a in (poses, trans)]
    shape = torch.from_numpy(betas.copy()).expand(len(poses), -1)
    return BodyParams(betas=shape, body_pose=tensor[0][:, 3:], global_orient=tensor[0][:, :3], transl=tensor[1])
