"""Read AIST++ (in units of its own scale, y up) and EDGE (the same keys in metres, z up)."""

from __future__ import annotations

import numpy as np

from bodyfit.io.motions.parts import columns, rotation_vectors
from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPL

__all__ = ["FORMAT"]

_FPS, _EDGE_FPS = 60.0, 30.0


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    return isinstance(file.value, dict) and {"smpl_poses", "smpl_trans"} <= file.value.keys()


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    part = file.part(file.value)
    poses = rotation_vectors(part, "smpl_poses", 24)
    trans = columns(part, "smpl_trans", 3, len(poses))
    if not part.has("smpl_scaling"):  # EDGE, whose trans is where the root joint is
        edge = {"anchor": "pelvis", "usual_fps": _EDGE_FPS, "other_axes": ("y_up",)}
        return [Recording(poses, SMPL, trans, "z_up", "EDGE", **edge)]
    scale = part.numbers("smpl_scaling", (None,) * len(part.shape("smpl_scaling"))).ravel()
    if len(scale) != 1 or scale[0] <= 0:
        part.fail(f"smpl_scaling must be one positive number, got {np.array2string(scale[:4])}")
    return [Recording(poses, SMPL, trans / scale, "y_up", "AIST++", usual_fps=_FPS, other_axes=("z_up",))]


FORMAT = MotionFormat("AIST++, EDGE", _matches, _read_people, "pkl with smpl_poses, smpl_trans")
