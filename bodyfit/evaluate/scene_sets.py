"""Read the folders that `bodyfit scene` writes as ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bodyfit.body.files.archive import read_archive
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.errors import AssetError
from bodyfit.evaluate.sequence import Sequence, array, in_float64, rigid
from bodyfit.skeleton import SMPL

__all__ = ["is_scenes", "read_scenes", "scene_body"]

_MODELS = ("open", "open-h", "open-x")
_GENDERS = ("female", "male")


def is_scenes(path: Path) -> bool:
    """Tell whether a folder has what `bodyfit scene` writes."""
    return (path / "card.json").is_file() and (path / "annotations.json").is_file()


def read_scenes(folder: str | Path) -> list[Sequence]:
    """Read the people of a folder of scenes, an item a person, in camera axes: one sequence for each gender.

    People are those of annotations.json who have keypoints in the picture; `frame` is each one's place among them, in
    the file's order, and `images` are their pictures. joints3d are smpl24, or smpl22 of open-h and open-x; keypoints2d
    are coco17, pixels, with COCO's visibility halved as confidence. Raises `AssetError`, naming the file.
    """
    folder = Path(folder)
    name, listed = scene_body(folder), _annotations(folder / "annotations.json")
    rows: dict[str, list[tuple[int, dict[str, Any], Mapping[str, Any]]]] = {gender: [] for gender in _GENDERS}
    path, arrays = folder, {}
    for k, one in enumerate(listed):
        own = folder / "params" / f"{one['image_id']:06d}.npz"
        if own != path:
            path, arrays = own, read_archive(own)
        genders = np.ravel(np.asarray(arrays.get("gender", "")))
        if one["person"] >= len(genders) or str(genders[one["person"]]) not in _GENDERS:
            raise AssetError(f"{path}: no gender, male or female, of person {one['person']}, whom annotations.json has")
        rows[str(genders[one["person"]])].append((k, one, {"path": path, **arrays}))
    return [_sequence(folder, load_model(name, gender=g), own) for g, own in rows.items() if own]


def scene_body(folder: Path) -> str:
    """Name the body of a folder's people. Raises `AssetError`."""
    card = _json(folder / "card.json")
    if card.get("model") not in _MODELS:
        raise AssetError(f"{folder / 'card.json'}: model must be {', '.join(_MODELS)}; is it of bodyfit scene?")
    return str(card["model"])


def _json(path: Path) -> dict[str, Any]:
    """Read an object. Raises `AssetError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AssetError(f"{path}: not readable as JSON: {ascii(str(error)[:80])[1:-1]}") from None
    if not isinstance(content, dict):
        raise AssetError(f"{path}: holds no object; it is not of bodyfit scene")
    return content


def _annotations(path: Path) -> list[dict[str, Any]]:
    """Read the annotations that have keypoints. Raises `AssetError`."""
    listed = _json(path).get("annotations")
    if not isinstance(listed, list):
        raise AssetError(f"{path}: no list of annotations")
    for one in listed:
        numbers = [one.get(key) for key in ("image_id", "person", "num_keypoints")] if isinstance(one, dict) else [None]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise AssetError(f"{path}: an annotation lacks image_id, person or num_keypoints; is it of bodyfit scene?")
    return [one for one in listed if one["num_keypoints"] > 0]


def _sequence(folder: Path, body: BodyModel, rows: list[tuple[int, dict[str, Any], Mapping[str, Any]]]) -> Sequence:
    """Gather people of one gender. Raises `AssetError`."""
    body = in_float64(body)
    parts: dict[str, list[np.ndarray]] = {}
    cameras, keypoints = np.tile(np.eye(4), (len(rows), 1, 1)), []
    stored = {"transl": "trans", **{name: name for name in body.params() if name != "transl"}}
    for i, (_, one, arrays) in enumerate(rows):
        path, person = arrays["path"], one["person"]
        for name, key in stored.items():
            values = array(path, key, arrays.get(key), (None, None))
            if person >= len(values):
                raise AssetError(f"{path}: {key} has {len(values)} rows, and annotations.json has person {person}")
            parts.setdefault(name, []).append(values[person])
        cameras[i, :3, :3] = array(path, "R_cam_world", arrays.get("R_cam_world"), (3, 3))
        cameras[i, :3, 3] = array(path, "t_cam_world_m", arrays.get("t_cam_world_m"), (3,))
        rigid(path, "R_cam_world", cameras[i : i + 1], np.ones(1, bool))
        flat = array(folder / "annotations.json", "keypoints", one.get("keypoints"), (51,)).reshape(17, 3)
        keypoints.append(np.where(flat[:, 2:] > 0, flat * (1, 1, 0.5) + (0.5, 0.5, 0), 0.0))
    params: BodyParams = body.params(**{name: torch.from_numpy(np.stack(own)) for name, own in parts.items()})
    full = body.skeleton.names[: len(SMPL)] == SMPL.names
    with torch.no_grad():
        joints = body.joints(params).numpy()[:, : len(SMPL) if full else 22]
    return Sequence(
        dataset="scenes",
        name=folder.name,
        person=0,
        gender=body.gender,
        joints3d=joints,
        joint_set="smpl24" if full else "smpl22",
        valid=np.ones(len(rows), bool),
        frame=np.array([k for k, _, _ in rows]),
        images=tuple(f"images/{one['image_id']:06d}.jpg" for _, one, _ in rows),
        fps=None,
        params=params,
        camera_from_world=cameras,
        keypoints2d=np.stack(keypoints),
        keypoints2d_layout="coco17",
    )
