"""Define 3D points of one body over time, in metres and y up, and select its keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.point_names import keypoint_name, layout_of_names
from bodyfit.io.points3d.marker_sets import joint_centres
from bodyfit.skeleton import LAYOUTS, layout_names

__all__ = ["BodyPoints", "Points3D", "find_keypoints"]

_MIN_POINTS = 4
"""Fewest keypoints of a body."""


@dataclass(frozen=True)
class BodyPoints:
    """3D keypoints in a layout."""

    layout: str
    """Name of the layout, see `skeleton.LAYOUTS`."""
    xyz_m: Float[np.ndarray, "T K 3"]
    """Positions, metres, y up; NaN where missing."""
    used: tuple[str, ...]
    """Markers that keypoints come from."""
    unused: tuple[str, ...]
    """Markers that no keypoint of the layout comes from."""
    beside: tuple[str, ...]
    """Keypoints from a single skin marker, some centimetres off the joint."""


@dataclass(frozen=True)
class Points3D:
    """Markers over time, as `load_points3d` reads them."""

    names: tuple[str, ...]
    """Names of the markers in the file."""
    xyz_m: Float[np.ndarray, "T P 3"]
    """Positions, metres, y up (x right, z towards the viewer); NaN where a marker is missing."""
    times_s: Float[np.ndarray, "T"]
    """Times from the first frame, seconds, ascending."""
    fps: float
    """Frame rate, 1/s."""
    unit: str
    """The file's unit of length."""
    up: str
    """The file's up axis, for example "y" or "-z"."""
    path: Path
    """The file."""
    notes: tuple[str, ...] = ()
    """Sentences on what was interpreted differently from the file's words, or ignored."""

    def __len__(self) -> int:
        return len(self.xyz_m)

    def keypoints(self, layout: str | None = None) -> BodyPoints:
        """Select keypoints from the markers, in a layout; by default the smallest layout that contains most of them.

        For `fit_keypoints(points3d=p.xyz_m, points3d_layout=p.layout)`. Raises `OptionError` for an unknown layout and
        `KeypointFileError` for fewer than four keypoints.
        """
        points, rows = find_keypoints(self.names, self.xyz_m)
        chosen = layout_of_names(list(points))[0] if layout is None else layout
        present = [name for name in layout_names(chosen) if name in points]
        if len(present) < _MIN_POINTS:
            has = ascii(", ".join(self.names[:12]))[1:-1] + (" ..." if len(self.names) > 12 else "")
            raise KeypointFileError(
                f"{self.path}: {len(present)} of its markers are understood as points of a body; it has {has}; name "
                "them as RKnee, LAnkle, Neck"
            )
        xyz = np.full((len(self), len(layout_names(chosen)), 3), np.nan)
        for name in present:
            xyz[:, LAYOUTS[chosen].index(name)] = points[name]
        used = {row for name in present for row in rows[name][0]}
        return BodyPoints(
            chosen,
            xyz,
            tuple(name for i, name in enumerate(self.names) if i in used),
            tuple(name for i, name in enumerate(self.names) if i not in used),
            tuple(name for name in present if rows[name][1]),
        )


def find_keypoints(
    names: tuple[str, ...], xyz_m: Float[np.ndarray, "T P 3"]
) -> tuple[dict[str, Float[np.ndarray, "T 3"]], dict[str, tuple[tuple[int, ...], bool]]]:
    """Return keypoints' positions by name, and the rows of their markers with whether a single off-centre one is used.

    A marker with a keypoint's name is its position; others are estimated from common marker sets (`joint_centres`).
    """
    points: dict[str, Float[np.ndarray, "T 3"]] = {}
    rows: dict[str, tuple[tuple[int, ...], bool]] = {}
    skin = {name.rpartition(":")[2].upper() for name in names} >= {"LASI", "RASI"}
    for i, name in enumerate(names):
        # In skin marker sets a toe marker is at the base of the toes, not at a toe.
        point = None if skin and name.upper().endswith("TOE") else keypoint_name(name)
        if point is not None and point not in points:
            points[point], rows[point] = xyz_m[:, i], ((i,), False)
    for point, place, at, beside in joint_centres(names, xyz_m):
        if point not in points:
            points[point], rows[point] = place, (at, beside)
    return points, rows
