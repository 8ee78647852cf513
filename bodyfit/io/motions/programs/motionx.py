"""Read Motion-X: a table of SMPL-X's parameters, 322 columns."""

from __future__ import annotations

import numpy as np

from bodyfit.io.motions.recording import MotionFile, MotionFormat, Recording
from bodyfit.skeleton import SMPLX, Skeleton

__all__ = ["FORMAT"]

_COLUMNS = 322
_FPS = 30.0
_FINGERS = SMPLX.names[25:]
_JOINTS = Skeleton(
    names=(*SMPLX.names[:22], *_FINGERS, "jaw"),
    parents=(*SMPLX.parents[:22], *(p if p < 22 else p - 3 for p in SMPLX.parents[25:]), 15),
)
"""Joints in the order of the columns: body, left and right hand, jaw."""


def _matches(file: MotionFile) -> bool:
    """Tell whether a file has this layout."""
    return isinstance(file.value, np.ndarray) and file.value.ndim == 2 and file.value.shape[1] == _COLUMNS


def _read_people(file: MotionFile) -> list[Recording]:
    """Read all people in a file. Raises `AssetError`."""
    part = file.part({"the table": file.value})
    table = part.numbers("the table", (None, _COLUMNS))
    return [
        Recording(
            poses=table[:, :159].reshape(-1, 53, 3),
            joints=_JOINTS,
            trans=table[:, 309:312],
            axes="y_up",
            program="Motion-X",
            betas=table[:, 312:],
            space="smplx",
            expression=table[:, 159:209],
            usual_fps=_FPS,
            other_axes=("z_up", "camera"),
        )
    ]


FORMAT = MotionFormat("Motion-X", _matches, _read_people, "npy of (T, 322)")
