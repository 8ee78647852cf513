"""Determine the layout by the number of keypoints, in files that do not name it."""

from __future__ import annotations

from collections.abc import Mapping

from bodyfit.errors import KeypointFileError
from bodyfit.skeleton import LAYOUTS, layout_names

__all__ = ["NAME_IT", "OPENPOSE_COUNTS", "OTHER_COUNTS", "layout_of_count", "other_layouts"]

OTHER_COUNTS = {16: "mpii16", 17: "coco17", 26: "halpe26", 33: "mediapipe33", 133: "wholebody133", 136: "halpe136"}
"""Layouts by the number of keypoints, in COCO-like files."""
OPENPOSE_COUNTS = {18: "openpose18", 25: "openpose25"} | OTHER_COUNTS
"""Layouts by the number of keypoints in OpenPose's JSON: its own, and those of Pose2Sim and Sports2D."""
NAME_IT = "name the layout with layout= if it is another"
"""Advice where a file does not name the layout."""


def layout_of_count(count: int, where: str, layout: str | None, by_count: Mapping[int, str] | None = None) -> str:
    """Return the layout of so many keypoints, or the given one, checked. Raises `KeypointFileError`."""
    by_count = OTHER_COUNTS if by_count is None else by_count
    if layout is None:
        if count not in by_count:
            expected = ", ".join(f"{k} ({name})" for k, name in sorted(by_count.items()))
            raise KeypointFileError(f"{where}: {count} keypoints, expected {expected}; {NAME_IT}")
        return by_count[count]
    if len(layout_names(layout)) != count:
        raise KeypointFileError(
            f"{where}: {count} keypoints, but the layout {layout} that was asked for has {len(layout_names(layout))}"
        )
    return layout


def other_layouts(layout: str) -> list[str]:
    """List the other layouts with the same number of keypoints."""
    return [name for name in LAYOUTS if name != layout and len(LAYOUTS[name]) == len(LAYOUTS[layout])]
