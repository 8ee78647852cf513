"""Motion of a person: of files in any layout that is read, or through random poses."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation, RotationSpline
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.body.sample import random_bodies
from bodyfit.errors import OptionError
from bodyfit.io.motions.load import load_motion
from bodyfit.scenes.sample import pose_prior
from bodyfit.timeline import between, even_times, lerp_rows, slerp_rows

__all__ = ["motion_files", "moving"]

_KEY_S = (0.7, 1.3)
"""Seconds from one random pose to the next."""
_TURN, _DRIFT_M = 0.5, 0.12
"""How far the body turns (radians) and goes from one random pose to the next."""
_USUAL_FPS = 30.0
"""The rate of files that name none."""


@lru_cache(maxsize=4)
def motion_files(folder: Path) -> tuple[Path, ...]:
    """The npz files of a folder, in order of their names. Raises `OptionError`."""
    found = sorted(folder.rglob("*.npz")) if folder.is_dir() else []
    if not found:
        raise OptionError(f"{folder}: no folder with motions (npz in AMASS's layout)")
    return tuple(found)


def moving(
    params: BodyParams,
    model: BodyModel,
    frames: int,
    fps: float,
    sole_m: float,
    files: tuple[Path, ...],
    rng: np.random.Generator,
) -> BodyParams:
    """A body's parameters in each frame: its shape, hands and face, and a motion that begins over the origin.

    files: motions to choose from; random ones where there are none. Nobody goes through the floor: through random
    poses the lowest point is on it in every frame, in files where it is lowest. Raises `AssetError` and `OptionError`.
    """
    if files:
        orient, pose, root = _of_file(files[int(rng.integers(len(files)))], model, frames, fps, rng)
    else:
        orient, pose, root = _random(model, frames, fps, rng)
    still = {name: value.expand(frames, -1) for name, value in params.items()}
    pelvis = model.rest_joints(params.betas)[0, 0].double().numpy()
    begin = root[0] * [1, 0, 1]
    moved = {"global_orient": orient, "body_pose": pose, "transl": root - begin - pelvis * [1, 0, 1]}
    like = params.transl
    bodies = model.params(**{**still, **{name: torch.from_numpy(value).to(like) for name, value in moved.items()}})
    lowest = _lowest_m(model, bodies)
    if files:
        lowest = lowest.min().expand(frames)
    transl = bodies.transl.clone()
    transl[:, 1] += sole_m - lowest
    return model.params(**{**bodies, "transl": transl})


def _lowest_m(model: BodyModel, bodies: BodyParams) -> Float[Tensor, "T"]:
    with torch.no_grad():
        return torch.cat([model(**bodies.select([i])).vertices[..., 1].amin(1) for i in range(bodies.batch)])


_Frames = tuple[Float[np.ndarray, "T 3"], Float[np.ndarray, "T P"], Float[np.ndarray, "T 3"]]
"""Orientation of the root, pose of the body (axis-angles, radians), and place of the pelvis (metres)."""


def _random(model: BodyModel, frames: int, fps: float, rng: np.random.Generator) -> _Frames:
    """A smooth motion through poses of the prior that do not penetrate themselves; splines of rotations."""
    times = [0.0]
    while times[-1] < frames / fps:
        times.append(times[-1] + rng.uniform(*_KEY_S))
    keys = random_bodies(len(times), model=model, seed=int(rng.integers(2**31)), prior=pose_prior())
    key_poses = keys.body_pose.double().numpy().reshape(len(times), -1, 3)
    at = np.arange(frames) / fps
    joints = [RotationSpline(times, Rotation.from_rotvec(key_poses[:, j]))(at) for j in range(key_poses.shape[1])]
    pose = np.stack([joint.as_rotvec() for joint in joints], 1).reshape(frames, -1)
    yaw = np.cumsum(np.r_[0, rng.normal(0, _TURN, len(times) - 1)])
    turn = RotationSpline(times, Rotation.from_rotvec(yaw[:, None] * [0, 1, 0]))(at)
    walk = np.cumsum(np.r_[np.zeros((1, 2)), rng.normal(0, _DRIFT_M, (len(times) - 1, 2))], axis=0)
    root = np.stack([np.interp(at, times, walk[:, 0]), np.zeros(frames), np.interp(at, times, walk[:, 1])], 1)
    return turn.as_rotvec(), pose, root


def _of_file(path: Path, model: BodyModel, frames: int, fps: float, rng: np.random.Generator) -> _Frames:
    """A stretch of a motion, at another rate, that begins looking along +z; a shorter one is held at its end."""
    motion = load_motion(path, person=None, model=model)
    params = motion.params
    rate = motion.fps or _USUAL_FPS
    pelvis = model.rest_joints(params.betas)[:, 0]
    root = (params.transl + pelvis).double().numpy()
    pose = torch.cat([params.global_orient, params.body_pose], 1).double().numpy().reshape(len(root), -1, 3)
    if len(root) > 1:
        times = np.arange(len(root)) / rate
        wanted = even_times(times, fps, 0.0)
        rows, part = between(times, wanted, fps)
        root, pose = lerp_rows(root, rows, part), slerp_rows(pose, rows, part)
    first = int(rng.integers(max(len(root) - frames, 0) + 1))
    rows = np.minimum(first + np.arange(frames), len(root) - 1)
    root, pose = root[rows], pose[rows]
    facing = Rotation.from_rotvec(pose[0, 0]).as_matrix()[:, 2]
    turn = Rotation.from_rotvec([0.0, -math.atan2(facing[0], facing[2]), 0.0])
    orient = (turn * Rotation.from_rotvec(pose[:, 0])).as_rotvec()
    return orient, pose[:, 1:].reshape(frames, -1), turn.apply(root)
