"""Read COCO's keypoint JSON: annotations, and results as MMPose, ViTPose, Detectron2 and AlphaPose write them.

COCO has the origin at the first pixel's centre, so half a pixel is added to the coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.errors import KeypointFileError
from bodyfit.io.keypoints.entry import Entry, Outcome, attempt, gather, person
from bodyfit.io.keypoints.layouts import NAME_IT, layout_of_count
from bodyfit.io.keypoints.values import printable, score_of, track_of, triples
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import layout_names

__all__ = ["image_names", "is_annotations", "is_results", "read_annotations", "read_results"]

_PIXELS = "give x and y in pixels of the picture itself, not of a resized one"
_WHOLEBODY = (("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21), ("righthand_kpts", 21))


def is_annotations(content: Any) -> bool:
    """Tell whether content is an object with `images` (and `annotations`, unless it only lists images of results)."""
    return isinstance(content, dict) and isinstance(content.get("images"), list)


def is_results(content: Any) -> bool:
    """Tell whether content is a list of objects with an `image_id`."""
    return isinstance(content, list) and any(isinstance(item, dict) and "image_id" in item for item in content)


def image_names(content: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, int] | None]]:
    """Return file names and picture sizes by image id."""
    names = {}
    for image in content["images"]:
        if isinstance(image, dict) and isinstance(image.get("file_name"), str) and "id" in image:
            size = image.get("width"), image.get("height")
            whole = all(type(side) is int and side > 0 for side in size)
            names[str(image["id"])] = (image["file_name"], size if whole else None)
    return names


def read_annotations(content: dict[str, Any], path: Path, layout: str | None) -> list[Entry]:
    """Read an entry for each image, also without people; skip crowds and people without a labelled keypoint.

    Visibility becomes confidence: 2 (visible) is 1, 1 (labelled but hidden) is 0.5. Raises `KeypointFileError`.
    """
    names = image_names(content)
    layouts = _category_layouts(content, path, layout)
    entries = {name: Entry(name, path, image_size=size, pixels=_PIXELS) for name, size in names.values()}
    gathered = gather(path, _annotated(content.get("annotations") or [], path, names, layouts, layout), _PIXELS)
    sizes = dict(names.values())
    entries |= {entry.name: replace(entry, image_size=sizes.get(entry.name)) for entry in gathered}
    return list(entries.values())


def read_results(
    content: list[Any], path: Path, layout: str | None, names: Mapping[str, tuple[str, tuple[int, int] | None]]
) -> list[Entry]:
    """Read an entry for each image that has results; `names` maps COCO's image ids to file names and sizes.

    Raises `KeypointFileError` for a file of boxes.
    """
    if not any(isinstance(item, dict) and item.get("keypoints") for item in content):
        raise KeypointFileError(f"{path}: none of its {len(content)} results has keypoints; is it a file of boxes?")

    def items() -> Iterator[tuple[str, Outcome]]:
        for i, item in enumerate(content):
            if item is None or item == {}:
                continue
            image = item.get("image_id") if isinstance(item, dict) else None
            if not isinstance(item, dict) or type(image) not in (int, str):
                yield path.stem, KeypointFileError(f"{path}: result {i}: expected an object with image_id")
                continue
            name = names[str(image)][0] if str(image) in names else str(image)
            where = f"{path}: result {i} (image {printable(image)})"
            yield name, attempt(_result, item, where, layout)

    sizes = dict(names.values())
    return [replace(entry, image_size=sizes.get(entry.name)) for entry in gather(path, items(), _PIXELS)]


def _result(item: dict[str, Any], where: str, layout: str | None) -> Keypoints2D | None:
    """Make the person of a result. Raises `KeypointFileError`."""
    xyc = triples(item.get("keypoints"), where)
    if not len(xyc):
        return None
    score = score_of(item.get("score"), f"{where}: score")
    kind, track = layout_of_count(len(xyc), where, layout), track_of(item.get("track_id", item.get("idx")))
    return person(kind, xyc, where, shift=0.5, score=score, track=track)


def _annotated(
    annotations: Any,
    path: Path,
    names: Mapping[str, tuple[str, tuple[int, int] | None]],
    layouts: Mapping[str, str],
    layout: str | None,
) -> Iterator[tuple[str, Outcome]]:
    """Yield the picture's name and the person or error of each annotation. Raises `KeypointFileError`."""
    if not isinstance(annotations, list):
        raise KeypointFileError(f"{path}: annotations is no list")
    for i, item in enumerate(annotations):
        if item is None or item == {}:
            continue
        if not isinstance(item, dict) or str(item.get("image_id")) not in names:
            image = printable(item.get("image_id")) if isinstance(item, dict) else "none"
            yield path.stem, KeypointFileError(f"{path}: annotation {i}: its image {image} is not among the images")
            continue
        if item.get("iscrowd") == 1 or not item.get("keypoints") or item.get("num_keypoints") == 0:
            continue
        where = f"{path}: annotation {printable(item.get('id', i))} (image {printable(item['image_id'])})"
        kind = layout or layouts.get(str(item.get("category_id")))
        yield names[str(item["image_id"])][0], attempt(_annotation, item, where, kind)


def _annotation(item: dict[str, Any], where: str, layout: str | None) -> Keypoints2D | None:
    """Make the person of an annotation. Raises `KeypointFileError`."""
    xyv = _visibilities(item, where)
    if len(xyv) == 133 and layout == "coco17":  # the category names only the body's keypoints
        layout = None
    kind, track = layout_of_count(len(xyv), where, layout), track_of(item.get("track_id"))
    return person(kind, xyv * np.array((1, 1, 0.5)), where, shift=0.5, track=track)


def _visibilities(item: dict[str, Any], where: str) -> Float[np.ndarray, "K 3"]:
    """Return x, y and visibility (0 to 2), for COCO-WholeBody of all 133 points. Raises `KeypointFileError`."""
    body = triples(item["keypoints"], where)
    if not all(item.get(key) for key, _ in _WHOLEBODY):
        return body
    parts = [body]
    for key, count in _WHOLEBODY:
        part = triples(item[key], f"{where}: {key}")
        if len(part) != count:
            raise KeypointFileError(f"{where}: {key} has {len(part)} keypoints, expected {count}")
        part[:, 2] = np.minimum(2 * part[:, 2], 2)
        parts.append(part)
    return np.concatenate(parts)


def _category_layouts(content: Mapping[str, Any], path: Path, layout: str | None) -> dict[str, str]:
    """Return layouts by category that names its keypoints. Raises `KeypointFileError` for an unknown order."""
    categories = content.get("categories")
    layouts = {}
    for category in categories if isinstance(categories, list) else []:
        names = category.get("keypoints") if isinstance(category, dict) else None
        if layout is not None or not isinstance(names, list) or not names:
            continue
        kind = layout_of_count(len(names), f"{path}: category {printable(category.get('name'))}", None)
        theirs = tuple(str(name).lower().replace(" ", "_").replace("-", "_") for name in names)
        ours = layout_names(kind)
        # MPII's and Halpe's further points have several names.
        odd = next((k for k in range(17 if kind != "mpii16" else 6) if theirs[k] != ours[k]), None)
        if odd is not None:
            raise KeypointFileError(
                f"{path}: its keypoint {odd} is {printable(names[odd])}, where {kind} has {ours[odd]}; {NAME_IT}"
            )
        layouts[str(category.get("id"))] = kind
    return layouts
