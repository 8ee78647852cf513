"""Read VIBE and programs with its layout (PARE, TCMR, MEVA, MPS-Net): tracks with a weak-perspective camera."""

from __future__ import annotations

from typing import Any

import numpy as np

from bodyfit.body.files.arrays import FileArrays
from bodyfit.io.motions import weak
from bodyfit.io.motions.parts import betas_of, columns, frames_of, rotation_vectors
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPL

__all__ = ["FORMAT", "PICTURES"]


def _is_track(value: Any) -> bool:
    """Tell whether a value is a track of this layout."""
    return (
        isinstance(value, dict) and {"pose", "betas"} <= value.keys() and bool({"orig_cam", "pred_cam"} & value.keys())
    )


def _matches(file: MotionFile) -> bool:
    """Tell whether a file is a dict of tracks or one track; WHAM's have trans and no camera."""
    value = file.value
    if file.is_folder or not isinstance(value, dict):
        return False
    return _is_track(value) or (bool(value) and all(map(_is_track, value.values())))


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    tracks = {"0": file.value} if _is_track(file.value) else file.value
    return [
        _track(file.part(track, f"person {person}"), str(person), "pose", "betas") for person, track in tracks.items()
    ]


def _track(part: FileArrays, person: str, pose_key: str, betas_key: str) -> Recording:
    """Make the recording of a track. Raises `AssetError`."""
    poses = rotation_vectors(part, pose_key, 24)
    return Recording(
        poses=poses,
        joints=SMPL,
        trans=_trans(part, len(poses)),
        axes="camera",
        program="VIBE",
        person=person,
        betas=betas_of(part, betas_key, len(poses)),
        frames=frames_of(part, "frame_ids", len(poses)),
        notes=(weak.NOTE,),
    )


def _trans(part: FileArrays, count: int) -> np.ndarray:
    """Return translations from the camera of the whole picture, or of the crop. Raises `AssetError`."""
    if part.has("orig_cam"):
        return weak.from_picture(columns(part, "orig_cam", 4, count))
    return weak.from_crop(columns(part, "pred_cam", 3, count))


# PARE on pictures: a file a picture, a row a person.


def _is_picture(value: Any) -> bool:
    """Tell whether a value is a picture of this layout."""
    return isinstance(value, dict) and {"pred_pose", "pred_shape", "pred_cam"} <= value.keys() and "frame" not in value


def _match_pictures(file: MotionFile) -> bool:
    """Tell whether a file has PARE's layout of pictures."""
    pictures = file.value.values() if file.is_folder and isinstance(file.value, dict) else [file.value]
    return bool(pictures) and all(map(_is_picture, pictures))


def _read_pictures(file: MotionFile) -> list[Recording]:
    """Read each person of each picture separately, for people are not tracked. Raises `AssetError`."""
    pictures = file.value if file.is_folder else {"": file.value}
    recording = []
    for name, value in pictures.items():
        part = file.part(value, name)
        everyone = _track(part, "0", "pred_pose", "pred_shape")
        stem = name.rpartition("/")[2].rpartition(".")[0]
        for row in range(len(everyone.poses)):
            person = f"{stem}_{row}" if stem else str(row)
            recording.append(
                Recording(
                    poses=everyone.poses[row : row + 1],
                    joints=SMPL,
                    trans=everyone.trans[row : row + 1],
                    axes="camera",
                    program="PARE",
                    person=person,
                    betas=None if everyone.betas is None else everyone.betas[row : row + 1],
                    notes=(weak.NOTE,),
                )
            )
    return recording


FORMAT = MotionFormat("VIBE, PARE, TCMR, MEVA", _matches, _read_people, "vibe_output.pkl, pare_output.pkl (joblib)")
PICTURES = MotionFormat("PARE (pictures)", _match_pictures, _read_pictures, "pare_results/*.pkl (joblib)")
