"""The files of one scene, in memory: picture, maps, parameters, keypoints and the record of COCO's annotations."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from bodyfit.io.picture import depth_mm
from bodyfit.io.png import png_bytes
from bodyfit.io.results.params import array_bytes
from bodyfit.render.maps import normal_colors
from bodyfit.runtime.atomic import write_atomically
from bodyfit.scenes.config import SceneConfig
from bodyfit.scenes.draw import SceneDrawing, draw_scene
from bodyfit.scenes.fields import draw_field_scene
from bodyfit.scenes.labels import body_arrays, coco_records, keypoint_arrays
from bodyfit.scenes.sample import Scene, sample_scene

__all__ = ["SceneJob", "map_files", "name_of", "record_path", "scene_files", "write_files"]

_QUALITY = (75, 95)


@dataclass(frozen=True)
class SceneJob:
    """What the files of a scene depend on, besides its number."""

    config: SceneConfig
    seed: int
    labels: tuple[str, ...]
    keypoints: tuple[str, ...]


def name_of(i: int) -> str:
    """The number of a scene as files have it."""
    return f"{i:06d}"


def record_path(i: int) -> str:
    """Where the record of a scene is in its folder."""
    return f"scenes/{name_of(i)}.json"


def scene_files(job: SceneJob, i: int) -> dict[str, bytes]:
    """Draw a scene; returns what each of its files holds, by path in the folder, the record last."""
    config = job.config
    scene, drawing = _drawn(job, i)
    picture = f"images/{name_of(i)}.{'png' if config.transparent else 'jpg'}"
    files = {picture: _encoded(drawing.picture, job.seed, i)} | map_files(job.labels, drawing, name_of(i))
    if job.keypoints:
        arrays = keypoint_arrays(scene, drawing, config.model, job.keypoints)
        files[f"keypoints/{name_of(i)}.npz"] = array_bytes(arrays)
    files[f"params/{name_of(i)}.npz"] = array_bytes(body_arrays(scene, drawing, config.model))
    record = {"image": _image(scene, i, picture), "annotations": coco_records(scene, drawing, config.model, i)}
    files[record_path(i)] = json.dumps(record, separators=(",", ":")).encode()
    return files


def _drawn(job: SceneJob, i: int) -> tuple[Scene, SceneDrawing]:
    """A scene and its drawing."""
    config = job.config
    if config.fields:  # in which there are people alone
        scene = sample_scene(replace(config, things=0.0), job.seed, i)
        return scene, draw_field_scene(scene, config.model)
    scene, normals = sample_scene(config, job.seed, i), "normals" in job.labels
    return scene, draw_scene(scene, config.model, config.backgrounds, transparent=config.transparent, normals=normals)


def write_files(out: Path, files: dict[str, bytes]) -> None:
    """Write files in their order: a scene whose record is there is whole. Raises `OutputError`."""
    for path, content in files.items():
        with write_atomically(out / path) as temporary:
            temporary.write_bytes(content)


def _encoded(picture: np.ndarray, seed: int, i: int) -> bytes:
    """A JPEG of a random quality, or a PNG where there is transparency."""
    if picture.shape[2] == 4:
        return png_bytes(picture)
    quality = int(np.random.default_rng([seed, 12, i]).integers(_QUALITY[0], _QUALITY[1] + 1))
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def map_files(labels: tuple[str, ...], drawing: SceneDrawing, name: str) -> dict[str, bytes]:
    """The maps that are asked for, by path in the folder."""
    files = {}
    for label in labels:
        if label == "depth_npy":
            file = BytesIO()
            np.save(file, drawing.depth_m, allow_pickle=False)
            files[f"{label}/{name}.npy"] = file.getvalue()
            continue
        if label == "normals":
            values = normal_colors(drawing.normals)
        elif label == "depth":
            values = depth_mm(drawing.depth_m)
        else:
            values = (drawing.person + 1).astype(np.uint8) if label == "masks" else getattr(drawing, label)
        files[f"{label}/{name}.png"] = png_bytes(values)
    return files


def _image(scene: Scene, i: int, picture: str) -> dict[str, object]:
    """COCO's record of a picture, with its camera."""
    lens = scene.camera.lens
    return {
        "id": i,
        "file_name": picture,
        "width": scene.size,
        "height": scene.size,
        "focal_px": scene.focal_px,
        "R_cam_world": scene.R_cam_world.tolist(),
        "t_cam_world_m": scene.t_cam_world_m.tolist(),
        "distortion": [0.0, 0.0] if lens is None else [lens.k1, lens.k2],
    }
