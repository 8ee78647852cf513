"""Pictures of standing people whose shape is known: from the front, from the side, and a clip of the person turning.

People are of the male and the female open body, in paint (a skin, clothes as thin as paint), before a made-up
background and a camera of random lens, which the fit does not know. Each picture has a pose a little different.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
import roma
import torch

import bodyfit
from bodyfit import render
from bodyfit.geometry.camera import Camera
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D, SoftMask
from scripts.bench.inputs.quality_pictures import Studio, _background, _developed

__all__ = ["CLIP_FRAMES", "Person", "make_person"]

SIZE = (720, 1080)
CLIP_FRAMES = 16
_ARMS_DEG = 32.0, 8.0
"""Mean and deviation of the angle of the upper arms to the vertical: a little away from the body."""
_SWAY, _SWAY_ARMS = 0.035, 0.09
"""Deviations of joint angles between pictures, radians: of trunk and legs, and of arms and head."""


_Drawing: TypeAlias = Callable[
    [np.ndarray, bodyfit.BodyModel, bodyfit.BodyParams, Camera], tuple[np.ndarray, np.ndarray]
]


@dataclass(frozen=True)
class Person:
    """A person of known shape, and what a detector finds in the pictures."""

    gender: str
    """Gender of the body that was drawn."""
    betas: torch.Tensor
    """(10,) of that gender's shape space."""
    measurements: dict[str, float]
    """True measurements by the names of `Measurements`, metres and kilograms."""
    focal_px: float
    """Focal length of the camera, which a fit need not be given."""
    frames: dict[str, list[Frame]]
    """Pictures by view: "front", "side", "clip"; without their pixels where not kept."""
    people: dict[str, list[list[Keypoints2D]]]
    """The people that the detector found in each picture, with masks."""
    true_masks: dict[str, list[SoftMask]]
    """The body's own silhouette in each picture."""

    def views(self, *names: str, masks: str = "detector") -> tuple[list[Frame], list[list[Keypoints2D]]]:
        """Return the pictures of some views and their people, with masks of the "detector", "true" ones or "none"."""
        frames = [frame for name in names for frame in self.frames[name]]
        people = [found for name in names for found in self.people[name]]
        truth = [mask for name in names for mask in self.true_masks[name]]
        if masks == "none":
            people = [[replace(person, mask=None) for person in found] for found in people]
        if masks == "true":
            people = [[replace(p, mask=mask) for p in found] for found, mask in zip(people, truth, strict=True)]
        return frames, people


@cache
def _model(gender: str) -> bodyfit.BodyModel:
    return bodyfit.load_model(gender=gender)


def make_person(
    seed: int,
    detect: Callable[[Sequence[Frame]], list[list[Keypoints2D]]],
    skins: Path | None = None,
    *,
    views: Sequence[str] = ("front", "side", "clip"),
    clothed: bool = False,
    keep_pixels: bool = False,
) -> Person:
    """Draw a person of a seed in some views, in paint or in clothes, and detect."""
    rng = np.random.default_rng((seed, 17))
    gender = ("male", "female")[seed % 2]
    model = _model(gender)
    betas = torch.tensor(rng.standard_normal(10).clip(-2.5, 2.5), dtype=torch.float32)
    measured = model.measure(betas[None])
    truth = {name: float(value[0]) for name, value in vars(measured).items()}
    studio = _studio(skins)
    paint = studio._paint(rng)
    focal_px = SIZE[1] / 2 / math.tan(math.radians(rng.uniform(42, 66)) / 2)
    camera = Camera.make(1, SIZE, focal_px=focal_px)
    distance = truth["height"] * focal_px / (rng.uniform(0.68, 0.88) * SIZE[1])
    level, pitch = rng.uniform(0.75, 1.25), rng.normal(0, math.radians(2))  # the camera's height over the pelvis's
    stance = _stance(rng, model)
    frames: dict[str, list[Frame]] = {}
    found: dict[str, list[list[Keypoints2D]]] = {}
    masks: dict[str, list[SoftMask]] = {}
    for view in views:
        frames[view], found[view], masks[view] = [], [], []
        background, light = _background(rng, *SIZE), int(rng.integers(1 << 30))
        for yaw in _yaws(view, rng):
            params = _placed(model, betas, _swayed(stance, rng, model), yaw, distance, level, pitch)
            image, mask = (_in_clothes(seed) if clothed else _in_paint(paint))(background, model, params, camera)
            frame = Frame(_developed(np.random.default_rng(light), image, "whole"))
            masks[view].append(_boxed(mask))
            found[view] += detect([frame])
            kept = frame.image if keep_pixels else np.broadcast_to(np.zeros(3, np.uint8), frame.image.shape)
            frames[view].append(replace(frame, image=kept))
    return Person(gender, betas, truth, focal_px, frames, found, masks)


def _in_paint(paint: render.Texture) -> _Drawing:
    """Draw a bare body with a texture; return the picture and where the person is."""

    def draw(
        background: np.ndarray, model: bodyfit.BodyModel, params: bodyfit.BodyParams, camera: Camera
    ) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            vertices = model(**params).vertices[0]
        image = render.overlay(background, [(vertices, paint)], model.faces, camera, opacity=1.0)
        maps = render.draw_maps([(vertices, (0.5, 0.5, 0.5))], model.faces, camera, which=("silhouette",))
        assert maps.person is not None
        return image, maps.person > 0

    return draw


def _in_clothes(seed: int) -> _Drawing:
    """Draw a person in a random outfit of the seed; return the picture and where the person is, clothes and all."""
    from bodyfit.appearance import dress, random_outfits
    from bodyfit.render.dressed import render_dressed

    def draw(
        background: np.ndarray, model: bodyfit.BodyModel, params: bodyfit.BodyParams, camera: Camera
    ) -> tuple[np.ndarray, np.ndarray]:
        layer = render_dressed(dress(params, model=model, outfit=random_outfits(1, seed, gender=model.gender)), camera)
        assert layer is not None
        picture, alpha = background.astype(np.float32) / 255, np.zeros((*background.shape[:2], 3), np.float32)
        layer.over(picture)
        replace(layer, rgba=np.repeat(layer.rgba[..., 3:], 4, 2)).over(alpha)
        return (255 * picture).clip(0, 255).astype(np.uint8), alpha[..., 0] > 0.5

    return draw


@cache
def _studio(skins: Path | None) -> Studio:
    return Studio([], skins)


def _yaws(view: str, rng: np.random.Generator) -> list[float]:
    """Angles of the body about the vertical, radians."""
    if view == "clip":
        return [float(a + rng.normal(0, 0.06)) for a in np.linspace(0, 2 * math.pi, CLIP_FRAMES, endpoint=False)]
    middle = {"front": 0.0, "side": rng.choice((-1, 1)) * math.pi / 2, "back": math.pi}[view]
    return [float(middle + rng.normal(0, math.radians(7)))]


def _stance(rng: np.random.Generator, model: bodyfit.BodyModel) -> torch.Tensor:
    """(J - 1, 3) axis-angles of somebody who stands, arms a little away from the body."""
    pose = torch.zeros(model.body_joints, 3)
    index = model.skeleton.index
    down = math.radians(90 - abs(rng.normal(*_ARMS_DEG)))
    spread = math.radians(rng.uniform(2, 7))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[index(f"{side}_shoulder")] = torch.tensor([0.0, 0.0, -sign * 0.8 * down])
        pose[index(f"{side}_collar")] = torch.tensor([0.0, 0.0, -sign * 0.2 * down])
        pose[index(f"{side}_elbow")] = torch.tensor([0.0, -sign * rng.uniform(0.05, 0.3), 0.0])
        pose[index(f"{side}_hip")] = torch.tensor([0.0, 0.0, sign * spread])
    return pose[1:]


def _swayed(stance: torch.Tensor, rng: np.random.Generator, model: bodyfit.BodyModel) -> torch.Tensor:
    """Vary a stance by as much as people move between pictures."""
    names = model.skeleton.names[1 : model.body_joints]
    loose = [any(part in name for part in ("shoulder", "elbow", "wrist", "head", "neck")) for name in names]
    deviation = np.where(loose, _SWAY_ARMS, _SWAY)[:, None]
    return stance + torch.tensor(deviation * rng.standard_normal(stance.shape), dtype=stance.dtype)


def _placed(
    model: bodyfit.BodyModel,
    betas: torch.Tensor,
    pose: torch.Tensor,
    yaw: float,
    distance_m: float,
    level_m: float,
    pitch: float,
) -> bodyfit.BodyParams:
    """Place a body before a camera that is `level_m` above its soles and looks level but for a pitch."""
    flip, turn, tilt = (
        roma.rotvec_to_rotmat(torch.tensor(v)) for v in ([math.pi, 0.0, 0.0], [0.0, yaw, 0.0], [pitch, 0.0, 0.0])
    )
    orient = roma.rotmat_to_rotvec(tilt @ flip @ turn)
    params = model.params(betas=betas[None], body_pose=pose.flatten()[None], global_orient=orient[None])
    with torch.no_grad():
        vertices = model(**params).vertices[0]
    middle = (vertices.amin(0) + vertices.amax(0)) / 2
    height = float(vertices[:, 1].amax() - vertices[:, 1].amin())
    lower = float(np.clip(level_m - height / 2, -0.12, 0.12)) * distance_m / 4
    at = torch.tensor([0.0, lower, distance_m]) - middle
    return model.params(**{**params, "transl": at[None]})


def _boxed(silhouette: np.ndarray) -> SoftMask:
    """Cut a silhouette to its box."""
    rows, columns = np.nonzero(silhouette.any(1))[0], np.nonzero(silhouette.any(0))[0]
    part = silhouette[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return SoftMask(np.where(part > 0, 255, 0).astype(np.uint8), (int(columns[0]), int(rows[0])))
