"""Read MMPose's predictions: of its inferencer for a picture or a clip, and of its demos with --save-predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import Entry, attempt, gather, person
from bodyfit.io.keypoints.layouts import NAME_IT, layout_of_count
from bodyfit.io.keypoints.values import numbers, points, printable, score_of, track_of
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
"""Layouts by MMPose's names of the training data sets."""
_PIXELS = "give MMPose the picture itself, not a resized one"


def is_mmpose(content: Any) -> bool:
    """Tell whether content is a list of instances or frames, or an object with `instance_info`."""
    return (isinstance(content, dict) and "instance_info" in content) or (
        isinstance(content, list)
        and any(isinstance(item, dict) and ("keypoint_scores" in item or "instances" in item) for item in content)
    )


def read_mmpose(content: Any, path: Path, layout: str | None) -> list[Entry]:
    """Read one entry, named after the file without the demos' prefix `results_`, or one a frame of a clip.

    Without the demos' `meta_info` the number of keypoints determines the layout, 17 for COCO. The inferencer counts
    frames from 0, the demos from 1. Raises `KeypointFileError`.
    """
    instances, first = content, int(isinstance(content, dict))
    if isinstance(content, dict):
        instances, layout = content["instance_info"], _layout(content.get("meta_info"), path, layout)
    instances = [] if instances is None else instances
    if not isinstance(instances, list):
        raise KeypointFileError(f"{path}: instance_info is no list")
    name = path.stem.removeprefix("results_")
    if any(isinstance(item, dict) and "instances" in item for item in instances):
        return list(_frames(instances, name, path, layout, first))
    return [_picture(instances, name, path, str(path), layout)]


def _picture(instances: list[Any], name: str, path: Path, where: str, layout: str | None) -> Entry:
    """Make the entry of one picture."""
    people = ((name, attempt(_person, item, f"{where}: instance {i}", layout)) for i, item in enumerate(instances))
    return next(iter(gather(path, people, _PIXELS)), Entry(name, path, pixels=_PIXELS))


def _frames(items: list[Any], name: str, path: Path, layout: str | None, first: int) -> Iterator[Entry]:
    """Yield an entry for each frame of a clip; a frame without a number becomes faulty."""
    for i, item in enumerate(items):
        if item is None or item == {}:
            continue
        number = item.get("frame_id") if isinstance(item, dict) else None
        people = (item.get("instances") or []) if isinstance(item, dict) else None
        if type(number) is not int or not isinstance(people, list):
            fault = f"{path}: item {i}: expected an object with frame_id and instances"
            yield Entry(f"{name}, item without a frame", path, faults=(fault,))
            continue
        entry = _picture(people, f"{name}, frame {number}", path, f"{path}: frame {number}", layout)
        yield replace(entry, frame=number, first_frame=first)


def _layout(meta: Any, path: Path, layout: str | None) -> str | None:
    """Return the layout that the metadata name. Raises `KeypointFileError`."""
    data = meta.get("dataset_name") if isinstance(meta, dict) else None
    if layout is not None or data is None:
        return layout
    if not isinstance(data, str) or data not in _DATASETS:
        raise KeypointFileError(
            f"{path}: keypoints of the data set {printable(data)}, expected one of {', '.join(_DATASETS)}; {NAME_IT}"
        )
    return _DATASETS[data]


def _person(item: Any, where: str, layout: str | None) -> Keypoints2D | None:
    """Make a person, None for null, {} or no keypoints; scores default to 1. Raises `KeypointFileError`."""
    if item is None or item == {}:
        return None
    if not isinstance(item, dict):
        raise KeypointFileError(f"{where}: expected an object with keypoints and keypoint_scores")
    if not item.get("keypoints"):
        return None
    xy = points(item["keypoints"], where, (2,))
    scores = np.ones(len(xy))
    if item.get("keypoint_scores") is not None:
        scores = numbers(item["keypoint_scores"], f"{where}: keypoint_scores")
    if len(xy) != len(scores):
        raise KeypointFileError(f"{where}: {len(xy)} keypoints, but {len(scores)} keypoint_scores")
    xyc = np.concatenate([xy, scores[:, None]], 1)
    score = score_of(item.get("bbox_score"), f"{where}: bbox_score")
    kind, track = layout_of_count(len(xyc), where, layout), track_of(item.get("track_id"))
    return person(kind, xyc, where, shift=0.5, score=score, track=track)
