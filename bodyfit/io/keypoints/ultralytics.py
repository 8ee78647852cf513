"""Read Ultralytics' JSON: `to_json()` (formerly `tojson()`) of a picture's results, or a list of these, one a frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import Entry, Outcome, attempt, gather, person, relative_sides
from bodyfit.io.keypoints.layouts import layout_of_count
from bodyfit.io.keypoints.values import numbers, score_of, track_of
from bodyfit.keypoints import Keypoints2D

__all__ = ["is_ultralytics", "read_ultralytics"]

_PIXELS = "give Ultralytics the picture itself, not a resized one"


def is_ultralytics(content: Any) -> bool:
    """Tell whether content is a list of detections with `box` and `class`, or a list of such lists."""
    if not isinstance(content, list) or not content:
        return False
    if all(isinstance(item, list) for item in content):
        return any(map(is_ultralytics, content))
    return any(isinstance(item, dict) and "class" in item and isinstance(item.get("box"), dict) for item in content)


def read_ultralytics(content: list[Any], path: Path, layout: str | None) -> list[Entry]:
    """Read one entry, named after the file, or one a frame of a list, from 0.

    Coordinates may be fractions of the picture's sides (`normalize=True`). Raises `KeypointFileError` for a file of
    boxes.
    """
    frames = content if all(isinstance(item, list) for item in content) else None
    detections = [item for frame in frames or [content] for item in frame]
    if not any(isinstance(item, dict) and item.get("keypoints") for item in detections):
        raise KeypointFileError(f"{path}: no detection has keypoints; run a pose model (yolo11n-pose, say)")
    if frames is None:
        return [_picture(content, path.stem, path, str(path), layout)]
    return [
        replace(_picture(items, f"{path.stem}, frame {i}", path, f"{path}: frame {i}", layout), frame=i)
        for i, items in enumerate(frames)
    ]


def _picture(items: list[Any], name: str, path: Path, where: str, layout: str | None) -> Entry:
    """Make the entry of one picture."""
    results = [attempt(_points, item, f"{where}: detection {i}") for i, item in enumerate(items)]
    all_points = [xyc for xyc in results if isinstance(xyc, np.ndarray)]
    relative = bool(all_points) and relative_sides(np.concatenate(all_points))
    people: list[tuple[str, Outcome]] = []
    for i, (item, xyc) in enumerate(zip(items, results, strict=True)):
        if isinstance(xyc, np.ndarray):
            people.append((name, attempt(_person, item, xyc, f"{where}: detection {i}", layout, relative)))
        else:
            people.append((name, xyc))
    (entry,) = gather(path, people, _PIXELS) or [Entry(name, path)]
    return replace(entry, relative=relative)


def _points(item: Any, where: str) -> Float[np.ndarray, "K 3"] | None:
    """Return the points of a detection; None where it has none. Raises `KeypointFileError`."""
    if item is None or item == {}:
        return None
    if not isinstance(item, dict):
        raise KeypointFileError(f"{where}: expected an object with box and keypoints")
    keypoints = item.get("keypoints")
    if not keypoints:
        return None
    if not isinstance(keypoints, dict) or "x" not in keypoints or "y" not in keypoints:
        raise KeypointFileError(f"{where}: keypoints must be an object with lists x, y and visible")
    x, y = (numbers(keypoints[key], f"{where}: keypoints {key}") for key in ("x", "y"))
    confidence = np.ones(len(x))
    if keypoints.get("visible") is not None:
        confidence = numbers(keypoints["visible"], f"{where}: keypoints visible")
    if not len(x) == len(y) == len(confidence):
        raise KeypointFileError(
            f"{where}: {len(x)} x, {len(y)} y and {len(confidence)} visible are not of the same points"
        )
    return np.stack([x, y, confidence], 1)


def _person(
    item: dict[str, Any], xyc: Float[np.ndarray, "K 3"], where: str, layout: str | None, relative: bool
) -> Keypoints2D | None:
    """Make a person. Raises `KeypointFileError`."""
    kind = layout_of_count(len(xyc), where, layout)
    score = score_of(item.get("confidence"), f"{where}: confidence")
    track = track_of(item.get("track_id"))
    return person(kind, xyc, where, shift=0.0, score=score, track=track, relative=relative)
