"""Write coloured meshes and clouds of points as PLY, as they are: no axes are turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from bodyfit.runtime.atomic import write_atomically

__all__ = ["distance_colors", "save_colored_ply"]

_INSIDE, _NEAR, _OUTSIDE = np.array((0.13, 0.40, 0.67)), np.array((0.96, 0.96, 0.94)), np.array((0.70, 0.09, 0.17))


def distance_colors(distance_m: Float[np.ndarray, "N"], full_m: float) -> UInt8[np.ndarray, "N 3"]:
    """Colour signed distances: white at 0, red at `full_m` outside, blue as far inside, grey where NaN."""
    at = np.clip(np.nan_to_num(distance_m) / full_m, -1, 1)[:, None]
    colors = np.where(at > 0, _NEAR + at * (_OUTSIDE - _NEAR), _NEAR - at * (_INSIDE - _NEAR))
    colors[~np.isfinite(distance_m)] = 0.5
    return (255 * colors).round().astype(np.uint8)


def save_colored_ply(
    path: str | Path,
    points: Float[np.ndarray, "N 3"],
    colors: UInt8[np.ndarray, "N 3"] | None = None,
    faces: Int[np.ndarray, "F 3"] | None = None,
    *,
    comment: str = "",
) -> None:
    """Write a binary PLY of points, of a mesh where there are faces, with a colour each. Raises `OutputError`."""
    columns = [(name, "<f4") for name in "xyz"]
    columns += [] if colors is None else [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.empty(len(points), columns)
    for axis, name in enumerate("xyz"):
        rows[name] = points[:, axis]
    if colors is not None:
        for channel, name in enumerate(("red", "green", "blue")):
            rows[name] = colors[:, channel]
    header = ["ply", "format binary_little_endian 1.0", f"comment bodyfit; {comment}".rstrip("; ")]
    header += [f"element vertex {len(points)}"]
    header += [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in columns]
    corners = np.empty(0 if faces is None else len(faces), [("n", "u1"), ("corner", "<i4", 3)])
    if faces is not None:
        corners["n"], corners["corner"] = 3, faces
        header += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    text = "\n".join([*header, "end_header", ""]).encode("ascii", "replace")
    with write_atomically(path) as temporary:
        temporary.write_bytes(text + rows.tobytes() + corners.tobytes())
