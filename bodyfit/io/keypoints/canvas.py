"""ControlNet's poses: OpenPose's objects with the size of a canvas, one a picture or a list of a clip's frames.

`encode_poses_as_dict` of the ControlNet preprocessors (sd-webui-controlnet, comfyui_controlnet_aux, OpenPose editors)
writes them. Coordinates are pixels of the canvas, which often is the picture made smaller, or parts of its sides.
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
    """An object with `people` and the canvas' sides, or a list of OpenPose's objects, one a frame."""
    if isinstance(content, list):
        return len(content) > 0 and any(map(is_openpose, content)) and all(map(_is_frame, content))
    return is_openpose(content) and _canvas(content) is not None


def read_canvas(content: Any, path: Path, layout: str | None) -> list[Entry]:
    """One entry, named after the file; of a list of several one a frame, counted from 0. Raises `KeypointFileError`."""
    name = path.stem.removesuffix("_keypoints")
    if not isinstance(content, list):
        return [_picture(content, name, path, str(path), layout, None)]
    if len(content) == 1:
        return [_picture(content[0], name, path, str(path), layout, None)]
    return [
        _picture(item, f"{name}, frame {i}", path, f"{path}: frame {i}", layout, i) for i, item in enumerate(content)
    ]


def _is_frame(item: Any) -> bool:
    return item is None or item == {} or is_openpose(item)


def _canvas(content: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height, where both are there."""
    sides = content.get("canvas_width"), content.get("canvas_height")
    w, h = (round(side) if isinstance(side, int | float) and 1 <= side < 1e6 else 0 for side in sides)
    return (w, h) if w and h else None


def _picture(item: Any, name: str, path: Path, where: str, layout: str | None, frame: int | None) -> Entry:
    item = item or {}
    canvas, people = _canvas(item), item.get("people") or []
    scale = canvas if canvas is not None and not _normalised(people, layout) else (1, 1)
    relative = canvas is not None  # else pixels are the picture's own
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
    """Whether no coordinate of anyone lies beyond 1."""
    read = (attempt(people_points, one, "", layout) for one in people)
    found = [one[1] for one in read if isinstance(one, tuple)]
    return not found or relative_sides(np.concatenate(found))


def _person(item: Any, where: str, layout: str | None, scale: tuple[int, int], relative: bool) -> Keypoints2D | None:
    found = people_points(item, where, layout)
    if found is None:
        return None
    kind, xyc = found
    track = track_of(item.get("person_id"))
    return person(kind, xyc / np.array((*scale, 1)), where, shift=0.0, track=track, relative=relative, advice=_ADVICE)
