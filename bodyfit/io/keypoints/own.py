"""Write and read keypoints as npz, and read the keypoints in saved fits and tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.body.files.archive import read_archive
from bodyfit.errors import AssetError, KeypointFileError, OptionError
from bodyfit.io.keypoints.entry import Entry
from bodyfit.io.keypoints.layouts import layout_of_count
from bodyfit.io.keypoints.values import present, printable
from bodyfit.keypoints import Keypoints2D
from bodyfit.runtime.atomic import write_atomically
from bodyfit.skeleton import LAYOUTS, layout_names

__all__ = ["FORMAT_VERSION", "read_own", "save_keypoints"]

FORMAT_VERSION = 1
"""Version of the format, increased when older readers cannot read it."""


def save_keypoints(path: str | Path, people: Mapping[str, Sequence[Keypoints2D]]) -> None:
    """Write the people of pictures, by the pictures' names, in one layout, as npz; an empty list means nobody.

    With N people: images (M,) all names; image (N,) each person's; layout; xyc (N, K, 3) in our pixels; score (N,);
    lift_m (N, K, 3), lift_scale_m (N, K, 2), lift_centre_px (N, 2) and box (N, 4), NaN where missing; track (N,), -1
    where missing. Masks, hands and faces are not written. Raises `OptionError` for several layouts and `OutputError`.
    """
    everyone = [(name, person) for name, persons in people.items() for person in persons]
    layouts = sorted({person.layout for _, person in everyone}) or ["coco17"]
    if len(layouts) > 1:
        raise OptionError(f"people must have one layout, got {', '.join(layouts)}; convert_keypoints makes them alike")
    k = len(layout_names(layouts[0]))
    nowhere = np.full((k, 3), np.nan, np.float32)
    scales = [nowhere[:, :2] if p.lift_scale_m is None else p.lift_scale_m for _, p in everyone]
    arrays = {
        "bodyfit_keypoints": np.array(FORMAT_VERSION),
        "layout": np.array(layouts[0]),
        "images": np.array(list(people), np.str_),
        "image": np.array([name for name, _ in everyone], np.str_),
        "xyc": np.array([person.xyc for _, person in everyone], np.float32).reshape(-1, k, 3),
        "score": np.array([person.score for _, person in everyone], np.float32),
        "lift_m": np.array([nowhere if p.lift_m is None else p.lift_m for _, p in everyone]).reshape(-1, k, 3),
        "lift_scale_m": np.array(scales).reshape(-1, k, 2),
        "lift_centre_px": np.array([p.lift_centre_px or (np.nan,) * 2 for _, p in everyone]).reshape(-1, 2),
        "box": np.array([p.box or (np.nan,) * 4 for _, p in everyone]).reshape(-1, 4),
        "track": np.array([-1 if p.track is None else p.track for _, p in everyone], np.int64),
    }
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]


def read_own(path: Path, layout: str | None) -> list[Entry]:
    """Read keypoints, or those of a saved fit or track.

    A fit gives an entry for the picture that its folder is named after, a track one for each frame in which the person
    was detected. Nothing is unpickled. Raises `KeypointFileError`.
    """
    try:
        arrays = read_archive(path)
    except AssetError as fault:
        raise KeypointFileError(str(fault)) from None
    if "bodyfit_keypoints" in arrays:
        return _keypoints(arrays, path, layout)
    if {"bodyfit_format", "keypoints", "layout", "image_size"} <= arrays.keys():
        return _track(arrays, path, layout) if "track_id" in arrays else [_fit_entry(arrays, path, layout)]
    raise KeypointFileError(f"{path}: no keypoints in it; save_keypoints and `bodyfit fit` write npz files with them")


def _keypoints(arrays: dict[str, Any], path: Path, layout: str | None) -> list[Entry]:
    """Make the entries of a file of `save_keypoints`. Raises `KeypointFileError`."""
    version = arrays["bodyfit_keypoints"]
    if getattr(version, "shape", None) != () or version.dtype.kind not in "iu" or int(version) > FORMAT_VERSION:
        raise KeypointFileError(f"{path}: its format is not one that this bodyfit reads; install a newer one")
    kind = _layout(arrays, path, layout)
    k = len(layout_names(kind))
    image = _array(arrays, path, "image", "U", (None,))
    n = len(image)
    xyc = _array(arrays, path, "xyc", "f", (n, k, 3))
    rest = {"images": image, "score": np.ones(n), "lift_m": np.full((n, k, 3), np.nan)}
    rest |= {"lift_scale_m": np.full((n, k, 2), np.nan)}
    rest |= {"lift_centre_px": np.full((n, 2), np.nan), "box": np.full((n, 4), np.nan), "track": np.full(n, -1)}
    arrays = {**rest, **arrays}  # optional in other programs' files
    images, score = _array(arrays, path, "images", "U", (None,)), _array(arrays, path, "score", "f", (n,))
    lift = _array(arrays, path, "lift_m", "f", (n, k, 3))
    centre, box = _array(arrays, path, "lift_centre_px", "f", (n, 2)), _array(arrays, path, "box", "f", (n, 4))
    scale = _array(arrays, path, "lift_scale_m", "f", (n, k, 2))
    track = _array(arrays, path, "track", "iu", (n,))
    people: dict[str, list[Keypoints2D]] = {str(name): [] for name in images}
    for i, name in enumerate(map(str, image)):
        has_lift, has_centre = np.isfinite(lift[i]).any(), np.isfinite(centre[i]).all()
        one = Keypoints2D(
            kind,
            _clean(xyc[i]),
            lift[i].astype(np.float32) if has_lift else None,
            tuple(centre[i].tolist()) if has_centre else None,
            float(np.clip(np.nan_to_num(score[i], nan=1.0), 0, 1)),
            tuple(box[i].tolist()) if np.isfinite(box[i]).all() else None,
            track=int(track[i]) if track[i] >= 0 else None,
            lift_scale_m=scale[i].astype(np.float32) if np.isfinite(scale[i]).any() else None,
        )
        people.setdefault(name, []).append(one)
    return [Entry(name, path, tuple(persons)) for name, persons in people.items()]


def _fit_entry(arrays: dict[str, Any], path: Path, layout: str | None) -> Entry:
    """Make the entry of a saved fit. Raises `KeypointFileError`."""
    kind = _layout(arrays, path, layout)
    size = _array(arrays, path, "image_size", "iu", (2,))
    if getattr(arrays["keypoints"], "ndim", 3) == 4:
        raise KeypointFileError(f"{path}: a fit to several cameras; its keypoints are not of one picture")
    xyc = _array(arrays, path, "keypoints", "f", (None, len(layout_names(kind)), 3))
    people = tuple(Keypoints2D(kind, _clean(one)) for one in xyc)
    return Entry(path.absolute().parent.name, path, people, image_size=(int(size[0]), int(size[1])))


def _track(arrays: dict[str, Any], path: Path, layout: str | None) -> list[Entry]:
    """Make the entries of a saved track. Raises `KeypointFileError`."""
    whole = _fit_entry(arrays, path, layout)
    n = len(whole.people)
    frames, detected = _array(arrays, path, "frames", "iu", (n,)), _array(arrays, path, "seen", "b", (n,))
    who = int(_array(arrays, path, "track_id", "iu", ()))
    return [
        replace(whole, name=f"{whole.name}, frame {frame}", people=(replace(person, track=who),), frame=frame)
        for frame, person, was_detected in zip(frames.tolist(), whole.people, detected, strict=True)
        if was_detected
    ]


def _clean(xyc: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, "K 3"]:
    """Set missing keypoints to (0, 0, 0) and clamp confidences to 1."""
    return np.where(present(xyc)[:, None], np.minimum(xyc, (np.inf, np.inf, 1)), 0).astype(np.float32)


def _layout(arrays: dict[str, Any], path: Path, layout: str | None) -> str:
    """Return the file's layout, checked. Raises `KeypointFileError`."""
    array = _array(arrays, path, "layout", "U", ())
    if str(array) not in LAYOUTS:
        raise KeypointFileError(f"{path}: unknown layout {printable(array)}; expected one of {', '.join(LAYOUTS)}")
    return layout_of_count(len(layout_names(str(array))), str(path), layout) if layout else str(array)


def _array(arrays: dict[str, Any], path: Path, key: str, kinds: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return an array, checked for type and shape. Raises `KeypointFileError`."""
    array = arrays.get(key)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        raise KeypointFileError(f"{path}: damaged, {key} is missing or of the wrong kind")
    if len(array.shape) != len(shape) or any(a not in (None, b) for a, b in zip(shape, array.shape, strict=True)):
        raise KeypointFileError(f"{path}: damaged, {key} has the shape {array.shape}")
    return array
