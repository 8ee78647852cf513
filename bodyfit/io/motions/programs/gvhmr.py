"""Read GVHMR: one person in camera axes and in a y-up world, with smplx's keys."""

from __future__ import annotations

from bodyfit.io.motions.programs.smplx_named import has_smplx_names, read_named
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording

__all__ = ["FORMAT"]

_WORLD, _CAMERA = "smpl_params_global", "smpl_params_incam"


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    return isinstance(file.value, dict) and any(has_smplx_names(file.value.get(key)) for key in (_WORLD, _CAMERA))


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    present = [key for key in (_WORLD, _CAMERA) if has_smplx_names(file.value.get(key))]
    requested = _WORLD if file.trajectory == "world" else _CAMERA
    key = requested if requested in present else present[0]
    words = {_WORLD: "in the world", _CAMERA: "before the camera"}
    count = "of the two in the file" if len(present) == 2 else "alone is in the file"
    axes = "y_up" if key == _WORLD else "camera"
    note = f"the motion {words[key]} {count}"
    return [read_named(file.part(file.value[key], key), program="GVHMR", axes=axes, space="smplx", notes=(note,))]


FORMAT = MotionFormat("GVHMR", _matches, _read_people, "hmr4d_results.pt")
