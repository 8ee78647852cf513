"""Write scenes to a folder: pictures, maps, parameters and COCO's annotations; what is there is not drawn again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bodyfit.app.batch.pool import Failure, WorkerPool
from bodyfit.errors import BodyfitError, OptionError
from bodyfit.runtime.atomic import write_atomically
from bodyfit.scenes.config import LABELS, MORE_LABELS, SceneConfig
from bodyfit.scenes.fields import FIELD_LABELS
from bodyfit.scenes.maps import GARMENTS, part_names
from bodyfit.scenes.store.one import SceneJob, record_path, scene_files, write_files
from bodyfit.scenes.store.ray_engine import SceneEngine
from bodyfit.scenes.store.shards import pack_shard
from bodyfit.skeleton import LAYOUTS, layout_edges, layout_names

__all__ = ["write_scenes"]

_TIMEOUT_S = 300.0
"""Seconds that one scene may take."""


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
    shard: int = 0,
    engine: SceneEngine | None = None,
    tell: Callable[[int], None] | None = None,
) -> Path:
    """Draw scenes 0 to n - 1 of a seed into a folder; returns the path of COCO's annotations.

    Writes images/, params/ (npz), scenes/ (what annotations.json is put together from, written last), and of `labels`
    masks/ (person + 1), garments/, parts/, depth/ (millimetres, 16 bits), normals/ (red right, green up, blue towards
    the camera) and depth_npy/ (float32 metres, infinite for nothing), numbered from 000000; card.json first and
    annotations.json in the end. keypoints: layouts to write to keypoints/ (npz, `keypoint_arrays`) as well. resume:
    scenes that are whole in the folder are kept; without it the folder must have none. workers: processes, which
    survive a scene that fails. shard: so many scenes are packed into each tar of shards/ (`pack_shard`) in place of
    files of their own. engine: draws elsewhere (`scene_ray_engine`). tell: called with the number of scenes that are
    there. Raises `OptionError`, `ImageError` and `OutputError`, and `BodyfitError` after all others are done where
    scenes failed.
    """
    out = Path(out)
    if n < 1 or seed < 0 or workers < 1 or shard < 0:
        raise OptionError(
            f"n and workers must be at least 1, seed and shard at least 0, got {n}, {workers}, {seed} and {shard}"
        )
    for what, chosen, choices in (
        ("labels", labels, (*LABELS, *MORE_LABELS)),
        ("keypoints", keypoints, tuple(LAYOUTS)),
    ):
        if what == "labels" and config.fields:
            choices = FIELD_LABELS
        if wrong := sorted(set(chosen) - set(choices)):
            raise OptionError(f"{what} must be of {', '.join(choices)}, got {', '.join(wrong)}")
    job = SceneJob(config, seed, tuple(labels), tuple(keypoints))
    _check_folder(job, out, shard, resume)
    left = [i for i in range(n) if not (resume and (out / record_path(i)).is_file())]
    packing = None if not shard else _Packing(out, n, shard, set(range(n)) - set(left))
    done, failed = n - len(left), {}
    for i, fault in _finished(job, out, left, workers, engine):
        if fault is not None:
            failed[i] = fault
            continue
        done += 1
        if packing is not None:
            packing.add(i)
        if tell is not None:
            tell(done)
    path = _assemble(out, [i for i in range(n) if i not in failed])
    if failed:
        first = min(failed)
        raise BodyfitError(f"{len(failed)} of {n} scenes failed, scene {first} first: {failed[first].why}")
    return path


class _Packing:
    """Packs a shard when all of its scenes are there."""

    def __init__(self, out: Path, n: int, size: int, there: set[int]) -> None:
        self._out, self._n, self._size = out, n, size
        self._missing = {k: set(self._scenes(k)) - there for k in range(-(-n // size))}
        for number, missing in self._missing.items():
            if not missing:
                self._pack(number)

    def _scenes(self, number: int) -> range:
        return range(number * self._size, min((number + 1) * self._size, self._n))

    def add(self, i: int) -> None:
        """Take note of a scene."""
        missing = self._missing[i // self._size]
        missing.discard(i)
        if not missing:
            self._pack(i // self._size)

    def _pack(self, number: int) -> None:
        scenes = self._scenes(number)
        pack_shard(self._out, number, scenes.start, scenes.stop)


def _check_folder(job: SceneJob, out: Path, shard: int, resume: bool) -> None:
    """Write what the set is made of, or compare it with what the folder has. Raises `OptionError`."""
    path = out / "card.json"
    card = _card(job, shard)
    if path.is_file():
        if not resume:
            raise OptionError(f"{out} has scenes already; go on with them (resume), or give another folder")
        if json.loads(path.read_text(encoding="utf-8")) != card:
            raise OptionError(f"{path}: made with other settings; give the same, or another folder")
        return
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def _card(job: SceneJob, shard: int) -> dict[str, Any]:
    """What a set is made of, and what its numbers mean."""
    backgrounds = None if job.config.backgrounds is None else job.config.backgrounds.name
    return {
        "made_by": "bodyfit scene",
        "seed": job.seed,
        "people": list(job.config.people),
        "size": job.config.size,
        "model": job.config.model,
        "backgrounds": "transparent" if job.config.transparent else backgrounds,
        "things": job.config.things,
        "distortion": job.config.distortion,
        **({"fields": True} if job.config.fields else {}),
        "labels": list(job.labels),
        "shard": shard,
        "garments": {str(k + 1): name for k, name in enumerate(GARMENTS)},
        "parts": {str(k + 1): name for k, name in enumerate(part_names())},
        "depth": "millimetres along the optical axis, 0 for none",
        "normals": "127.5 (1 + n), n right, up and towards the camera; 0 for nobody",
        "keypoints": {layout: list(layout_names(layout)) for layout in job.keypoints},
        "licence": "Free for any use; photographs that were given as backgrounds keep their own terms.",
    }


def _finished(
    job: SceneJob, out: Path, numbers: list[int], workers: int, engine: SceneEngine | None
) -> Iterator[tuple[int, Failure | None]]:
    """Write scenes, on processes of their own where there are several; the number of each, and why it failed."""
    if engine is not None:
        for i, files in engine(job, numbers):
            if not isinstance(files, Failure):
                write_files(out, files)
            yield i, files if isinstance(files, Failure) else None
    elif workers == 1 or len(numbers) < 2:
        for i in numbers:
            write_files(out, scene_files(job, i))
            yield i, None
    else:
        with WorkerPool(_Writer(job, out), workers, timeout_s=_TIMEOUT_S) as pool:
            for answer in pool.answers(iter(numbers)):
                if answer is not None:
                    yield answer[0], answer[1]


@dataclass(frozen=True)
class _Writer:
    """What a worker process starts with, and then does with each number."""

    job: SceneJob
    out: Path

    def __call__(self) -> Callable[[int], None]:
        import torch

        torch.set_num_threads(1)
        return lambda i: write_files(self.out, scene_files(self.job, i))


def _assemble(out: Path, numbers: list[int]) -> Path:
    """Put COCO's annotations together, a scene at a time."""
    names = list(layout_names("coco17"))
    edges = [[a + 1, b + 1] for a, b in layout_edges("coco17")]
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": names, "skeleton": edges}
    path = out / "annotations.json"
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"info":{"description":"bodyfit scene"},"categories":' + json.dumps([category]))
        for part, key in (("images", "image"), ("annotations", "annotations")):
            file.write(f',"{part}":[')
            first = True
            for i in numbers:
                record = json.loads((out / record_path(i)).read_text(encoding="utf-8"))[key]
                for one in [record] if key == "image" else record:
                    file.write(("" if first else ",\n") + json.dumps(one, separators=(",", ":")))
                    first = False
            file.write("]")
        file.write("}\n")
    return path
