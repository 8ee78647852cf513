"""Read ControlNet's poses: OpenPose's objects with the size of a canvas, one a picture or a list of frames.

`encode_poses_as_dict` of the ControlNet preprocessors (sd-webui-controlnet, comfyui_controlnet_aux, OpenPose editors)
writes them. Coordinates are pixels of the canvas, often a downscaled picture, or fractions of its sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.io.keypoints.entry import Entry, attempt, gather, person, relative_sides
from bodyfit.io.keypoints.openpose import is_openpose, people_points
from bodyfit.io.keypoints.values import track_of
from bodyfit.keypoints import Keypoints2D

__all__ = ["is_canvas", "read_canvas"]

_PIXELS = "give the picture that the canvas was made from"
_ADVICE = "add the sides of the canvas, canvas_width and canvas_height"


def is_canvas(content: Any) -> bool:
    """Tell whether content is an object with `people` and the canvas' sides, or a list of OpenPose's objects."""
    if isinstance(content, list):
        return len(content) > 0 and any(map(is_openpose, content)) and all(map(_is_frame, content))
    return is_openpose(content) and _canvas(content) is not None


def read_canvas(content: Any, path: Path, layout: str | None) -> list[Entry]:
    """Read one entry, named after the file, or one a frame of a list, from 0. Raises `KeypointFileError`."""
    name = path.stem.removesuffix("_keypoints")
    if not isinstance(content, list):
        return [_picture(content, name, path, str(path), layout, None)]
    if len(content) == 1:
        return [_picture(content[0], name, path, str(path), layout, None)]
    return [
        _picture(item, f"{name}, frame {i}", path, f"{path}: frame {i}", layout, i) for i, item in enumerate(content)
    ]


def _is_frame(item: Any) -> bool:
    """Tell whether an item is an OpenPose object or empty."""
    return item is None or item == {} or is_openpose(item)


def _canvas(content: dict[str, Any]) -> tuple[int, int] | None:
    """Return width and height, None where one is missing."""
    sides = content.get("canvas_width"), content.get("canvas_height")
    w, h = (round(side) if isinstance(side, int | float) and 1 <= side < 1e6 else 0 for side in sides)
    return (w, h) if w and h else None


def _picture(item: Any, name: str, path: Path, where: str, layout: str | None, frame: int | None) -> Entry:
    """Make the entry of one picture."""
    item = item or {}
    canvas, people = _canvas(item), item.get("people") or []
    scale = canvas if canvas is not None and not _normalised(people, layout) else (1, 1)
    relative = canvas is not None  # otherwise coordinates are pixels of the picture
    items = [
        (name, attempt(_person, one, f"{where}: person {i}", layout, scale, relative)) for i, one in enumerate(people)
    ]
    (entry,) = gather(path, items, _PIXELS) or [Entry(name, path)]
    return Entry(
        name,
        path,
        entry.people,
        entry.faults,
        canvas=canvas,
        relative=relative,
        pixels=_PIXELS,
        frame=frame,
    )


def _normalised(people: list[Any], layout: str | None) -> bool:
    """Tell whether all coordinates are fractions of the canvas."""
    results = (attempt(people_points, one, "", layout) for one in people)
    points = [one[1] for one in results if isinstance(one, tuple)]
    return not points or relative_sides(np.concatenate(points))


def _person(item: Any, where: str, layout: str | None, scale: tuple[int, int], relative: bool) -> Keypoints2D | None:
    """Make a person, with coordinates divided by `scale`. Raises `KeypointFileError`."""
    parsed = people_points(item, where, layout)
    if parsed is None:
        return None
    kind, xyc = parsed
    track = track_of(item.get("person_id"))
    return person(kind, xyc / np.array((*scale, 1)), where, shift=0.0, track=track, relative=relative, advice=_ADVICE)
