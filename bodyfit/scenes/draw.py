"""Draw a scene: people on a floor before a background, lit by it, and what each pixel shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bodyfit.appearance.dress import dress
from bodyfit.appearance.dressed import DressedPerson
from bodyfit.geometry.camera import Camera
from bodyfit.render.color import to_srgb
from bodyfit.render.dressed import DressedPicture, render_dressed
from bodyfit.scenes.backdrop import backdrop, shadowed
from bodyfit.scenes.maps import PixelMaps, pixel_maps
from bodyfit.scenes.sample import Scene, scene_model

__all__ = ["SceneDrawing", "draw_scene"]

_TINTED, _DIMMED = 0.35, 0.35
"""How far people take on the background's colour and brightness."""
_USUAL = 0.30
"""The background's mean light that people are drawn for."""


@dataclass(frozen=True, eq=False)
class SceneDrawing(PixelMaps):
    """A picture and its maps, all of the picture's size."""

    picture: UInt8[np.ndarray, "S S 3"]
    """RGB."""
    camera: Camera
    """One camera."""
    bodies_cam: tuple[Float[Tensor, "V 3"], ...]
    """Each person's body in camera axes, metres."""
    joints_cam: tuple[Float[Tensor, "J 3"], ...]
    """And its joints."""


def draw_scene(
    scene: Scene, model: str = "open-x", backgrounds: Path | None = None, *, normals: bool = True
) -> SceneDrawing:
    """Draw a scene of bodies of a model; without `normals` these are 0. Raises `OptionError` and `ImageError`."""
    people, bodies, joints, clothes = [], [], [], []
    R, t = scene.R_cam_world, scene.t_cam_world_m
    for person in scene.people:
        body = scene_model(model, person.gender)
        dressed = dress(person.params, model=body, outfit=person.outfit)[0]
        clothes.append(dressed)
        people.append(dressed.turned(R, t))
        with torch.no_grad():
            posed = body(**person.params)
        bodies.append(posed.vertices[0] @ R.T + t)
        joints.append(posed.joints[0] @ R.T + t)
    camera = Camera.make(1, (scene.size, scene.size), focal_px=scene.focal_px)
    layer = render_dressed(people, camera)
    behind = backdrop(scene, backgrounds)
    points, faces = _occluders(clothes)
    behind = behind * shadowed(scene, points, faces)[..., None]
    picture = _composed(scene, behind, layer)
    maps = pixel_maps(scene.size, layer, normals=normals)
    return SceneDrawing(
        **vars(maps), picture=picture, camera=camera, bodies_cam=tuple(bodies), joints_cam=tuple(joints)
    )


def _occluders(people: list[DressedPerson]) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """The coarse faces of all that is worn, in the world."""
    points, faces, start = [], [], 0
    for one in (surface for person in people for surface in person.surfaces()):
        own = one.faces if one.coarse_faces is None else one.coarse_faces
        used, corners = np.unique(own, return_inverse=True)
        points.append(one.vertices.numpy()[used])
        faces.append(corners.reshape(-1, 3) + start)
        start += len(used)
    return np.concatenate(points).astype(np.float32), np.concatenate(faces)


def _composed(
    scene: Scene, behind: Float[np.ndarray, "S S 3"], layer: DressedPicture | None
) -> UInt8[np.ndarray, "S S 3"]:
    """People over the background, with its tint, the sensor's noise and the lens's softness."""
    rng = np.random.default_rng([*scene.seed, 2])
    mean = behind.reshape(-1, 3).mean(0)
    level = float(mean.mean())
    light = (mean / level) ** _TINTED * np.clip(level / _USUAL, 0.3, 2.0) ** _DIMMED
    picture = to_srgb(behind).astype(np.float32)
    if layer is not None:
        rgba = layer.rgba.copy()
        rgba[..., :3] = np.minimum(rgba[..., :3] * light.astype(np.float32) ** (1 / 2.2), rgba[..., 3:])
        x, y = layer.corner_px
        h, w = rgba.shape[:2]
        picture[y : y + h, x : x + w] *= 1 - rgba[..., 3:]
        picture[y : y + h, x : x + w] += rgba[..., :3]
    softness = abs(rng.normal(0, 0.4)) * scene.size / 512
    if softness > 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), softness)
    picture += rng.uniform(0, 0.025) * rng.standard_normal(picture.shape, np.float32)
    return (255 * np.clip(picture * rng.uniform(0.85, 1.15), 0, 1) + 0.5).astype(np.uint8)
