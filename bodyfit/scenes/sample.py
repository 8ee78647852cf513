"""Draw a scene: who is there, where and in what pose and clothes, and where the camera stands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.appearance.outfit import Outfit
from bodyfit.appearance.wardrobe import random_outfits
from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.params import BodyParams
from bodyfit.body.pose_prior import PosePrior, load_pose_prior
from bodyfit.body.sample import random_bodies
from bodyfit.scenes.config import SceneConfig

__all__ = ["Scene", "ScenePerson", "sample_scene", "scene_model"]

_STREAM = 11
_FILM_MM = 36.0
"""Width of the picture that focal lengths in millimetres are meant for."""
_FOCAL_MM = (24.0, 85.0)
_EYE_M = (1.5, 0.3)
"""Mean and standard deviation of the camera's height; cut at 0.4 and 2.8 m."""
_ROLL_DEG = 1.5
_GAP_M = 0.05
_TRIES = 40
"""Places tried for a person before the circle in which they stand grows."""
_EVERY = 16
"""Of so many vertices the camera is told of one."""
_PLACEMENTS = ("facing", "together", "apart")


@dataclass(frozen=True, eq=False)
class ScenePerson:
    """One person in the world: y up, the floor at y = 0, metres."""

    gender: str
    """male or female."""
    params: BodyParams
    """One body, in the world's axes."""
    outfit: Outfit
    """Clothes and looks."""


@dataclass(frozen=True, eq=False)
class Scene:
    """People and a camera."""

    people: tuple[ScenePerson, ...]
    """At least one."""
    focal_px: float
    """Focal length, pixels."""
    R_cam_world: Float[Tensor, "3 3"]
    """x_cam = R x_world + t; camera axes are x right, y down, z forward."""
    t_cam_world_m: Float[Tensor, "3"]
    """Metres."""
    size: int
    """Width and height, pixels; the principal point is the middle."""
    seed: tuple[int, ...]
    """Sets the draws of what is left: background, light, grain."""

    @property
    def eye_m(self) -> Float[np.ndarray, "3"]:
        """Where the camera is in the world."""
        return (-self.R_cam_world.T @ self.t_cam_world_m).double().numpy()


@lru_cache(maxsize=4)
def scene_model(name: str, gender: str) -> BodyModel:
    """The body that people of a gender have."""
    return load_model(name, gender=gender)


@lru_cache(maxsize=1)
def _pose_prior() -> PosePrior:
    return load_pose_prior()


def sample_scene(config: SceneConfig, seed: int, index: int) -> Scene:
    """Draw scene `index` of a seed."""
    rng = np.random.default_rng([seed, _STREAM, index])
    count = int(rng.integers(config.people[0], config.people[1] + 1))
    people = [_person(config, rng) for _ in range(count)]
    meshes = [_vertices(config, person) for person in people]
    places, yaws = _placed(meshes, rng)
    moved = tuple(_moved(config, *each) for each in zip(people, places, yaws, strict=True))
    everyone = torch.cat([_vertices(config, person)[::_EVERY] for person in moved])
    focal, R, t = _camera(config, everyone.double().numpy(), rng)
    return Scene(moved, focal, R, t, config.size, (seed, _STREAM, index, 1))


def _person(config: SceneConfig, rng: np.random.Generator) -> ScenePerson:
    """A random body on the floor, with hands, face and gaze where the model has them."""
    gender = str(rng.choice(["male", "female"]))
    model, own = scene_model(config.model, gender), int(rng.integers(2**31))
    body = random_bodies(1, model=model, seed=own, prior=_pose_prior(), floor=True)
    extra: dict[str, Tensor] = {}
    if body.left_hand_pose is not None:
        for name, prior in zip(("left_hand_pose", "right_hand_pose"), load_hand_prior(), strict=True):
            part = int(rng.choice(len(prior.weights), p=prior.weights))
            pose = rng.multivariate_normal(prior.means[part], 0.5 * prior.covars[part], method="cholesky")
            row = 0 if name.startswith("left") else 1
            extra[name] = torch.from_numpy(pose[None]).to(model.v_template) - model.hand_means[row]
    if body.expression is not None:
        face = rng.normal(0, 0.8, (1, body.expression.shape[1]))
        extra["expression"] = torch.from_numpy(face).to(model.v_template)
        gaze = torch.tensor([[rng.normal(0, 0.08), rng.normal(0, 0.15), 0.0]]).to(model.v_template)
        extra |= {"leye_pose": gaze, "reye_pose": gaze}
        extra["jaw_pose"] = torch.tensor([[abs(rng.normal(0, 0.06)), 0.0, 0.0]]).to(model.v_template)
    outfit = random_outfits(1, int(rng.integers(2**31)), gender=gender)[0]
    return ScenePerson(gender, model.params(**{**body, **extra}), outfit)


def _vertices(config: SceneConfig, person: ScenePerson) -> Float[Tensor, "V 3"]:
    with torch.no_grad():
        return scene_model(config.model, person.gender)(**person.params).vertices[0]


def _placed(
    meshes: list[Float[Tensor, "V 3"]], rng: np.random.Generator
) -> tuple[list[Float[np.ndarray, "2"]], list[float]]:
    """Places (x, z) and headings such that no two people's circles on the floor overlap."""
    radii = [float(mesh[:, [0, 2]].norm(dim=1).max()) for mesh in meshes]
    places: list[np.ndarray] = []
    circle = 0.6
    for radius in radii:
        for tries in range(10**6):
            if tries % _TRIES == 0:
                circle *= 1.15
            angle, distance = rng.uniform(0, 2 * math.pi), circle * math.sqrt(rng.random())
            place = distance * np.array([math.cos(angle), math.sin(angle)])
            apart = [np.linalg.norm(place - p) - r - radius for p, r in zip(places, radii, strict=False)]
            if min(apart, default=1.0) > _GAP_M:
                places.append(place)
                break
    middle, kind, way = np.mean(places, 0), str(rng.choice(_PLACEMENTS)), rng.uniform(-math.pi, math.pi)
    yaws = []
    for place in places:
        towards = middle - place
        if kind == "facing" and len(places) > 1:
            yaw = math.atan2(towards[0], towards[1]) + rng.normal(0, 0.3)
        else:
            yaw = way + rng.normal(0, 0.25) if kind == "together" else rng.uniform(-math.pi, math.pi)
        yaws.append(yaw)
    return places, yaws


def _moved(config: SceneConfig, person: ScenePerson, place: Float[np.ndarray, "2"], yaw: float) -> ScenePerson:
    """The person turned about the vertical through their pelvis, and put at a place."""
    params = person.params
    rest = scene_model(config.model, person.gender).rest_joints(params.betas)[:, 0]
    transl = params.transl.clone()
    transl[:, 0], transl[:, 2] = place[0] - rest[:, 0], place[1] - rest[:, 2]
    orient = torch.tensor([[0.0, yaw, 0.0]], dtype=transl.dtype)
    turned = BodyParams(**{**params, "transl": transl, "global_orient": orient})
    return ScenePerson(person.gender, turned, person.outfit)


def _camera(
    config: SceneConfig, points: Float[np.ndarray, "N 3"], rng: np.random.Generator
) -> tuple[float, Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """A camera held at eye height or thereabouts that has everyone in its picture, or most of them."""
    focal = math.exp(rng.uniform(*np.log(_FOCAL_MM))) / _FILM_MM * config.size
    height = float(np.clip(rng.normal(*_EYE_M), 0.4, 2.8))
    azimuth, fill = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.05)
    target = (points.min(0) + points.max(0)) / 2 + rng.normal(0, 0.08, 3)
    roll = math.radians(rng.normal(0, _ROLL_DEG))
    away, distance = np.array([math.sin(azimuth), 0, math.cos(azimuth)]), 1.0
    eye = R = np.zeros(3)
    for _ in range(60):
        eye = target + distance * away
        eye[1] = height
        R = _looking(eye, target, roll)
        from_eye = (points - eye) @ R.T
        if from_eye[:, 2].min() > 0.3:
            xy = from_eye[:, :2] / from_eye[:, 2:] * focal
            if np.ptp(xy, axis=0).max() <= fill * config.size and np.abs(xy).max() < 0.62 * config.size:
                break
        distance *= 1.08
    return focal, torch.from_numpy(R).float(), torch.from_numpy(-R @ eye).float()


def _looking(eye: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], roll: float) -> Float[np.ndarray, "3 3"]:
    """Rows right, down and forward of a camera that looks at a target."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0.0, 1.0, 0.0))
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    return np.stack([c * right + s * down, c * down - s * right, forward])
