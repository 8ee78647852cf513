"""Write clips: the video, and labels of every frame."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bodyfit.app.batch.pool import Failure, WorkerPool
from bodyfit.body.params import BodyParams
from bodyfit.errors import BodyfitError, OptionError
from bodyfit.io.amass import save_amass
from bodyfit.io.clips.writer import VideoWriter
from bodyfit.io.results.params import write_arrays
from bodyfit.runtime.atomic import write_atomically
from bodyfit.scenes.clips.sample import ClipConfig, sample_clip
from bodyfit.scenes.config import LABELS, MORE_LABELS, SceneConfig
from bodyfit.scenes.draw import Place, SceneDrawing, draw_scene
from bodyfit.scenes.labels import body_arrays, in_camera, keypoint_arrays, person_boxes
from bodyfit.scenes.sample import Scene, scene_model
from bodyfit.scenes.store.one import map_files, name_of, write_files

__all__ = ["write_clips"]

_TIMEOUT_S = 3600.0
_STILL = ("gender", "model", "axes", "foot_names", "betas", "K", "distortion")
"""What is the same in all frames."""
_CRF = (17, 29)


@dataclass(frozen=True)
class _Job:
    """What the writing of a clip depends on."""

    config: SceneConfig
    clip: ClipConfig
    seed: int
    out: Path
    labels: tuple[str, ...]
    keypoints: tuple[str, ...]

    def __call__(self) -> Callable[[int], None]:
        """What a worker process does with each number."""
        torch.set_num_threads(1)
        return lambda i: _write(self, i)


def write_clips(
    config: SceneConfig,
    clip: ClipConfig,
    n: int,
    out: str | Path,
    *,
    seed: int = 0,
    labels: tuple[str, ...] = ("masks",),
    keypoints: tuple[str, ...] = (),
    workers: int = 1,
    resume: bool = False,
) -> Path:
    """Draw clips 0 to n - 1 of a seed into a folder; returns the path of the list of them, clips.json.

    Writes clips/000000.mp4; params/000000.npz, of every frame and person what `body_arrays` has of one, in camera and
    world axes, keypoints (T, N, 133, 3; x px, y px, visibility) and keypoints_cam_m, boxes (T, N, 4), and the cameras;
    amass/000000_0_world.npz and _camera.npz, a person each in AMASS's layout, z up; and of `labels` a folder of maps a
    clip, masks/000000/00000.png. Of further layouts `keypoints` are added. Arguments as for `write_scenes`. Raises
    `OptionError`, `AssetError`, `ImageError` and `OutputError`, and `BodyfitError` where clips failed.
    """
    out = Path(out)
    if n < 1 or seed < 0 or workers < 1:
        raise OptionError(f"n and workers must be at least 1 and seed at least 0, got {n}, {workers} and {seed}")
    if wrong := sorted(set(labels) - {*LABELS, *MORE_LABELS}):
        raise OptionError(f"labels must be of {', '.join((*LABELS, *MORE_LABELS))}, got {', '.join(wrong)}")
    if config.transparent:
        raise OptionError("a video has no transparency; give a background")
    job = _Job(config, clip, seed, out, tuple(labels), tuple(keypoints))
    _check_folder(job, resume)
    left = [i for i in range(n) if not (resume and _record(out, i).is_file())]
    failed: dict[int, Failure] = {}
    if workers == 1 or len(left) < 2:
        for i in left:
            _write(job, i)
    else:
        with WorkerPool(job, workers, timeout_s=_TIMEOUT_S) as pool:
            answers = (answer for answer in pool.answers(iter(left)) if answer is not None)
            failed = {i: fault for i, fault in answers if fault is not None}
    listed = [json.loads(_record(out, i).read_text(encoding="utf-8")) for i in range(n) if i not in failed]
    with write_atomically(out / "clips.json") as temporary:
        temporary.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    if failed:
        first = min(failed)
        raise BodyfitError(f"{len(failed)} of {n} clips failed, clip {first} first: {failed[first].why}")
    return out / "clips.json"


def _check_folder(job: _Job, resume: bool) -> None:
    """Write what the set is made of, or compare it with what the folder has. Raises `OptionError`."""
    config, clip = job.config, job.clip
    card = {
        "made_by": "bodyfit scene, clips",
        "seed": job.seed,
        "people": list(config.people),
        "size": config.size,
        "model": config.model,
        "seconds": clip.seconds,
        "fps": clip.fps,
        "motions": None if clip.motions is None else clip.motions.name,
        "backgrounds": None if config.backgrounds is None else config.backgrounds.name,
        "things": config.things,
        "distortion": config.distortion,
        "labels": list(job.labels),
        "keypoints": list(job.keypoints),
        "licence": "Free for any use; photographs and motions that were given keep their own terms.",
    }
    path = job.out / "card.json"
    if not path.is_file():
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    elif not resume:
        raise OptionError(f"{job.out} has clips or scenes already; go on with them (resume), or give another folder")
    elif json.loads(path.read_text(encoding="utf-8")) != card:
        raise OptionError(f"{path}: made with other settings; give the same, or another folder")


def _record(out: Path, i: int) -> Path:
    return out / "scenes" / f"{name_of(i)}.json"


def _write(job: _Job, i: int) -> None:
    """Draw and write one clip; its record comes last."""
    config, name = job.config, name_of(i)
    scenes = sample_clip(config, job.clip, job.seed, i)
    place = Place.of(scenes[0], config.backgrounds)
    crf = int(np.random.default_rng([job.seed, 14, i]).integers(*_CRF))
    frames: list[dict[str, np.ndarray]] = []
    video = f"clips/{name}.mp4"
    with VideoWriter(job.out / video, (config.size, config.size), float(job.clip.fps), crf=crf) as clip:
        for k, scene in enumerate(scenes):
            drawing = draw_scene(scene, config.model, normals="normals" in job.labels, place=place)
            clip.write(drawing.picture)
            frames.append(_frame_arrays(job, scene, drawing))
            write_files(job.out, map_files(job.labels, drawing, f"{name}/{k:05d}"))
    arrays = {key: np.stack([one[key] for one in frames]) for key in frames[0] if key not in _STILL}
    write_arrays(job.out / "params" / f"{name}.npz", arrays | {key: frames[0][key] for key in _STILL})
    _write_amass(job, scenes, name)
    record = {"id": i, "file_name": video, "frames": len(scenes), "fps": float(job.clip.fps)}
    record |= {"people": len(scenes[0].people), "moving_camera": scenes[0].camera is not scenes[-1].camera}
    with write_atomically(_record(job.out, i)) as temporary:
        temporary.write_text(json.dumps(record), encoding="utf-8")


def _frame_arrays(job: _Job, scene: Scene, drawing: SceneDrawing) -> dict[str, np.ndarray]:
    """Everything that is known of a frame and no picture."""
    model = job.config.model
    arrays = body_arrays(scene, drawing, model)
    layouts = dict.fromkeys(("wholebody133", *job.keypoints))
    for key, value in keypoint_arrays(scene, drawing, model, tuple(layouts)).items():
        arrays[key.replace("wholebody133", "keypoints")] = value
    return arrays | {"bbox": person_boxes(drawing, len(scene.people))}


def _write_amass(job: _Job, scenes: list[Scene], name: str) -> None:
    """Each person's motion in AMASS's layout, in the world and in the camera, z up in both."""
    for number, person in enumerate(scenes[0].people):
        model = scene_model(job.config.model, person.gender)
        rows = [scene.people[number].params for scene in scenes]
        world = BodyParams(**{key: torch.cat([row[key] for row in rows]) for key in rows[0]})
        R = torch.stack([scene.R_cam_world for scene in scenes]).double()
        t = torch.stack([scene.t_cam_world_m for scene in scenes]).double()
        root = model.rest_joints(world.betas)[:, 0].double()
        orient, transl = in_camera(world.global_orient.double(), world.transl.double(), root, R, t)
        like = world.transl
        camera = BodyParams(**{**world, "global_orient": orient.to(like), "transl": transl.to(like)})
        for axes, bodies in (("y_up", world), ("camera", camera)):
            path = job.out / "amass" / f"{name}_{number}_{'world' if axes == 'y_up' else axes}.npz"
            save_amass(path, model, bodies, fps=float(job.clip.fps), axes=axes)
