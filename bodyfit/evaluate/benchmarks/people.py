"""Detect the annotated people of a shot: whole pictures are searched, and the person at the annotated place is taken.

Nobody is cropped by the truth: it only tells which of the people that were detected in a picture is meant, the one
whose box overlaps the true box most, each once (a linear assignment by intersection over union).
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bodyfit.detect import Detector
from bodyfit.errors import OptionError
from bodyfit.evaluate.benchmarks.folders import Shot
from bodyfit.evaluate.sequence import Sequence
from bodyfit.geometry.boxes import assigned_boxes, box_about
from bodyfit.images.frame import read_image
from bodyfit.keypoints import Keypoints2D
from bodyfit.skeleton import LAYOUTS

__all__ = ["Detected", "detected", "keypoints_of_file", "true_points_px"]

_PICTURES = 8
"""Pictures in memory at a time."""
_AGORA_WIDTH = 3840


@dataclass(frozen=True)
class Detected:
    """The keypoints of one annotated person in n of its frames."""

    rows: Int[np.ndarray, "n"]
    """Rows of the sequence."""
    people: tuple[Keypoints2D | None, ...]
    """Keypoints, None where nobody was detected at the person's place."""
    sizes: tuple[tuple[int, int], ...]
    """Widths and heights of the pictures, pixels."""
    strangers: int = 0
    """Detected people whom no annotation has, in the pictures of the shot; counted with its first person."""


def detected(
    shot: Shot, people: Rows[Sequence], rows: Rows[Int[np.ndarray, "_"]], detector: Detector, overlap: float
) -> list[Detected]:
    """Detect the people of a shot in the pictures of their `rows`, a record for each person.

    overlap: least intersection over union of a detected and a true box.
    Raises `AssetError` for a picture that is missing and `ImageError` for a damaged one.
    """
    names = list(dict.fromkeys(person.images[row] for person, own in zip(people, rows, strict=True) for row in own))
    places: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    for p, person in enumerate(people):
        for row, name in enumerate(person.images):
            if name in places:  # people who do not count, too, so that they are not taken for strangers
                places[name].append((p, row))
    found: dict[tuple[int, int], Keypoints2D] = {}
    sizes: dict[str, tuple[int, int]] = {}
    strangers = 0
    for start in range(0, len(names), _PICTURES):
        some = names[start : start + _PICTURES]
        frames = [read_image(shot.picture(name)) for name in some]
        for name, frame, seen in zip(some, frames, detector.detect(frames), strict=True):
            sizes[name] = frame.size
            truth = np.array([box_about(true_points_px(people[p], row, frame.size)) for p, row in places[name]])
            pairs = assigned_boxes(truth, np.array([one.box_px() for one in seen]), overlap)
            strangers += len(seen) - len(pairs)
            found |= {places[name][i]: seen[j] for i, j in pairs}
    return [
        Detected(
            own,
            tuple(found.get((p, int(row))) for row in own),
            tuple(sizes[people[p].images[row]] for row in own),
            strangers if p == 0 else 0,
        )
        for p, own in enumerate(rows)
    ]


def keypoints_of_file(person: Sequence, rows: Int[np.ndarray, "n"]) -> Detected:
    """Take the keypoints that the annotations hold, such as OpenPose's of 3DPW. Raises `OptionError` without any."""
    if person.keypoints2d is None or person.keypoints2d_layout not in LAYOUTS or person.intrinsics is None:
        raise OptionError(f"{person.name} has no detected keypoints in its file; detect them in the pictures")
    width, height = (round(2 * float(person.intrinsics[i, 2])) for i in (0, 1))
    each = (np.nan_to_num(person.keypoints2d[row]).astype(np.float32) for row in rows)
    people = tuple(Keypoints2D(layout=person.keypoints2d_layout, xyc=xyc) if xyc[:, 2].any() else None for xyc in each)
    return Detected(rows, people, ((width, height),) * len(rows))


def true_points_px(person: Sequence, row: int, size: tuple[int, int]) -> Float[np.ndarray, "P 2"]:
    """Return where the true points of a person lie in a picture of this size, pixels; none where they are unknown."""
    if person.intrinsics is not None:
        points = person.joints3d[row]
        points = points[np.all(np.isfinite(points), axis=1)]
        points = points[points[:, 2] > 0.05]
        return (points @ person.intrinsics.T)[:, :2] / points[:, 2:]
    if person.keypoints2d is None:
        raise OptionError(f"{person.name} has neither a camera nor points in its pictures: who is meant is unknown")
    points = person.keypoints2d[row]
    scale = size[0] / _AGORA_WIDTH if person.dataset == "agora" else 1.0
    return scale * points[np.nan_to_num(points[:, 2]) > 0, :2]
