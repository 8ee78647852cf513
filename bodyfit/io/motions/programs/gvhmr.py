"""GVHMR: one person before the camera and in a world with y up, by smplx's names."""

from __future__ import annotations

from bodyfit.io.motions.programs.smplx_named import is_named, named
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording

__all__ = ["FORMAT"]

_WORLD, _CAMERA = "smpl_params_global", "smpl_params_incam"


def _matches(file: MotionFile) -> bool:
    return isinstance(file.value, dict) and any(is_named(file.value.get(key)) for key in (_WORLD, _CAMERA))


def _read(file: MotionFile) -> list[Recording]:
    there = [key for key in (_WORLD, _CAMERA) if is_named(file.value.get(key))]
    wanted = _WORLD if file.trajectory == "world" else _CAMERA
    key = wanted if wanted in there else there[0]
    words = {_WORLD: "in the world", _CAMERA: "before the camera"}
    count = "of the two in the file" if len(there) == 2 else "alone is in the file"
    axes = "y_up" if key == _WORLD else "camera"
    note = f"the motion {words[key]} {count}"
    return [named(file.part(file.value[key], key), program="GVHMR", axes=axes, space="smplx", notes=(note,))]


FORMAT = MotionFormat("GVHMR", _matches, _read, "hmr4d_results.pt")
