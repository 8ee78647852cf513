"""Read OpenPose's JSON, a file a picture, and files of AlphaPose, Pose2Sim and Sports2D in its format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import Entry, attempt, gather, person
from bodyfit.io.keypoints.layouts import OPENPOSE_COUNTS, layout_of_count, other_layouts
from bodyfit.io.keypoints.parts import PARTS, whole_body
from bodyfit.io.keypoints.values import printable, track_of, triples
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = ["is_openpose", "is_openpose_table", "people_points", "read_openpose", "read_openpose_table"]

_ADVICE = "run OpenPose with --keypoint_scale 0"


def is_openpose(content: Any) -> bool:
    """Tell whether content is one picture: `people` of OpenPose, or `bodies` of AlphaPose's --format cmu."""
    if not isinstance(content, dict):
        return False
    keys = [key for key in ("people", "bodies") if key in content]
    return bool(keys) and all(content[key] is None or isinstance(content[key], list) for key in keys)


def is_openpose_table(content: Any) -> bool:
    """Tell whether content is AlphaPose's --format open or cmu: an OpenPose object for each picture, by name."""
    return isinstance(content, dict) and len(content) > 0 and all(is_openpose(item) for item in content.values())


def read_openpose(content: dict[str, Any], path: Path, layout: str | None, name: str | None = None) -> list[Entry]:
    """Read one entry, named after the file without `_keypoints`, as --write_json names it.

    OpenPose's coordinates are pixels from the picture's corner: they include the half pixel.
    """
    has_name = name is not None
    name = path.stem.removesuffix("_keypoints") if name is None else name
    where = f"{path}: {printable(name)}" if has_name else str(path)
    people = content.get("people") or content.get("bodies") or []
    items = ((name, attempt(_person, item, f"{where}: person {i}", layout)) for i, item in enumerate(people))
    (entry,) = gather(path, items, _ADVICE) or [Entry(name, path)]
    return [entry if layout is not None else replace(entry, notes=_ambiguity_notes(entry))]


def read_openpose_table(content: dict[str, Any], path: Path, layout: str | None) -> list[Entry]:
    """Read an entry for each picture. Raises `KeypointFileError`."""
    return [entry for name, item in content.items() for entry in read_openpose(item, path, layout, name)]


def people_points(item: Any, where: str, layout: str | None) -> tuple[str, Float[np.ndarray, "K 3"]] | None:
    """Return layout and points of one of `people`; None for null, {}, and a person without points.

    Raises `KeypointFileError`.
    """
    if item is None or item == {}:
        return None
    if not isinstance(item, dict):
        raise KeypointFileError(f"{where}: expected an object with pose_keypoints_2d, found {printable(item)}")
    body = _part(item, "pose", where)
    if not len(body) and "joints" in item:
        body = triples(item["joints"], f"{where}: joints")
    parts = {part: _part(item, part, where) for part in PARTS}
    if not len(body) and not any(map(len, parts.values())):
        if item.get("pose_keypoints_3d"):
            raise KeypointFileError(f"{where}: no pose_keypoints_2d; it has 3D keypoints only")
        return None
    kind = layout_of_count(len(body), where, layout, OPENPOSE_COUNTS) if len(body) else "openpose25"
    return whole_body(body, kind, parts, where)


def _person(item: Any, where: str, layout: str | None) -> Keypoints2D | None:
    """Make a person. Raises `KeypointFileError`."""
    parsed = people_points(item, where, layout)
    if parsed is None:
        return None
    kind, xyc = parsed
    track = track_of(item.get("person_id", item.get("idx")))  # [-1] where OpenPose does not track
    return person(kind, xyc, where, shift=0.0, track=track, advice=_ADVICE)


def _ambiguity_notes(entry: Entry) -> tuple[str, ...]:
    """Note which layouts were assumed where the number of keypoints is ambiguous."""
    assumed = {person.layout: other_layouts(person.layout) for person in entry.people}
    return tuple(
        f"{len(layout_names(layout))} keypoints a person are taken for {layout}; if they are {' or '.join(others)}, "
        f"give layout={others[0]!r}"
        for layout, others in assumed.items()
        if others
    )


def _part(item: dict[str, Any], part: str, where: str) -> Float[np.ndarray, "K 3"]:
    """Return a part's points, by today's key or that before version 1.2 (without `_2d`); empty where missing."""
    for key in (f"{part}_keypoints_2d", f"{part}_keypoints"):
        if item.get(key) not in (None, {}):
            return triples(item[key], f"{where}: {key}")
    return np.zeros((0, 3))
