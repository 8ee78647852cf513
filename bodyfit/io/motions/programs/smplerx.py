"""Read SMPLer-X and SMPLest-X: an npz a person and frame, with smplx's keys, in axes of the person's crop."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.errors import AssetError
from bodyfit.geometry.camera import default_focal_px
from bodyfit.io.motions import weak
from bodyfit.io.motions.programs.smplx_named import has_smplx_names, read_named
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import UNTRACKED, concatenate_people

__all__ = ["FORMAT"]

_NAME = re.compile(r"(\d+)_(\d+)\.npz")
"""Names of files: FRAME_PERSON.npz."""
_FOCAL = 5000 / 256
"""Focal length of its camera, in heights of the crop."""


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    if file.is_folder:
        return bool(file.value) and all(
            _NAME.fullmatch(name) and has_smplx_names(file.value[name]) for name in file.value
        )
    return bool(_NAME.fullmatch(file.path.name)) and has_smplx_names(file.value)


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    files = file.value if file.is_folder else {file.path.name: file.value}
    folder = file.path if file.is_folder else file.path.parent
    cameras = {name: _camera(folder.parent / "meta" / f"{Path(name).stem}.json") for name in files}
    size = _size([camera for camera in cameras.values() if camera])
    return concatenate_people(_frames(file, files, cameras, size), file.path)


def _frames(
    file: MotionFile, files: dict[str, Any], cameras: dict[str, dict[str, float] | None], size: tuple[float, float]
) -> Iterator[Recording]:
    """Yield the person of each file. Raises `AssetError`."""
    several = len({_frame_and_person(name)[1] for name in files}) > 1
    for name in sorted(files):
        frame, person = _frame_and_person(name)
        recording = read_named(file.part(files[name], name), program="SMPLer-X", axes="camera", space="smplx")
        camera = cameras[name]
        trans = (
            weak.rescale_depth(recording.trans, _FOCAL, None)
            if camera is None
            else _in_picture(recording.trans, camera, size)
        )
        notes = (weak.NOTE, *([UNTRACKED] if several else []))
        yield replace(recording, trans=trans, person=str(person), frames=np.array([frame]), notes=notes)


def _frame_and_person(name: str) -> tuple[int, int]:
    """Parse frame and person from a file's name."""
    match = _NAME.fullmatch(name.rpartition("/")[2])
    assert match is not None
    return int(match[1]), int(match[2])


def _camera(path: Path) -> dict[str, float] | None:
    """Read the crop's camera in pixels of the picture, and the box's corner, from the accompanying file."""
    if not path.is_file():
        return None
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        (fx, _), (cx, cy), (x, y, w, h) = meta["focal"], meta["princpt"], meta["bbox"]
        return {"focal": float(fx), "x": float(cx), "y": float(cy), "right": float(x) + w, "bottom": float(y) + h}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{path}: no camera of SMPLer-X: {ascii(str(error)[:80])[1:-1]}") from None


def _size(cameras: list[dict[str, float]]) -> tuple[float, float]:
    """Estimate the picture's size, which no file has, by the extent of the people's boxes."""
    right = max((camera["right"] for camera in cameras), default=1.0)
    return max(right, 1.0), max((camera["bottom"] for camera in cameras), default=1.0)


def _in_picture(trans: np.ndarray, camera: dict[str, float], size: tuple[float, float]) -> np.ndarray:
    """Convert a translation from the crop's camera to the picture's, keeping size and position in the picture."""
    metres = trans[:, 2] / camera["focal"]  # of a pixel at the body
    width, height = size
    x = trans[:, 0] + (camera["x"] - width / 2) * metres
    y = trans[:, 1] + (camera["y"] - height / 2) * metres
    return np.stack([x, y, default_focal_px((round(width), round(height))) * metres], 1)


FORMAT = MotionFormat(
    "SMPLer-X, SMPLest-X", _matches, _read_people, "smplx/FRAME_PERSON.npz, the folder or one of them"
)
