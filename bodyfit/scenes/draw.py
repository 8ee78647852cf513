"""Draw a scene: people on a floor before a background, lit by it, and what each pixel shows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bodyfit.appearance.binding import joint_names
from bodyfit.appearance.catalogue import KINDS, piece_arrays
from bodyfit.appearance.dress import dress
from bodyfit.appearance.dressed import DressedPerson
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.geometry.camera import Camera
from bodyfit.render.color import to_srgb
from bodyfit.render.dressed import DressedPicture, render_dressed
from bodyfit.scenes.backdrop import backdrop, shadowed
from bodyfit.scenes.normals import pixel_normals
from bodyfit.scenes.sample import Scene, scene_model

__all__ = ["GARMENTS", "SceneDrawing", "draw_scene", "part_names"]

GARMENTS = ("skin", *KINDS)
"""What the garment map's values 1 and on stand for."""
_TINTED, _DIMMED = 0.35, 0.35
"""How far people take on the background's colour and brightness."""
_USUAL = 0.30
"""The background's mean light that people are drawn for."""


@dataclass(frozen=True, eq=False)
class SceneDrawing:
    """A picture and its maps, all of the picture's size."""

    picture: UInt8[np.ndarray, "S S 3"]
    """RGB."""
    person: Int[np.ndarray, "S S"]
    """Who, from 0; -1 for nobody."""
    garments: UInt8[np.ndarray, "S S"]
    """1 and on: `GARMENTS`; 0 for nobody."""
    parts: UInt8[np.ndarray, "S S"]
    """1 and on: the body's part (`part_names`), of clothes the part that they go with most; 0 for nobody."""
    depth_m: Float[np.ndarray, "S S"]
    """Of people, along the optical axis, metres; infinite elsewhere."""
    normals: Float[np.ndarray, "S S 3"]
    """Of people, outward, camera axes; 0 elsewhere."""
    camera: Camera
    """One camera."""
    bodies_cam: tuple[Float[Tensor, "V 3"], ...]
    """Each person's body in camera axes, metres."""
    joints_cam: tuple[Float[Tensor, "J 3"], ...]
    """And its joints."""


def draw_scene(scene: Scene, model: str = "open-x", backgrounds: Path | None = None) -> SceneDrawing:
    """Draw a scene of bodies of a model. Raises `OptionError` and `ImageError`."""
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
    normals = np.zeros((scene.size, scene.size, 3), np.float32)
    if layer is not None:
        normals = pixel_normals(layer, people, scene.focal_px, scene.size)
    return SceneDrawing(picture, *_maps(scene.size, layer, people), normals, camera, tuple(bodies), tuple(joints))


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


def _maps(
    size: int, layer: DressedPicture | None, people: list[DressedPerson]
) -> tuple[Int[np.ndarray, "S S"], UInt8[np.ndarray, "S S"], UInt8[np.ndarray, "S S"], Float[np.ndarray, "S S"]]:
    """Person, garment, part and depth of each pixel."""
    person = np.full((size, size), -1, np.int32)
    garments, parts = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    depth = np.full((size, size), np.inf, np.float32)
    if layer is None:
        return person, garments, parts, depth
    x, y = layer.corner_px
    h, w = layer.person.shape
    box = (slice(y, y + h), slice(x, x + w))
    person[box], depth[box] = layer.person, layer.depth_m
    kinds = np.array([GARMENTS.index(kind) + 1 for _, kind, _ in layer.surfaces], np.uint8)
    visible = layer.surface >= 0
    garments[box] = np.where(visible, kinds[layer.surface], 0)
    own = parts[box]
    for number, (who, kind, name) in enumerate(layer.surfaces):
        mine = layer.surface == number
        if mine.any():
            surface = next(s for s in people[who].surfaces() if (s.kind, s.name) == (kind, name))
            own[mine] = _vertex_parts(kind, name)[surface.faces[layer.face[mine], 0]] + 1
    return person, garments, parts, depth


@lru_cache(maxsize=1)
def _skin_parts() -> Int[np.ndarray, "V"]:
    return read_archive(asset_path("body", "open.npz"))["part_labels"].astype(np.int64)


@lru_cache(maxsize=64)
def _vertex_parts(kind: str, name: str) -> Int[np.ndarray, "V"]:
    """The part of each vertex of a surface."""
    if kind == "skin":
        return _skin_parts()
    return _part_of_joint()[piece_arrays(name).weights.argmax(1)]


@lru_cache(maxsize=1)
def part_names() -> tuple[str, ...]:
    """What the part map's values 1 and on stand for: SMPL's 24 joints."""
    return tuple(str(name) for name in read_archive(asset_path("body", "open.npz"))["part_names"])


@lru_cache(maxsize=1)
def _part_of_joint() -> Int[np.ndarray, "55"]:
    """The part that each joint of the largest layout moves."""
    names = part_names()
    out = []
    for joint in joint_names()[:55]:
        side, _, rest = joint.partition("_")
        if joint in names:
            out.append(names.index(joint))
        elif side in ("left", "right") and "eye" not in joint:
            out.append(names.index(f"{side}_wrist" if "thumb" in rest else f"{side}_hand"))
        else:
            out.append(names.index("head"))
    return np.array(out)
