"""Draw a scene: who is there, where and in what pose and clothes, what stands about, and the camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation
from torch import Tensor

from bodyfit.appearance.binding import bound_piece
from bodyfit.appearance.outfit import Outfit
from bodyfit.appearance.wardrobe import random_outfits
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.body.kernels.skinning import posed_mesh
from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.params import BodyParams
from bodyfit.body.pose_prior import PosePrior, load_pose_prior
from bodyfit.body.sample import random_bodies
from bodyfit.scenes.camera import SceneCamera, sample_camera
from bodyfit.scenes.config import SceneConfig
from bodyfit.scenes.placing import place_people, turned
from bodyfit.scenes.things import Thing, floor_things, thing_in_hand

__all__ = ["Scene", "ScenePerson", "moved_person", "pose_prior", "sample_person", "sample_scene", "scene_model"]

_STREAM = 11
_EVERY = 16
"""Of so many vertices the camera is told of one."""


@dataclass(frozen=True, eq=False)
class ScenePerson:
    """One person in the world: y up, the floor at y = 0, metres."""

    gender: str
    """male or female."""
    params: BodyParams
    """One body, in the world's axes."""
    outfit: Outfit
    """Clothes and looks."""
    sole_m: float = 0.0
    """How far the soles of shoes lie below the skin."""


@dataclass(frozen=True, eq=False)
class Scene:
    """People, things and a camera."""

    people: tuple[ScenePerson, ...]
    """At least one."""
    things: tuple[Thing, ...]
    """What stands on the floor and what is held."""
    camera: SceneCamera
    """Where it is seen from."""
    seed: tuple[int, ...]
    """Sets the draws of what is left: background, light, grain."""
    frame: int = 0
    """Number of the picture in a clip: grain differs from one to the next."""

    @property
    def size(self) -> int:
        """Width and height, pixels."""
        return self.camera.size

    @property
    def focal_px(self) -> float:
        """Focal length, pixels."""
        return self.camera.focal_px

    @property
    def R_cam_world(self) -> Float[Tensor, "3 3"]:  # noqa: N802
        """x_cam = R x_world + t; camera axes are x right, y down, z forward."""
        return self.camera.R_cam_world

    @property
    def t_cam_world_m(self) -> Float[Tensor, "3"]:
        """Metres."""
        return self.camera.t_cam_world_m

    @property
    def eye_m(self) -> Float[np.ndarray, "3"]:
        """Where the camera is in the world."""
        return self.camera.eye_m


@lru_cache(maxsize=4)
def scene_model(name: str, gender: str) -> BodyModel:
    """The body that people of a gender have."""
    return load_model(name, gender=gender)


@lru_cache(maxsize=1)
def pose_prior() -> PosePrior:
    return load_pose_prior()


def sample_scene(config: SceneConfig, seed: int, index: int) -> Scene:
    """Draw scene `index` of a seed."""
    rng = np.random.default_rng([seed, _STREAM, index])
    count = int(rng.integers(config.people[0], config.people[1] + 1))
    people = [sample_person(config, rng) for _ in range(count)]
    meshes = [_vertices(config, person) for person in people]
    in_hands = {}
    for i, person in enumerate(people):
        if rng.random() < config.things and (thing := _in_hand(config, person, i, meshes[i], rng)) is not None:
            in_hands[i] = thing
    solid = [np.concatenate([mesh, _outline(in_hands[i])]) if i in in_hands else mesh for i, mesh in enumerate(meshes)]
    places, yaws = place_people(solid, rng)
    moved = tuple(
        moved_person(person, scene_model(config.model, person.gender), place, yaw)
        for person, place, yaw in zip(people, places, yaws, strict=True)
    )
    solid = [turned(*each) for each in zip(solid, places, yaws, strict=True)]
    camera = sample_camera([points[::_EVERY] for points in solid], config.size, config.distortion, rng)
    things = [_carried(one, places[i], yaws[i]) for i, one in in_hands.items()]
    if rng.random() < config.things:
        heads = [points[points[:, 1].argmax()] for points in solid]
        things += floor_things([points[::3] for points in solid], heads, camera.eye_m, rng)
    return Scene(moved, tuple(things), camera, (seed, _STREAM, index, 1))


def sample_person(config: SceneConfig, rng: np.random.Generator) -> ScenePerson:
    """A random body on the floor, over its pelvis's place, with hands, face and gaze where the model has them."""
    gender = str(rng.choice(["male", "female"]))
    model, own = scene_model(config.model, gender), int(rng.integers(2**31))
    body = random_bodies(1, model=model, seed=own, prior=pose_prior(), floor=True)
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
    params = model.params(**{**body, **extra})
    sole = _sole_m(model, params, outfit)
    pelvis = model.rest_joints(params.betas)[:, 0]
    transl = torch.stack([-pelvis[:, 0], params.transl[:, 1] + sole, -pelvis[:, 2]], 1)
    return ScenePerson(gender, model.params(**{**params, "transl": transl}), outfit, sole)


def _sole_m(model: BodyModel, params: BodyParams, outfit: Outfit) -> float:
    """How far shoes reach below the skin of a body on the floor."""
    if outfit.shoes is None:
        return 0.0
    with torch.no_grad():
        inputs = model.coefficients(params), model.full_pose(params), params.transl
        return max(0.0, -float(posed_mesh(bound_piece(model, outfit.shoes), *inputs)[0][..., 1].min()))


def _vertices(config: SceneConfig, person: ScenePerson) -> Float[np.ndarray, "V 3"]:
    with torch.no_grad():
        return scene_model(config.model, person.gender)(**person.params).vertices[0].double().numpy()


def _in_hand(
    config: SceneConfig,
    person: ScenePerson,
    number: int,
    mesh: Float[np.ndarray, "V 3"],
    rng: np.random.Generator,
) -> Thing | None:
    """Something in one hand of a person; None for bodies without fingers, or where there is no room for it."""
    model, side = scene_model(config.model, person.gender), str(rng.choice(["left", "right"]))
    if f"{side}_middle1" not in model.skeleton.names:
        return None
    joints = model.joints(person.params)[0].detach().double().numpy()
    wrist, middle, index, pinky = (
        joints[model.skeleton.index(f"{side}_{name}")] for name in ("wrist", "middle1", "index1", "pinky1")
    )
    normal = np.cross(index - wrist, pinky - wrist) * (-1 if side == "left" else 1)
    normal /= np.linalg.norm(normal)
    hand = _hand_rows(side)
    rest = np.ones(len(mesh), bool)
    rest[hand] = False
    palm = 0.3 * wrist + 0.7 * middle
    return thing_in_hand(mesh[hand], mesh[rest][::3], palm, normal, middle - wrist, number, rng)


@lru_cache(maxsize=2)
def _hand_rows(side: str) -> Int[np.ndarray, "H"]:
    """Vertices that the wrist and the fingers move."""
    archive = read_archive(asset_path("body", "open.npz"))
    names = [str(name) for name in archive["part_names"]]
    numbers = [names.index(f"{side}_{part}") for part in ("wrist", "hand", "elbow")]
    return np.flatnonzero(np.isin(archive["part_labels"], numbers))


def _outline(thing: Thing) -> Float[np.ndarray, "P 3"]:
    """Points on a thing, as dense as a body's."""
    grid = np.linspace(-1, 1, 9)
    points = np.stack(np.meshgrid(grid, grid, grid), -1).reshape(-1, 3)
    if thing.kind == "ball":
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    else:
        points = points[np.abs(points).max(1) == 1]
    return points * thing.half_m @ thing.axes + thing.middle_m


def _carried(thing: Thing, place: Float[np.ndarray, "2"], yaw: float) -> Thing:
    """The thing moved with who holds it."""
    nowhere = np.zeros(2)
    return replace(thing, middle_m=turned(thing.middle_m[None], place, yaw)[0], axes=turned(thing.axes, nowhere, yaw))


def moved_person(person: ScenePerson, model: BodyModel, place: Float[np.ndarray, "2"], yaw: float) -> ScenePerson:
    """The person, in one pose or several, turned about the vertical at the origin, and put at a place on the floor."""
    params = person.params
    root = model.rest_joints(params.betas)[:, 0]
    there = torch.from_numpy(turned((root + params.transl).double().numpy(), place, yaw)).to(root)
    turn = Rotation.from_rotvec([0.0, yaw, 0.0]) * Rotation.from_rotvec(params.global_orient.double().numpy())
    orient = torch.from_numpy(turn.as_rotvec()).to(root)
    return replace(person, params=BodyParams(**{**params, "transl": there - root, "global_orient": orient}))
