"""Calibrated cameras from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bodyfit.errors import BodyfitError, OptionError
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.io.results.params import read_arrays

__all__ = ["load_cameras"]

_SHAPES = {"K": (3, 3), "R": (3, 3), "t": (3,)}


def load_cameras(path: str | Path) -> list[CalibratedCamera]:
    """Read C cameras from an npz file: K (C, 3, 3) pixels, R (C, 3, 3) and t (C, 3) metres, x_cam = R x_world + t.

    `distortion` (C, D) holds OpenCV's coefficients, where there is some. Raises `OptionError`, naming the file.
    """
    path = Path(path)
    try:
        arrays = read_arrays(path)
    except (BodyfitError, OSError) as error:
        raise OptionError(f"{path}: no file of cameras (npz of K, R, t): {error}") from error
    lacking = [name for name in _SHAPES if name not in arrays]
    if lacking:
        raise OptionError(f"{path}: has no {', '.join(lacking)}, but {', '.join(arrays) or 'nothing'}")
    values = {name: np.asarray(arrays[name], np.float64) for name in _SHAPES}
    count = len(values["K"])
    for name, shape in _SHAPES.items():
        if values[name].shape != (count, *shape):
            raise OptionError(
                f"{path}: {name} must be ({count}, {', '.join(map(str, shape))}), got {values[name].shape}"
            )
    lens = np.asarray(arrays.get("distortion", np.zeros((count, 4))), np.float64)
    if lens.ndim != 2 or len(lens) != count:
        raise OptionError(f"{path}: distortion must have one row a camera, ({count}, D), got {lens.shape}")
    rows = zip(values["K"], values["R"], values["t"], lens, strict=True)
    try:
        return [CalibratedCamera(K=K, R=R, t=t, distortion=d) for K, R, t, d in rows]
    except BodyfitError as error:
        raise OptionError(f"{path}: {error}") from error
