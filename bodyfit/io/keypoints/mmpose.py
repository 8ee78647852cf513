"""MMPose's predictions: what its inferencer saves for a picture or a clip, and its demos with --save-predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import (
    NAME_IT,
    Entry,
    attempt,
    gather,
    layout_of_count,
    numbers,
    person,
    printable,
    track_of,
)
from bodyfit.keypoints import Keypoints2D

__all__ = ["is_mmpose", "read_mmpose"]

_DATASETS = {
    "coco": "coco17",
    "coco_wholebody": "wholebody133",
    "halpe": "halpe136",
    "halpe26": "halpe26",
    "h36m": "h36m17",
    "mpii": "mpii16",
}
"""MMPose's names of the data sets whose keypoints a network predicts."""
_PIXELS = "give MMPose the picture itself, not a resized one"


def is_mmpose(content: Any) -> bool:
    """The instances of a picture or the frames of a clip in a list, or an object with `instance_info`."""
    return (isinstance(content, dict) and "instance_info" in content) or (
        isinstance(content, list)
        and any(isinstance(item, dict) and ("keypoint_scores" in item or "instances" in item) for item in content)
    )


def read_mmpose(content: Any, path: Path, layout: str | None) -> list[Entry]:
    """One entry, named after the file without the `results_` that the demos put before; of a clip one a frame.

    Without the demos' `meta_info` the number of keypoints says the layout, 17 being COCO's. The inferencer counts
    frames from 0, the demos from 1. Raises `KeypointFileError`.
    """
    instances, first = content, int(isinstance(content, dict))
    if isinstance(content, dict):
        instances, layout = content["instance_info"], _layout(content.get("meta_info"), path, layout)
    if not isinstance(instances, list):
        raise KeypointFileError(f"{path}: instance_info is no list")
    name = path.stem.removeprefix("results_")
    if any(isinstance(item, dict) and "instances" in item for item in instances):
        return list(_frames(instances, name, path, layout, first))
    return [_picture(instances, name, path, str(path), layout)]


def _picture(instances: list[Any], name: str, path: Path, where: str, layout: str | None) -> Entry:
    people = ((name, attempt(_person, item, f"{where}: instance {i}", layout)) for i, item in enumerate(instances))
    return next(iter(gather(path, people, _PIXELS)), Entry(name, path, pixels=_PIXELS))


def _frames(items: list[Any], name: str, path: Path, layout: str | None, first: int) -> Iterator[Entry]:
    """An entry for each frame of a clip."""
    for i, item in enumerate(items):
        number = item.get("frame_id") if isinstance(item, dict) else None
        if type(number) is not int or not isinstance(item.get("instances"), list):
            raise KeypointFileError(f"{path}: item {i}: expected an object with frame_id and instances")
        entry = _picture(item["instances"], f"{name}, frame {number}", path, f"{path}: frame {number}", layout)
        yield replace(entry, frame=number, first_frame=first)


def _layout(meta: Any, path: Path, layout: str | None) -> str | None:
    data = meta.get("dataset_name") if isinstance(meta, dict) else None
    if layout is not None or data is None:
        return layout
    if not isinstance(data, str) or data not in _DATASETS:
        raise KeypointFileError(
            f"{path}: keypoints of the data set {printable(data)}, expected one of {', '.join(_DATASETS)}; {NAME_IT}"
        )
    return _DATASETS[data]


def _person(item: Any, where: str, layout: str | None) -> Keypoints2D:
    if not isinstance(item, dict):
        raise KeypointFileError(f"{where}: expected an object with keypoints and keypoint_scores")
    scores = numbers(item.get("keypoint_scores"), f"{where}: keypoint_scores")
    points = item.get("keypoints")
    if not isinstance(points, list) or not points:
        raise KeypointFileError(f"{where}: has no keypoints")
    xy = [numbers(point, f"{where}: keypoint {k}") for k, point in enumerate(points)]
    odd = next((k for k, point in enumerate(xy) if len(point) != 2), None)
    if odd is not None:
        raise KeypointFileError(f"{where}: keypoint {odd} has {len(xy[odd])} coordinates, expected x and y")
    if len(xy) != len(scores):
        raise KeypointFileError(f"{where}: {len(xy)} keypoints, but {len(scores)} keypoint_scores")
    xyc = np.concatenate([np.stack(xy), scores[:, None]], 1)
    (score,) = numbers([item.get("bbox_score", 1.0)], f"{where}: bbox_score")
    kind, track = layout_of_count(len(xyc), where, layout), track_of(item.get("track_id"))
    return person(kind, xyc, where, shift=0.5, score=float(score), track=track)
