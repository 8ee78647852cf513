"""3D points of one body through time, in metres and y up, and what of them are points of a body."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.point_names import keypoint_name, layout_of_names
from bodyfit.io.points3d.marker_sets import joint_centres
from bodyfit.skeleton import LAYOUTS, layout_names

__all__ = ["BodyPoints", "Points3D", "named_points"]

_LEAST = 4
"""Points that a body needs."""


@dataclass(frozen=True)
class BodyPoints:
    """Points of a layout of keypoints."""

    layout: str
    """Its name, see `skeleton.LAYOUTS`."""
    xyz_m: Float[np.ndarray, "T K 3"]
    """Metres, y up; NaN where there is none."""
    used: tuple[str, ...]
    """Markers that they were made of."""
    unused: tuple[str, ...]
    """Markers that stand for no keypoint of the layout."""
    beside: tuple[str, ...]
    """Keypoints for which a single marker on the skin stands, some centimetres beside the joint."""


@dataclass(frozen=True)
class Points3D:
    """Markers through time, as `load_points3d` reads them."""

    names: tuple[str, ...]
    """Of the markers, as in the file."""
    xyz_m: Float[np.ndarray, "T P 3"]
    """Metres, y up (x right, z towards the viewer); NaN where a marker was not seen."""
    times_s: Float[np.ndarray, "T"]
    """From the first frame, ascending."""
    fps: float
    """Frames a second."""
    unit: str
    """The file's unit of length, as it was understood."""
    up: str
    """The file's axis that pointed up, "y" or "-z", say."""
    path: Path
    """The file."""
    notes: tuple[str, ...] = ()
    """What was understood otherwise than the file says, or left aside."""

    def __len__(self) -> int:
        return len(self.xyz_m)

    def keypoints(self, layout: str | None = None) -> BodyPoints:
        """The markers that stand for keypoints, in the order of a layout; by default the smallest that holds most.

        For `fit_keypoints(points3d=p.xyz_m, points3d_layout=p.layout)`. Raises `OptionError` for an unknown layout and
        `KeypointFileError` for fewer than four keypoints.
        """
        points, rows = named_points(self.names, self.xyz_m)
        kind = layout_of_names(list(points))[0] if layout is None else layout
        wanted = [name for name in layout_names(kind) if name in points]
        if len(wanted) < _LEAST:
            has = ascii(", ".join(self.names[:12]))[1:-1] + (" ..." if len(self.names) > 12 else "")
            raise KeypointFileError(
                f"{self.path}: {len(wanted)} of its markers are understood as points of a body; it has {has}; name "
                "them as RKnee, LAnkle, Neck"
            )
        xyz = np.full((len(self), len(layout_names(kind)), 3), np.nan)
        for name in wanted:
            xyz[:, LAYOUTS[kind].index(name)] = points[name]
        used = {row for name in wanted for row in rows[name][0]}
        return BodyPoints(
            kind,
            xyz,
            tuple(name for i, name in enumerate(self.names) if i in used),
            tuple(name for i, name in enumerate(self.names) if i not in used),
            tuple(name for name in wanted if rows[name][1]),
        )


def named_points(
    names: tuple[str, ...], xyz_m: Float[np.ndarray, "T P 3"]
) -> tuple[dict[str, Float[np.ndarray, "T 3"]], dict[str, tuple[tuple[int, ...], bool]]]:
    """By keypoint its place, and the markers' rows with whether they are a single one beside the joint.

    A marker that is named as a keypoint is its place; else usual marker sets tell (`joint_centres`).
    """
    points: dict[str, Float[np.ndarray, "T 3"]] = {}
    rows: dict[str, tuple[tuple[int, ...], bool]] = {}
    skin = {name.rpartition(":")[2].upper() for name in names} >= {"LASI", "RASI"}
    for i, name in enumerate(names):
        # Of a set of markers on the skin a toe's is at the root of the toes.
        point = None if skin and name.upper().endswith("TOE") else keypoint_name(name)
        if point is not None and point not in points:
            points[point], rows[point] = xyz_m[:, i], ((i,), False)
    for point, place, at, beside in joint_centres(names, xyz_m):
        if point not in points:
            points[point], rows[point] = place, (at, beside)
    return points, rows
