"""Extract rotations, shapes and rates from a file's arrays, in any of the usual forms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from bodyfit.body.files.arrays import FileArrays
from bodyfit.body.record import GENDERS

__all__ = [
    "RATES",
    "betas_of",
    "columns",
    "expression_of",
    "frames_of",
    "gender_of",
    "rate_of",
    "rotation_vectors",
    "stack_frames",
]

RATES = ("mocap_framerate", "mocap_frame_rate", "mocap_frame_rates", "fps", "frame_rate", "frameRate")
"""Keys of frame rates."""
_ROTATION_TOLERANCE = 1e-2
"""Largest deviation of a matrix from a rotation: networks' are rounded."""


def rotation_vectors(file: FileArrays, key: str, joints: int | tuple[int, ...]) -> Float[np.ndarray, "T J 3"]:
    """Return axis-angles, radians, of so many joints (or of one of several numbers of joints).

    The file may store them as (T, 3 J), (T, J, 3) or matrices (T, J, 3, 3), with or without the axis of frames, and
    with axes of length 1 between. Raises `AssetError`.
    """
    shape = file.shape(key)
    values = file.numbers(key, (None,) * len(shape))
    for count in (joints,) if isinstance(joints, int) else joints:
        matrices = len(shape) >= 3 and shape[-2:] == (3, 3) and _fits(shape[:-2], count)
        if matrices and (count != 3 or _are_rotations(values)):  # three joints' axis-angles have the same shape
            return _from_matrices(file, key, values.reshape(-1, 3, 3)).reshape(-1, count, 3)
        if shape[-1:] == (3,) and _fits(shape[:-1], count):
            return values.reshape(-1, count, 3)
        if shape[-1:] == (3 * count,):
            return values.reshape(-1, count, 3)
    expected = " or ".join(map(str, (joints,) if isinstance(joints, int) else joints))
    file.fail(f"{key} has shape {shape}, expected rotations of {expected} joints: (T, J, 3), (T, 3 J) or (T, J, 3, 3)")


def _fits(shape: tuple[int, ...], joints: int) -> bool:
    """Tell whether leading axes are frames and joints: the last longer than 1 is the joints', unless joints is 1."""
    axes = [n for n in shape if n != 1]
    return len(axes) <= 1 if joints == 1 else len(axes) in (1, 2) and axes[-1] == joints


def _are_rotations(matrices: np.ndarray) -> bool:
    """Tell whether matrices are orthonormal up to rounding."""
    flat = matrices.reshape(-1, 3, 3)
    return bool(np.abs(flat @ flat.transpose(0, 2, 1) - np.eye(3)).max(initial=0) < _ROTATION_TOLERANCE)


def _from_matrices(file: FileArrays, key: str, matrices: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 3"]:
    """Convert rotation matrices to axis-angles. Raises `AssetError`."""
    if not _are_rotations(matrices) or (np.linalg.det(matrices) < 0).any():
        file.fail(f"{key} holds 3x3 matrices that are no rotations")
    return Rotation.from_matrix(matrices).as_rotvec()


def columns(file: FileArrays, key: str, width: int | None, frames: int | None = None) -> Float[np.ndarray, "T W"]:
    """Return a table with so many columns, ignoring axes of length 1; one row is repeated to `frames`."""
    shape = file.shape(key)
    values = file.numbers(key, (None,) * len(shape))
    if width is None:
        width = shape[-1] if shape else 0
    if width == 0 or values.size % width or shape[-1:] != (width,):
        file.fail(f"{key} has shape {shape}, expected (T, {width})")
    table = values.reshape(-1, width)
    if frames is not None and len(table) == 1:
        table = np.repeat(table, frames, 0)
    if frames is not None and len(table) != frames:
        file.fail(f"{key} has {len(table)} rows, and there are {frames} frames")
    return table


def betas_of(file: FileArrays, key: str, frames: int) -> Float[np.ndarray, "N S"] | None:
    """Return betas, a row a frame or one for all; None where the file has none. Raises `AssetError`."""
    if not file.has(key) or 0 in file.shape(key):
        return None
    table = columns(file, key, None)
    if len(table) not in (1, frames):
        file.fail(f"{key} has {len(table)} rows, and there are {frames} frames")
    return table


def expression_of(file: FileArrays, key: str, frames: int) -> Float[np.ndarray, "T E"] | None:
    """Return expression coefficients; None where the file has none. Raises `AssetError`."""
    return columns(file, key, None, frames) if file.has(key) and 0 not in file.shape(key) else None


def frames_of(file: FileArrays, key: str, frames: int) -> Int[np.ndarray, "T"] | None:
    """Return the clip's frame of each row; None where the file has none. Raises `AssetError`."""
    if not file.has(key):
        return None
    numbers = file.numbers(key, (None,) * len(file.shape(key))).ravel()
    if len(numbers) != frames or (numbers != np.rint(numbers)).any() or (np.abs(numbers) > 1e9).any():
        file.fail(f"{key} must number the {frames} frames")
    return numbers.astype(np.int64)


def rate_of(file: FileArrays) -> float:
    """Return the frame rate; 0 where the file has none. Raises `AssetError`."""
    key = next((key for key in RATES if key in file.values), None)
    if key is None:
        return 0.0
    if not file.has(key):
        file.fail(f"{key} is no array of numbers")
    values = file.numbers(key, (None,) * len(file.shape(key))).ravel()
    if len(values) != 1 or values[0] < 0:
        file.fail(f"{key} must be one frame rate")
    return float(values[0])


def gender_of(value: Any) -> str:
    """Parse a gender, which old files store as bytes; neutral where it is unknown."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    word = str(value).removeprefix("b").strip("'\"[] ").lower()
    return word if word in GENDERS else "neutral"


def stack_frames(rows: Iterable[Any]) -> Any:
    """Stack arrays of single frames; a list of them where their shapes differ."""
    arrays = [np.asarray(row) for row in rows]
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else arrays
