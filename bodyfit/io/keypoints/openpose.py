"""OpenPose's JSON, one file a picture, and AlphaPose's files in its likeness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import Entry, attempt, gather, layout_of_count, person, printable, track_of, triples
from bodyfit.keypoints import Keypoints2D, convert_keypoints

__all__ = ["is_openpose", "is_openpose_table", "read_openpose", "read_openpose_table"]

_BY_COUNT = {18: "openpose18", 25: "openpose25"}
_PARTS = (("hand_left", 21), ("hand_right", 21), ("face", 70))
_ADVICE = "run OpenPose with --keypoint_scale 0"


def is_openpose(content: Any) -> bool:
    """One picture: `people` of OpenPose, or `bodies` of AlphaPose's --format cmu."""
    return isinstance(content, dict) and any(isinstance(content.get(key), list) for key in ("people", "bodies"))


def is_openpose_table(content: Any) -> bool:
    """AlphaPose's --format open or cmu: such an object for each picture, under the picture's name."""
    return isinstance(content, dict) and len(content) > 0 and all(is_openpose(item) for item in content.values())


def read_openpose(content: dict[str, Any], path: Path, layout: str | None, name: str | None = None) -> list[Entry]:
    """One entry; its name is the file's without `_keypoints`, as --write_json names it after the picture.

    Coordinates are as OpenPose gives them, pixels from the picture's corner: it adds the half pixel itself.
    """
    given = name is not None
    name = path.stem.removesuffix("_keypoints") if name is None else name
    where = f"{path}: {printable(name)}" if given else str(path)
    people = content.get("people", content.get("bodies", []))
    items = ((name, attempt(_person, item, f"{where}: person {i}", layout)) for i, item in enumerate(people))
    return gather(path, items, _ADVICE) or [Entry(name, path)]


def read_openpose_table(content: dict[str, Any], path: Path, layout: str | None) -> list[Entry]:
    """An entry for each picture."""
    return [entry for name, item in content.items() for entry in read_openpose(item, path, layout, name)]


def _person(item: Any, where: str, layout: str | None) -> Keypoints2D:
    if not isinstance(item, dict):
        raise KeypointFileError(f"{where}: expected an object with pose_keypoints_2d, found {printable(item)}")
    body = _part(item, "pose", where)
    body = triples(item["joints"], f"{where}: joints") if body is None and "joints" in item else body
    parts = dict(_present_parts(item, where))
    if body is None or not (len(body) or parts):
        only = "; it has 3D keypoints only" if item.get("pose_keypoints_3d") else ""
        raise KeypointFileError(f"{where}: no pose_keypoints_2d{only}")
    if len(body) in (0, *_BY_COUNT) or not parts:
        layout = layout_of_count(len(body), where, layout, _BY_COUNT) if len(body) else "openpose25"
    else:
        raise KeypointFileError(f"{where}: {len(body)} keypoints of the body, expected 18 or 25")
    track = track_of(item.get("person_id", item.get("idx")))  # [-1] where OpenPose does not track
    if not parts:
        return person(layout, body, where, shift=0.0, track=track, advice=_ADVICE)
    body = body if len(body) else np.zeros((25, 3))
    whole = [convert_keypoints(body, layout, "openpose25")[0]]
    whole += [parts.get(part, np.zeros((count, 3))) for part, count in _PARTS]
    return person("openpose137", np.concatenate(whole), where, shift=0.0, track=track, advice=_ADVICE)


def _present_parts(item: dict[str, Any], where: str) -> Iterator[tuple[str, Float[np.ndarray, "K 3"]]]:
    """The hands and the face that the person has."""
    for part, count in _PARTS:
        points = _part(item, part, where)
        if points is None or not len(points):
            continue
        if part == "face" and len(points) == 68:  # DWPose writes the face without pupils
            points = np.concatenate([points, np.zeros((2, 3))])
        if len(points) != count:
            raise KeypointFileError(f"{where}: {part}_keypoints_2d has {len(points)} keypoints, expected {count}")
        yield part, points


def _part(item: dict[str, Any], part: str, where: str) -> Float[np.ndarray, "K 3"] | None:
    """The part under its name of today or of before version 1.2, which lacked the `_2d`."""
    for key in (f"{part}_keypoints_2d", f"{part}_keypoints"):
        if item.get(key) is not None:
            return triples(item[key], f"{where}: {key}")
    return None
