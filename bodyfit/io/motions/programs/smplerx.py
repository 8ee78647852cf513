"""SMPLer-X and SMPLest-X: an npz a person and frame, by smplx's names, before a camera of the person's crop."""

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
from bodyfit.io.motions.programs.smplx_named import is_named, named
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.io.motions.tracks import NOBODY_SAYS, joined

__all__ = ["FORMAT"]

_NAME = re.compile(r"(\d+)_(\d+)\.npz")
"""FRAME_PERSON.npz."""
_FOCAL = 5000 / 256
"""Of its camera, in heights of the crop."""


def _matches(file: MotionFile) -> bool:
    if file.is_folder:
        return bool(file.value) and all(_NAME.fullmatch(name) and is_named(file.value[name]) for name in file.value)
    return bool(_NAME.fullmatch(file.path.name)) and is_named(file.value)


def _read(file: MotionFile) -> list[Recording]:
    files = file.value if file.is_folder else {file.path.name: file.value}
    folder = file.path if file.is_folder else file.path.parent
    cameras = {name: _camera(folder.parent / "meta" / f"{Path(name).stem}.json") for name in files}
    size = _size([camera for camera in cameras.values() if camera])
    return joined(_frames(file, files, cameras, size), file.path)


def _frames(
    file: MotionFile, files: dict[str, Any], cameras: dict[str, dict[str, float] | None], size: tuple[float, float]
) -> Iterator[Recording]:
    several = len({_parsed(name)[1] for name in files}) > 1
    for name in sorted(files):
        frame, person = _parsed(name)
        found = named(file.part(files[name], name), program="SMPLer-X", axes="camera", space="smplx")
        camera = cameras[name]
        trans = weak.nearer(found.trans, _FOCAL, None) if camera is None else _in_picture(found.trans, camera, size)
        notes = (weak.NOTE, *([NOBODY_SAYS] if several else []))
        yield replace(found, trans=trans, person=str(person), frames=np.array([frame]), notes=notes)


def _parsed(name: str) -> tuple[int, int]:
    match = _NAME.fullmatch(name.rpartition("/")[2])
    assert match is not None
    return int(match[1]), int(match[2])


def _camera(path: Path) -> dict[str, float] | None:
    """The crop's camera in pixels of the picture, and where its box ends, from the file that goes with it."""
    if not path.is_file():
        return None
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        (fx, _), (cx, cy), (x, y, w, h) = meta["focal"], meta["princpt"], meta["bbox"]
        return {"focal": float(fx), "x": float(cx), "y": float(cy), "right": float(x) + w, "bottom": float(y) + h}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{path}: no camera of SMPLer-X: {ascii(str(error)[:80])[1:-1]}") from None


def _size(cameras: list[dict[str, float]]) -> tuple[float, float]:
    """Of the picture, which no file says: as far as people are seen in it."""
    right = max((camera["right"] for camera in cameras), default=1.0)
    return max(right, 1.0), max((camera["bottom"] for camera in cameras), default=1.0)


def _in_picture(trans: np.ndarray, camera: dict[str, float], size: tuple[float, float]) -> np.ndarray:
    """A translation before the crop's camera as one before the picture's: as large, and in the same place in it."""
    metres = trans[:, 2] / camera["focal"]  # of a pixel at the body
    width, height = size
    x = trans[:, 0] + (camera["x"] - width / 2) * metres
    y = trans[:, 1] + (camera["y"] - height / 2) * metres
    return np.stack([x, y, default_focal_px((round(width), round(height))) * metres], 1)


FORMAT = MotionFormat("SMPLer-X, SMPLest-X", _matches, _read, "smplx/FRAME_PERSON.npz, the folder or one of them")
