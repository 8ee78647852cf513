"""Read EasyMocap's annotations: a file a picture, `annots/CAMERA/000012.json`, from its extract_keypoints.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import Entry, attempt, gather, person
from bodyfit.io.keypoints.layouts import OPENPOSE_COUNTS, layout_of_count
from bodyfit.io.keypoints.parts import PARTS, whole_body
from bodyfit.io.keypoints.values import score_of, track_of, triples
from bodyfit.keypoints import Keypoints2D

__all__ = ["is_easymocap", "read_easymocap"]

_PIXELS = "give the picture that EasyMocap annotated"
_PARTS = {"hand_left": "handl2d", "hand_right": "handr2d", "face": "face2d"}
"""EasyMocap's keys of the parts."""


def is_easymocap(content: Any) -> bool:
    """Tell whether content is an object with `annots`, or a list of people with a `personID`."""
    if isinstance(content, dict):
        return "annots" in content and (content["annots"] is None or isinstance(content["annots"], list))
    return isinstance(content, list) and any(isinstance(item, dict) and "personID" in item for item in content)


def read_easymocap(content: Any, path: Path, layout: str | None) -> list[Entry]:
    """Read one entry, of the picture that the file names or by its own name; people keep their `personID`."""
    about = content if isinstance(content, dict) else {"annots": content}
    filename = about.get("filename")
    name = filename if isinstance(filename, str) and filename else path.stem
    size = about.get("width"), about.get("height")
    people = about.get("annots") or []
    items = ((name, attempt(_person, one, f"{path}: annotation {i}", layout)) for i, one in enumerate(people))
    (entry,) = gather(path, items, _PIXELS) or [Entry(name, path)]
    return [replace(entry, image_size=size if all(type(side) is int and side > 0 for side in size) else None)]


def _person(item: Any, where: str, layout: str | None) -> Keypoints2D | None:
    """Make a person. Raises `KeypointFileError`."""
    if item is None or item == {}:
        return None
    if not isinstance(item, dict):
        raise KeypointFileError(f"{where}: expected an object with personID and keypoints")
    body = triples(item.get("keypoints"), f"{where}: keypoints")
    parts = {name: triples(item.get(key), f"{where}: {key}") for name, key in _PARTS.items()}
    # MediaPipe's hundreds of points of the face are ignored.
    parts = {name: xyc for name, xyc in parts.items() if len(xyc) in (PARTS[name], 68 if name == "face" else -1)}
    if not len(body) and not any(map(len, parts.values())):
        return None
    kind = layout_of_count(len(body), where, layout, OPENPOSE_COUNTS) if len(body) else "openpose25"
    kind, xyc = whole_body(np.asarray(body), kind, parts, where)
    box = item.get("bbox")
    score = score_of(box[4] if isinstance(box, list) and len(box) == 5 else None, f"{where}: bbox")
    return person(kind, xyc, where, shift=0.0, score=score, track=track_of(item.get("personID")))
