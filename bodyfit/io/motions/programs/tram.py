"""Read TRAM: a file a person in camera axes, and a file of the camera's trajectory in the world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from bodyfit.body.files.arrays import FileArrays
from bodyfit.body.files.contents import read_contents
from bodyfit.body.files.limits import MOTION_LIMITS
from bodyfit.io.motions.parts import betas_of, columns, frames_of, rotation_vectors
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPL

__all__ = ["FORMAT"]

_CAMERA = "camera.npy"
_WITHOUT = f"no {_CAMERA} beside it, so the motion is before the camera"


def _is_track(value: Any) -> bool:
    """Tell whether a value is a track of this layout."""
    return isinstance(value, dict) and {"pred_rotmat", "pred_trans", "pred_shape"} <= value.keys()


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    tracks = file.value.values() if file.is_folder else [file.value]
    return bool(tracks) and all(map(_is_track, tracks))


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    tracks = file.value if file.is_folder else {file.path.name: file.value}
    folder = file.path if file.is_folder else file.path.parent
    camera = _camera(folder) if file.trajectory == "world" else None
    return [_track(file.part(track, name), _person(name), camera) for name, track in sorted(tracks.items())]


def _person(name: str) -> str:
    """Return the person's number in a file's name."""
    return name.removesuffix(".npy").rpartition("_")[2]


def _camera(folder: Path) -> FileArrays | None:
    """Read the camera's trajectory, from the folder above the people's or their own."""
    for path in (folder.parent / _CAMERA, folder / _CAMERA):
        if path.is_file():
            value = read_contents(path, MOTION_LIMITS)
            part = FileArrays(path, value if isinstance(value, dict) else {})
            if part.has("pred_cam_R", "pred_cam_T"):
                return part
    return None


def _track(part: FileArrays, person: str, camera: FileArrays | None) -> Recording:
    """Make the recording of a track, in the world where there is a camera. Raises `AssetError`."""
    poses = rotation_vectors(part, "pred_rotmat", 24)
    frames = frames_of(part, "frame", len(poses))
    trans, pivot, note = columns(part, "pred_trans", 3, len(poses)), None, _WITHOUT
    if camera is not None:
        R, t = _camera_poses(camera, frames if frames is not None else np.arange(len(poses)))
        poses[:, 0] = (Rotation.from_matrix(R) * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
        trans, pivot = (R @ trans[:, :, None])[:, :, 0] + t, R
        note = "the motion in the world: the first frame's camera, by the cameras beside the file"
    return Recording(
        poses=poses,
        joints=SMPL,
        trans=trans,
        axes="camera",
        program="TRAM",
        person=person,
        pivot=pivot,
        betas=betas_of(part, "pred_shape", len(poses)),
        frames=frames,
        notes=(note,),
    )


def _camera_poses(camera: FileArrays, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations and translations from the camera of each frame to the world. Raises `AssetError`."""
    R = camera.numbers("pred_cam_R", (None, 3, 3))
    t = camera.numbers("pred_cam_T", (len(R), 3))
    if frames.min(initial=0) < 0 or frames.max(initial=0) >= len(R):
        camera.fail(f"it has {len(R)} cameras, and the person is in frame {frames.max()}")
    return Rotation.from_matrix(R).as_matrix()[frames], t[frames]


FORMAT = MotionFormat("TRAM", _matches, _read_people, "hps/hps_track_*.npy, with camera.npy beside hps/")
