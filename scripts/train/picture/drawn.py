"""Dressed people in poses of motion clips, drawn one a picture, and the truth about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
import roma
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bodyfit.body.params import BodyParams
from bodyfit.runtime.atomic import write_atomically
from bodyfit.scenes import SceneConfig
from bodyfit.scenes.camera import sample_camera
from bodyfit.scenes.draw import draw_scene
from bodyfit.scenes.placing import place_people, turned
from bodyfit.scenes.sample import Scene, moved_person, sample_person, scene_model
from bodyfit.scenes.things import floor_things
from scripts.train.conditional.motion import Motion, read_motion
from scripts.train.picture.network import JOINTS

__all__ = ["DrawnPerson", "draw_people", "read_people", "read_scenes"]

SIDE = 288
"""Of the pictures, pixels: a person of the usual size has as many as in the landmark network's input."""
_A_FILE = 250
_PHOTOGRAPHS, _THINGS = 0.6, 0.35
_LEANING, _LYING = 0.12, 0.9
"""Deviations of a pelvis's tilt, radians: of most people, and of one in eight."""
_LEAST_POINTS, _LEAST_SHOWN, _LEAST_PX = 12, 0.7, 110.0
"""Who is read of scenes: so many landmarks in the picture, so many of these on his mask, and his size."""


@dataclass(frozen=True)
class DrawnPerson:
    """A person in camera axes, metres."""

    focal_px: Float[np.ndarray, ""]
    points: Float[np.ndarray, "33 3"]
    """MediaPipe's landmarks."""
    joints: Float[np.ndarray, "22 3"]
    rest: Float[np.ndarray, "22 3"]
    """Joints of the body at rest."""
    root: Float[np.ndarray, "3 3"]
    """Orientation of the root."""
    pose: Float[np.ndarray, "21 3"]
    """Axis-angles of the other joints, radians."""


def draw_people(folder: Path, clips: Sequence[Path], count: int, photographs: Path | None, seed: int) -> None:
    """Draw people into files of a folder; files that are there are not drawn again. Raises `OptionError`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{start:06d}.npz" for start in range(0, count, _A_FILE)]
    left = [path for path in files if not path.is_file()]
    motion = read_motion(clips)[0] if left else None
    for path in left:
        assert motion is not None
        numbers = range(int(path.stem), min(int(path.stem) + _A_FILE, count))
        drawn = [_drawn(motion, photographs, seed, number) for number in numbers]
        _write(path, [jpeg for jpeg, _ in drawn], [person for _, person in drawn])
        print(f"{numbers.stop} of {count} people drawn", flush=True)


def _drawn(motion: Motion, photographs: Path | None, seed: int, number: int) -> tuple[bytes, DrawnPerson]:
    """Draw a person; the picture is a JPEG."""
    rng = np.random.default_rng([seed, 5, number])
    pose = motion.poses(1, torch.Generator().manual_seed((seed << 24) + number))[0, : JOINTS - 1]
    tilt = rng.normal(0, _LYING if rng.random() < 1 / 8 else _LEANING, 3) * (1, 0, 1)
    behind = photographs if rng.random() < _PHOTOGRAPHS else None
    scene = _scene(SceneConfig(size=SIDE, backgrounds=behind), pose, tilt, (seed, 5, number), rng)
    picture = draw_scene(scene, backgrounds=behind, normals=False).picture
    (one,) = scene.people
    params = BodyParams(**{**one.params, **_in_camera(one.params, scene, one.gender)})
    return _jpeg(picture), _truth(params, one.gender, scene.focal_px)[0]


def _scene(
    config: SceneConfig, pose: Tensor, tilt: np.ndarray, seed: tuple[int, ...], rng: np.random.Generator
) -> Scene:
    """Put a person of random shape and clothes in a pose on the floor, with things about him at times."""
    person = sample_person(config, rng)
    model = scene_model(config.model, person.gender)
    root = torch.from_numpy(tilt[None]).float()
    params = BodyParams(**{**person.params, "body_pose": pose.flatten()[None], "global_orient": root})
    with torch.no_grad():
        above = model(**params).vertices[0, :, 1].min()
    low = torch.zeros(1, 3)
    low[0, 1] = person.sole_m - above
    person = replace(person, params=BodyParams(**{**params, "transl": params.transl + low}))
    with torch.no_grad():
        mesh = model(**person.params).vertices[0].double().numpy()
    (place,), (yaw,) = place_people([mesh], rng)
    solid = turned(mesh, place, yaw)
    camera = sample_camera([solid[::16]], config.size, False, rng)
    things = []
    if rng.random() < _THINGS:
        things = floor_things([solid[::3]], [solid[solid[:, 1].argmax()]], camera.eye_m, rng)
    return Scene((moved_person(person, model, place, yaw),), tuple(things), camera, seed)


def _in_camera(params: BodyParams, scene: Scene, gender: str) -> dict[str, Tensor]:
    """Turn a body of the world into the camera's axes."""
    R, t = scene.R_cam_world, scene.t_cam_world_m
    root = scene_model("open-x", gender).rest_joints(params.betas)[:, 0]
    orient = roma.rotmat_to_rotvec(R @ roma.rotvec_to_rotmat(params.global_orient))
    assert isinstance(orient, Tensor)
    return {"global_orient": orient, "transl": (params.transl + root) @ R.T + t - root}


def _truth(params: BodyParams, gender: str, focal_px: float) -> list[DrawnPerson]:
    """Gather what is true of bodies in camera axes."""
    model = scene_model("open-x", gender)
    with torch.no_grad():
        parts = {
            "points": model.keypoints(params, "mediapipe33"),
            "joints": model.joints(params)[:, :JOINTS],
            "rest": model.rest_joints(params.betas)[:, :JOINTS],
            "root": roma.rotvec_to_rotmat(params.global_orient),
            "pose": params.body_pose.unflatten(1, (-1, 3)),
        }
    rows = [{name: value[i].float().numpy() for name, value in parts.items()} for i in range(params.batch)]
    return [DrawnPerson(np.array(focal_px, np.float32), **row) for row in rows]


def _jpeg(picture: UInt8[np.ndarray, "S S 3"]) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def _write(path: Path, pictures: Sequence[bytes], people: Sequence[DrawnPerson]) -> None:
    arrays = {f.name: np.stack([getattr(person, f.name) for person in people]) for f in fields(DrawnPerson)}
    data = np.frombuffer(b"".join(pictures), np.uint8)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        np.savez(file, pictures=data, lengths=np.array([len(one) for one in pictures]), **arrays)


def read_people(path: Path) -> Iterator[tuple[UInt8[np.ndarray, "S S 3"], DrawnPerson]]:
    """Read the pictures and people of a file of `draw_people`."""
    with np.load(path) as file:
        arrays = {f.name: file[f.name] for f in fields(DrawnPerson)}
        ends, data = np.cumsum(file["lengths"]), file["pictures"]
    for i, picture in enumerate(np.split(data, ends[:-1])):
        image = cv2.imdecode(picture, cv2.IMREAD_COLOR)
        yield image[..., ::-1], DrawnPerson(**{name: values[i] for name, values in arrays.items()})


def read_scenes(folder: Path, numbers: range) -> Iterator[tuple[UInt8[np.ndarray, "S S 3"], DrawnPerson]]:
    """Read who is large and mostly in sight of the scenes of a folder of `bodyfit scene`."""
    for number in numbers:
        path = folder / "params" / f"{number:06d}.npz"
        if not path.is_file():
            continue
        image = cv2.imread(str(folder / "images" / f"{number:06d}.jpg"))[..., ::-1]
        mask = cv2.imread(str(folder / "masks" / f"{number:06d}.png"), cv2.IMREAD_UNCHANGED)
        with np.load(path) as file:
            names = ("betas", "body_pose", "global_orient", "left_hand_pose", "right_hand_pose")
            values = {name: torch.from_numpy(file[name]) for name in names} | {
                "transl": torch.from_numpy(file["trans"])
            }
            focal, genders = float(file["K"][0, 0]), [str(gender) for gender in file["gender"]]
        for i, gender in enumerate(genders):
            params = scene_model("open-x", gender).params(**{name: value[i : i + 1] for name, value in values.items()})
            (person,) = _truth(params, gender, focal)
            if _shown(person, mask == i + 1):
                yield image, person


def _shown(person: DrawnPerson, mask: np.ndarray) -> bool:
    """Tell whether a person is large and mostly in sight."""
    if person.points[:, 2].min() < 0.2:
        return False
    side = len(mask)
    xy = person.points[:, :2] / person.points[:, 2:] * person.focal_px + side / 2
    inside = np.all((xy > 1) & (xy < side - 2), axis=1)
    x, y = xy[inside].astype(int).T
    several = int(inside.sum()) >= _LEAST_POINTS and float(np.ptp(xy, axis=0).max()) >= _LEAST_PX
    return several and float(mask[y, x].mean()) >= _LEAST_SHOWN
