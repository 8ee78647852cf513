"""Write scenes to a folder: pictures, maps, parameters and COCO's annotations; what is there is not drawn again."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bodyfit.errors import OptionError
from bodyfit.io.picture import depth_mm, save_array
from bodyfit.io.png import save_png
from bodyfit.io.results.params import write_arrays
from bodyfit.render.maps import normal_colors
from bodyfit.runtime.atomic import write_atomically
from bodyfit.scenes.config import LABELS, MORE_LABELS, SceneConfig
from bodyfit.scenes.draw import draw_scene
from bodyfit.scenes.labels import body_arrays, coco_records, keypoint_arrays
from bodyfit.scenes.maps import GARMENTS, part_names
from bodyfit.scenes.sample import sample_scene
from bodyfit.skeleton import LAYOUTS, layout_edges, layout_names

__all__ = ["write_scenes"]

_QUALITY = (75, 95)


@dataclass(frozen=True)
class _Job:
    """What the writing of one scene depends on."""

    config: SceneConfig
    seed: int
    out: Path
    labels: tuple[str, ...]
    keypoints: tuple[str, ...]


def write_scenes(
    config: SceneConfig,
    n: int,
    out: str | Path,
    *,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    keypoints: tuple[str, ...] = (),
    workers: int = 1,
    resume: bool = False,
    tell: Callable[[int], None] | None = None,
) -> Path:
    """Draw scenes 0 to n - 1 of a seed into a folder; returns the path of COCO's annotations.

    Writes images/, params/ (npz), scenes/ (what annotations.json is put together from, written last), and of `labels`
    masks/ (person + 1), garments/, parts/, depth/ (millimetres, 16 bits), normals/ (red right, green up, blue towards
    the camera) and depth_npy/ (float32 metres, infinite for nobody), numbered from 000000; card.json first and
    annotations.json in the end. keypoints: layouts to write to keypoints/ (npz, `keypoint_arrays`) as well. resume:
    scenes that are whole in the folder are kept; without it the folder must have none. workers: processes. tell: called
    with the number of scenes that are there. Raises `OptionError`, `ImageError` and `OutputError`.
    """
    out = Path(out)
    if n < 1 or seed < 0 or workers < 1:
        raise OptionError(f"n and workers must be at least 1 and seed at least 0, got {n}, {workers} and {seed}")
    for what, chosen, choices in (
        ("labels", labels, (*LABELS, *MORE_LABELS)),
        ("keypoints", keypoints, tuple(LAYOUTS)),
    ):
        if wrong := sorted(set(chosen) - set(choices)):
            raise OptionError(f"{what} must be of {', '.join(choices)}, got {', '.join(wrong)}")
    job = _Job(config, seed, out, tuple(labels), tuple(keypoints))
    _check_folder(job, resume)
    left = [i for i in range(n) if not (resume and _record(out, i).is_file())]
    done = n - len(left)
    for _ in _finished(job, left, workers):
        done += 1
        if tell is not None:
            tell(done)
    return _assemble(job, n)


def _check_folder(job: _Job, resume: bool) -> None:
    """Write what the set is made of, or compare it with what the folder has. Raises `OptionError`."""
    path = job.out / "card.json"
    card = _card(job)
    if path.is_file():
        if not resume:
            raise OptionError(f"{job.out} has scenes already; go on with them (resume), or give another folder")
        if json.loads(path.read_text(encoding="utf-8")) != card:
            raise OptionError(f"{path}: made with other settings; give the same, or another folder")
        return
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _card(job: _Job) -> dict[str, Any]:
    backgrounds = None if job.config.backgrounds is None else job.config.backgrounds.name
    return {
        "made_by": "bodyfit scene",
        "seed": job.seed,
        "people": list(job.config.people),
        "size": job.config.size,
        "model": job.config.model,
        "backgrounds": backgrounds,
        "labels": list(job.labels),
        "garments": {str(k + 1): name for k, name in enumerate(GARMENTS)},
        "parts": {str(k + 1): name for k, name in enumerate(part_names())},
        "depth": "millimetres along the optical axis, 0 for none",
        "normals": "127.5 (1 + n), n right, up and towards the camera; 0 for nobody",
        "keypoints": {layout: list(layout_names(layout)) for layout in job.keypoints},
        "licence": "Free for any use; photographs that were given as backgrounds keep their own terms.",
    }


def _finished(job: _Job, numbers: list[int], workers: int) -> Iterator[int]:
    """Write scenes, on processes of their own where there are several, and yield the number of each that is done."""
    if workers == 1 or len(numbers) < 2:
        for i in numbers:
            yield _write(job, i)
        return
    # Spawned: threads and compiled loops of this process do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.imap_unordered(_Write(job), numbers, chunksize=4)


@dataclass(frozen=True)
class _Write:
    """`_write` for a pool, which pickles what it calls."""

    job: _Job

    def __call__(self, i: int) -> int:
        return _write(self.job, i)


def _record(out: Path, i: int) -> Path:
    return out / "scenes" / f"{i:06d}.json"


def _write(job: _Job, i: int) -> int:
    """Draw and write one scene; its record comes last, so that a scene that has one is whole."""
    config, out, name = job.config, job.out, f"{i:06d}"
    scene = sample_scene(config, job.seed, i)
    drawing = draw_scene(scene, config.model, config.backgrounds, normals="normals" in job.labels)
    quality = int(np.random.default_rng([job.seed, 12, i]).integers(_QUALITY[0], _QUALITY[1] + 1))
    with write_atomically(out / "images" / f"{name}.jpg") as temporary:
        Image.fromarray(drawing.picture).save(temporary, "JPEG", quality=quality)
    masks = (drawing.person + 1).astype(np.uint8)
    maps = {"masks": masks, "garments": drawing.garments, "parts": drawing.parts}
    if "normals" in job.labels:
        maps["normals"] = normal_colors(drawing.normals)
    if "depth" in job.labels:
        maps["depth"] = depth_mm(drawing.depth_m)
    for label in maps.keys() & set(job.labels):
        save_png(out / label / f"{name}.png", maps[label])
    if "depth_npy" in job.labels:
        save_array(out / "depth_npy" / f"{name}.npy", drawing.depth_m)
    if job.keypoints:
        write_arrays(out / "keypoints" / f"{name}.npz", keypoint_arrays(scene, drawing, config.model, job.keypoints))
    write_arrays(out / "params" / f"{name}.npz", body_arrays(scene, drawing, config.model))
    image = {"id": i, "file_name": f"images/{name}.jpg", "width": config.size, "height": config.size}
    image |= {"focal_px": scene.focal_px, "R_cam_world": scene.R_cam_world.tolist()}
    image["t_cam_world_m"] = scene.t_cam_world_m.tolist()
    record = {"image": image, "annotations": coco_records(scene, drawing, config.model, i)}
    with write_atomically(_record(out, i)) as temporary:
        temporary.write_text(json.dumps(record, separators=(",", ":")), encoding="utf-8")
    return i


def _assemble(job: _Job, n: int) -> Path:
    """Put COCO's annotations together, a scene at a time."""
    names = list(layout_names("coco17"))
    edges = [[a + 1, b + 1] for a, b in layout_edges("coco17")]
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": names, "skeleton": edges}
    path = job.out / "annotations.json"
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"info":{"description":"bodyfit scene"},"categories":' + json.dumps([category]))
        for part, key in (("images", "image"), ("annotations", "annotations")):
            file.write(f',"{part}":[')
            first = True
            for i in range(n):
                record = json.loads(_record(job.out, i).read_text(encoding="utf-8"))[key]
                for one in [record] if key == "image" else record:
                    file.write(("" if first else ",\n") + json.dumps(one, separators=(",", ":")))
                    first = False
            file.write("]")
        file.write("}\n")
    return path
