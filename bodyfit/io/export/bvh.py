"""Motion as BVH: a skeleton and its joints' angles in text, the oldest format that every animation program reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from bodyfit.io.export.rig import Rig
from bodyfit.runtime.atomic import write_atomically
from bodyfit.timeline import between, even_times, lerp_rows, slerp_rows

__all__ = ["MIN_HOLD_S", "bvh_start_s", "save_rig_bvh"]

MIN_HOLD_S = 300.0
"""Nobody who comes later stands still for longer before that: an hour of frames that say nothing fill a disk."""

_ORDER = "ZYX"
"""Channels as written, the matrices multiplied from left to right."""
_ANGLES = " ".join(f"{axis}rotation" for axis in _ORDER)
_AT_ONCE = 2048
"""Frames written at a time."""
_POSE_FPS = 30.0
"""A BVH file must have a frame rate; a single pose gets this one."""


def save_rig_bvh(path: str | Path, rig: Rig) -> None:
    """Write the skeleton and motion of a rig; BVH has no mesh.

    The root has offset 0 and its position in space as channels; leaves end where the mesh about them does. Angles are
    degrees, without jumps of whole turns from frame to frame. BVH knows neither uneven times nor a later start: frames
    are interpolated at an even rate, and who comes later stands still in the first pose from time 0 on, unless that
    would be for longer than `MIN_HOLD_S`. Raises `OutputError`.
    """
    ticks = even_times(rig.times_s, rig.fps or _POSE_FPS, bvh_start_s(rig.times_s))
    lines = [
        "HIERARCHY",
        *_joint_lines(rig, 0, _ends(rig), ""),
        "MOTION",
        f"Frames: {len(ticks)}",
        f"Frame Time: {1 / (rig.fps or _POSE_FPS):.9f}",
    ]
    with write_atomically(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
        for rows in _rows(rig, ticks):
            file.write((" ".join(["%.6f"] * rows.shape[1]) + "\n") * len(rows) % tuple(rows.ravel().tolist()))


def bvh_start_s(times_s: Float[np.ndarray, "T"]) -> float:
    """The time of a BVH's first frame, seconds: 0, or that of the first body where it would be held for too long."""
    return 0.0 if times_s[0] <= MIN_HOLD_S else float(times_s[0])


def _rows(rig: Rig, ticks: Float[np.ndarray, "N"]) -> Iterator[Float[np.ndarray, "n C"]]:
    """The file's numbers at even times, some frames at a time."""
    order, before = _depth_first(rig), None
    rows, part = between(rig.times_s, ticks, rig.fps or _POSE_FPS)
    for first in range(0, len(ticks), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        rotations = slerp_rows(rig.rotations, rows[some], part[some])
        shape = rotations.shape
        angles = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_euler(_ORDER, degrees=True)
        angles = angles.reshape(*shape[:2], 3)
        if before is None:
            angles = np.unwrap(angles, period=360, axis=0)
        else:  # on from where the last ones ended
            angles = np.unwrap(np.concatenate([before, angles]), period=360, axis=0)[1:]
        before = angles[-1:]
        root = lerp_rows(rig.root, rows[some], part[some])
        yield np.concatenate([root, angles[:, order].reshape(len(angles), -1)], 1)


def _depth_first(rig: Rig, joint: int = 0) -> list[int]:
    """Joints as the file nests them, which is the order of its columns."""
    children = [k for k, parent in enumerate(rig.parents) if parent == joint]
    return [joint, *(j for child in children for j in _depth_first(rig, child))]


def _joint_lines(rig: Rig, joint: int, ends: Float[np.ndarray, "J 3"], indent: str) -> list[str]:
    """The block of a joint and of all below it."""
    parent = rig.parents[joint]
    offset = np.zeros(3) if parent < 0 else rig.joints[joint] - rig.joints[parent]
    channels = f"3 {_ANGLES}" if parent >= 0 else f"6 Xposition Yposition Zposition {_ANGLES}"
    body = [f"OFFSET {_numbers(offset)}", f"CHANNELS {channels}"]
    children = [k for k, up in enumerate(rig.parents) if up == joint]
    lines = [f"{indent}{'ROOT' if parent < 0 else 'JOINT'} {rig.names[joint]}", f"{indent}{{"]
    lines += [f"{indent}  {line}" for line in body]
    for child in children:
        lines += _joint_lines(rig, child, ends, f"{indent}  ")
    if not children:
        end = f"OFFSET {_numbers(ends[joint])}"
        lines += [f"{indent}  {line}" for line in ("End Site", "{", f"  {end}", "}")]
    return [*lines, f"{indent}}}"]


def _ends(rig: Rig) -> Float[np.ndarray, "J 3"]:
    """Where each joint's part of the mesh has its middle, twice as far from the joint: the end of its bone."""
    middle = rig.weights.T @ rig.vertices / rig.weights.sum(0)[:, None]
    return 2 * (middle - rig.joints)


def _numbers(point: Float[np.ndarray, "3"]) -> str:
    return " ".join(f"{x:.6f}" for x in point)
