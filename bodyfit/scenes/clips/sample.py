"""Draw a clip: who moves how, and a camera that stands still or is carried."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from bodyfit.errors import OptionError
from bodyfit.scenes.camera import SceneCamera, sample_camera
from bodyfit.scenes.clips.motion import motion_files, moving
from bodyfit.scenes.config import SceneConfig
from bodyfit.scenes.placing import place_people, turned
from bodyfit.scenes.sample import Scene, moved_person, sample_person, scene_model
from bodyfit.scenes.things import floor_things

__all__ = ["ClipConfig", "sample_clip"]

_STREAM = 13
_SWEPT = 10
"""Frames of a motion that tell where a person passes."""
_EVERY = 16
_CARRIED = 0.5
"""Part of the clips whose camera is carried; before photographs none is."""
_PACE_M_S = (0.05, 0.4)
_SHAKE_M, _SHAKE_DEG, _SHAKE_HZ = 0.006, 0.4, (0.4, 2.5)


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """What clips have besides what their scenes have (`SceneConfig`)."""

    seconds: float | int = 3.0
    """Length."""
    fps: float | int = 24.0
    """Frames a second."""
    motions: Path | None = None
    """A folder of motions in AMASS's layout; None moves people through random poses."""

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 240:
            raise OptionError(f"fps must lie in 1 to 240, got {self.fps:g}")
        if not 2 <= self.frames <= 20000:
            raise OptionError(f"seconds must give 2 to 20000 frames, got {self.seconds:g} at {self.fps:g} a second")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return round(self.seconds * self.fps) if math.isfinite(self.seconds) else 0


def sample_clip(config: SceneConfig, clip: ClipConfig, seed: int, index: int) -> list[Scene]:
    """Draw clip `index` of a seed: a scene a frame, of the same people, things and place."""
    rng = np.random.default_rng([seed, _STREAM, index])
    files = () if clip.motions is None else motion_files(clip.motions)
    people, swept = [], []
    for _ in range(int(rng.integers(config.people[0], config.people[1] + 1))):
        person = sample_person(config, rng)
        model = scene_model(config.model, person.gender)
        bodies = moving(person.params, model, clip.frames, float(clip.fps), person.sole_m, files, rng)
        people.append(replace(person, params=bodies))
        rows = np.unique(np.linspace(0, clip.frames - 1, _SWEPT).round().astype(int)).tolist()
        with torch.no_grad():
            swept.append(np.concatenate([model(**bodies.select([k])).vertices[0].double().numpy() for k in rows]))
    places, yaws = place_people(swept, rng)
    swept = [turned(*each) for each in zip(swept, places, yaws, strict=True)]
    moved = [
        moved_person(person, scene_model(config.model, person.gender), place, yaw)
        for person, place, yaw in zip(people, places, yaws, strict=True)
    ]
    camera = sample_camera([points[::_EVERY] for points in swept], config.size, config.distortion, rng)
    things = ()
    if rng.random() < config.things:
        heads = [points[points[:, 1].argmax()] for points in swept]
        things = tuple(floor_things([points[::3] for points in swept], heads, camera.eye_m, rng))
    carried = config.backgrounds is None and rng.random() < _CARRIED
    middle = np.mean([points.mean(0) for points in swept], 0)
    cameras = _carried(camera, middle, clip, rng) if carried else [camera] * clip.frames
    return [
        Scene(
            tuple(replace(person, params=person.params.select([k])) for person in moved),
            things,
            cameras[k],
            (seed, _STREAM, index, 1),
            k,
        )
        for k in range(clip.frames)
    ]


def _carried(
    camera: SceneCamera, middle: Float[np.ndarray, "3"], clip: ClipConfig, rng: np.random.Generator
) -> list[SceneCamera]:
    """A camera that goes sideways at an even pace and keeps to what it looks at, in a hand that shakes."""
    R, eye = camera.R_cam_world.double().numpy(), camera.eye_m
    target = eye + max(float((middle - eye) @ R[2]), 0.5) * R[2]
    pace = rng.uniform(*_PACE_M_S) * rng.choice([-1, 1]) * R[0] * [1, 0, 1]
    at = np.arange(clip.frames) / clip.fps
    rates, phases = rng.uniform(*_SHAKE_HZ, (2, 6)), rng.uniform(0, 2 * np.pi, (2, 6))
    shake = np.sin(2 * np.pi * rates[:, None] * at[:, None] + phases[:, None]).sum(0) - np.sin(phases).sum(0)
    out = []
    for k in range(clip.frames):
        there = eye + at[k] * pace + _SHAKE_M * shake[k, :3]
        forward = (target - there) / np.linalg.norm(target - there)
        axis = np.cross(R[2], forward)
        sine = float(np.linalg.norm(axis))
        to_target = Rotation.from_rotvec(axis / max(sine, 1e-12) * math.asin(min(sine, 1.0)))
        jitter = Rotation.from_rotvec(np.radians(_SHAKE_DEG) * shake[k, 3:] / 2)
        rows = jitter.as_matrix() @ R @ to_target.as_matrix().T
        t = torch.from_numpy(-rows @ there).float()
        out.append(replace(camera, R_cam_world=torch.from_numpy(rows).float(), t_cam_world_m=t))
    return out
