"""Pairs of views to learn from: dressed people, drawn from one camera and from others, with wrong bodies too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Float32

import bodyfit
from bodyfit.appearance.dressed import DressedPerson
from bodyfit.novel_views.square import Body, Square, turn_of
from bodyfit.runtime.atomic import write_atomically
from scripts.train.clothed.people import outfits

__all__ = ["SIDE", "Scene", "draw_people"]

SIDE = 256
"""Of the pictures, and of what the networks take, pixels."""
_ROOM = (1.05, 1.4)
"""Half the side in parts of the body's reach."""
_DISTANCE_M = (2.2, 6.0)
_WRONG, _WRONG_RAD, _WRONG_BETAS = 0.3, 0.045, 0.3
"""Share of people whose fitted bodies are wrong, the deviation of their angles and of their shape."""
_COARSE_MASKS = 0.35
_TARGETS = 4


@dataclass(frozen=True, eq=False)
class Scene:
    """A dressed person before a camera."""

    person: DressedPerson
    """Camera axes."""
    body: Body
    """The body that a fit would give, camera axes."""
    light: Float[np.ndarray, "3 3"]
    """Rotation from the camera's axes to those of the light."""

    def drawn(
        self, square: Square, turn: Float[np.ndarray, "3 3"]
    ) -> tuple[Float32[np.ndarray, "S S 4"], Float32[np.ndarray, "S S"]]:
        """Draw the person turned: premultiplied RGBA and depth, metres."""
        rotation = torch.from_numpy(turn).float()
        offset = torch.from_numpy(self.body.pivot - turn @ self.body.pivot).float()
        camera = bodyfit.Camera.make(
            1, (square.side, square.side), focal_px=square.focal_px[0], principal_point_px=square.centre_px
        )
        turned = self.person.turned(rotation, offset)
        layer = bodyfit.render.render_dressed([turned], camera, R_light=self.light @ turn.T)
        rgba, depth = np.zeros((square.side, square.side, 4), np.float32), np.full((square.side,) * 2, np.inf)
        if layer is not None:
            (x, y), (h, w) = layer.corner_px, layer.rgba.shape[:2]
            rgba[y : y + h, x : x + w], depth[y : y + h, x : x + w] = layer.rgba, layer.depth_m
        return rgba, depth.astype(np.float32)


def draw_people(poses: Sequence[Float[np.ndarray, "69"]], n: int, folder: Path, seed: int) -> Iterator[int]:
    """Draw the people that are not there yet into `folder`, one file a person; yields their numbers.

    poses: angles of the body of motion clips. Person i is the same for every `n`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = bodyfit.load_model("open-x")
    worn = outfits(n, seed, held_out=False)
    for i in range(n):
        path = folder / f"{i:05d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng([seed, 31, i])
        arrays = _person(model, worn[i], poses[int(rng.integers(len(poses)))], rng)
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        yield i


def _person(
    model: bodyfit.BodyModel, outfit: bodyfit.Outfit, pose: Float[np.ndarray, "69"], rng: np.random.Generator
) -> dict[str, Any]:
    """Draw one person: the photograph's square with the fitted body, and the person turned."""
    scene = _scene(model, outfit, pose, rng)
    square = _square(scene.body, rng)
    rgba, depth = scene.drawn(square, np.eye(3))
    mask = rgba[..., 3] >= 0.5
    if rng.random() < _COARSE_MASKS:
        mask = _coarse(mask, rng)
    out: dict[str, Any] = {
        "image": _before(rgba, rng),
        "mask": mask,
        "depth": np.where(rgba[..., 3] >= 0.5, depth, np.inf).astype(np.float32),
        "vertices": scene.body.vertices.astype(np.float32),
        "lens": np.array([*square.focal_px, *square.centre_px]),
        "turns": np.stack([_turn(rng) for _ in range(_TARGETS)]),
    }
    for k, turn in enumerate(out["turns"]):
        out[f"truth{k}"] = np.round(255 * scene.drawn(square, turn)[0]).astype(np.uint8)
    return out


def _scene(
    model: bodyfit.BodyModel, outfit: bodyfit.Outfit, pose: Float[np.ndarray, "69"], rng: np.random.Generator
) -> Scene:
    """Pose and dress a person before a camera, in a light from anywhere, with the body that a fit would give."""
    drawn = bodyfit.random_bodies(1, model=model, seed=int(rng.integers(1 << 30)), pose="mocap-like")
    yaw = rng.uniform(-np.pi, np.pi) if rng.random() < 0.4 else rng.uniform(-1.4, 1.4)
    pitch = rng.normal(0, 0.13)
    about = roma.rotvec_to_rotmat(torch.tensor([np.pi + pitch, 0, 0])) @ roma.rotvec_to_rotmat(
        torch.tensor([0.0, yaw, 0])
    )
    angles = torch.from_numpy(pose[: drawn.body_pose.shape[1]]).float()[None]
    values = dict(drawn) | {"body_pose": angles, "global_orient": roma.rotmat_to_rotvec(about)[None].float()}
    params = model.params(**values)
    middle = torch.tensor(_middle(model, params)).float()
    depth = float(rng.uniform(*_DISTANCE_M))
    target = torch.tensor([*(rng.normal(0, 0.05, 2) * depth), depth]).float()
    params = model.params(**dict(params) | {"transl": params.transl + target - middle})
    wrong = _wrong(model, params, rng) if rng.random() < _WRONG else params
    with torch.no_grad():
        vertices = model(**wrong).vertices[0].double().numpy()
    light = roma.rotvec_to_rotmat(torch.tensor([0.0, rng.uniform(-np.pi, np.pi), 0])).double().numpy()
    person = bodyfit.dress(params, model=model, outfit=outfit)[0]
    return Scene(person, Body.of(vertices, model.faces.numpy()), light)


def _middle(model: bodyfit.BodyModel, params: bodyfit.BodyParams) -> Float[np.ndarray, "3"]:
    with torch.no_grad():
        vertices = model(**params).vertices[0].numpy()
    return (vertices.min(0) + vertices.max(0)) / 2


def _wrong(model: bodyfit.BodyModel, params: bodyfit.BodyParams, rng: np.random.Generator) -> bodyfit.BodyParams:
    """Disturb a body as a fit does; its joints' mean stays where it is."""
    noise = {
        name: torch.from_numpy(deviation * rng.standard_normal(params[name].shape)).float()
        for name, deviation in (("body_pose", _WRONG_RAD), ("global_orient", _WRONG_RAD), ("betas", _WRONG_BETAS))
    }
    wrong = model.params(**dict(params) | {name: params[name] + value for name, value in noise.items()})
    with torch.no_grad():
        apart = (model.joints(params) - model.joints(wrong))[:, : model.body_joints].mean(1)
    return model.params(**dict(wrong) | {"transl": wrong.transl + apart})


def _square(body: Body, rng: np.random.Generator) -> Square:
    """Aim a square camera of random width at a body."""
    z = body.pivot[2]
    focal = 0.5 * SIDE * 0.5 * (2 * z - body.reach_m) / (rng.uniform(*_ROOM) * body.reach_m)
    x, y = SIDE / 2 - focal * body.pivot[:2] / z + rng.normal(0, 3, 2)
    blank = np.zeros((SIDE, SIDE, 3), np.uint8)
    return Square(blank, blank[..., 0] > 0, (focal, focal), (float(x), float(y)), (0, 0), 1.0)


def _turn(rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    pitch = rng.normal(0, 8) if rng.random() < 0.3 else 0.0
    return turn_of(rng.choice([-1, 1]) * rng.uniform(5, 75), pitch)


def _before(rgba: Float32[np.ndarray, "S S 4"], rng: np.random.Generator) -> np.ndarray:
    """Put the person before a background of smooth and fine colours, and add the noise of a camera."""
    coarse = cv2.resize(rng.random((int(rng.integers(1, 9)),) * 2 + (3,)).astype(np.float32), (SIDE, SIDE))
    fine = cv2.resize(rng.random((64, 64, 3)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) - 0.5
    background = np.clip(coarse + rng.uniform(0, 0.5) * fine, 0, 1)
    picture = rgba[..., :3] + (1 - rgba[..., 3:]) * background
    picture = picture + rng.uniform(0, 0.015) * rng.standard_normal(picture.shape)
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def _coarse(mask: Bool[np.ndarray, "S S"], rng: np.random.Generator) -> Bool[np.ndarray, "S S"]:
    """Give a mask the faults of a network's: an edge off by some pixels."""
    noise = cv2.resize(rng.standard_normal((24, 24)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(1, 3))
    return soft > 0.5 + 0.13 * noise + rng.normal(0, 0.05)
