"""Draw a scene: people and things on a floor before a background, lit by it, and what each pixel shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bodyfit.appearance.dress import dress
from bodyfit.appearance.dressed import DressedPerson
from bodyfit.geometry.camera import Camera
from bodyfit.render.dressed import render_dressed
from bodyfit.render.environment import EnvironmentLight
from bodyfit.scenes.backdrop import Painter
from bodyfit.scenes.compose import cut_out, photograph
from bodyfit.scenes.ground import FloorGrid, FloorView
from bodyfit.scenes.lighting import scene_light
from bodyfit.scenes.maps import PixelMaps, pixel_maps
from bodyfit.scenes.sample import Scene, scene_model

__all__ = ["Place", "SceneDrawing", "draw_scene"]


@dataclass(frozen=True, eq=False)
class SceneDrawing(PixelMaps):
    """A picture and its maps, all of the picture's size."""

    picture: UInt8[np.ndarray, "S S C"]
    """RGB, or RGBA without a background."""
    camera: Camera
    """One camera, without the lens's distortion."""
    bodies_cam: tuple[Float[Tensor, "V 3"], ...]
    """Each person's body in camera axes, metres."""
    joints_cam: tuple[Float[Tensor, "J 3"], ...]
    """And its joints."""


@dataclass(frozen=True, eq=False)
class Place:
    """What all pictures of a clip have in common."""

    painter: Painter
    """Background and exposure."""
    light: EnvironmentLight
    """In the world's axes."""

    @classmethod
    def of(cls, first: Scene, backgrounds: Path | None) -> Place:
        """The place of a clip's first scene. Raises `OptionError` and `ImageError`."""
        behind, exposure = Painter(first, backgrounds).paint(first, FloorView.of(first))
        light = scene_light(first, behind).turned(first.R_cam_world.double().numpy().T)
        return cls(Painter(first, backgrounds, exposure), light)


def draw_scene(
    scene: Scene,
    model: str = "open-x",
    backgrounds: Path | None = None,
    *,
    transparent: bool = False,
    normals: bool = True,
    place: Place | None = None,
) -> SceneDrawing:
    """Draw a scene of bodies of a model; without `normals` these are 0. Raises `OptionError` and `ImageError`.

    place: where it is, for one of several pictures of one place; `backgrounds` is not looked at then.
    """
    R, t = scene.R_cam_world, scene.t_cam_world_m
    worn, joints = _dressed(scene, model)
    people = [person.turned(R, t) for person in worn]
    things = [thing.surface(R, t) for thing in scene.things]
    camera = Camera.make(1, (scene.size, scene.size), focal_px=scene.focal_px)
    view = FloorView.of(scene)
    rows, up = R.double().numpy(), R[:, 1].double().numpy()
    if place is None:
        behind, _ = Painter(scene, backgrounds).paint(scene, view)
        light = scene_light(scene, behind)
    else:
        behind, _ = place.painter.paint(scene, view)
        light = place.light.turned(rows)
    grid = FloorGrid.below(_corners(scene, worn), light.towards @ rows)
    layer = render_dressed(
        people,
        camera,
        things=things,
        light=light,
        ground=(grid.points() @ rows.T + t.double().numpy()).astype(np.float32),
        up=up.astype(np.float32),
        lens=scene.camera.lens,
    )
    if transparent:
        picture = cut_out(scene, layer)
    else:
        shadow = np.ones((scene.size, scene.size), np.float32)
        if layer is not None and layer.ground is not None:
            shadow = grid.shadow(layer.ground, light, up, view, scene.size)
        picture = photograph(scene, behind, shadow, layer)
    maps = pixel_maps(scene.size, layer, normals=normals)
    bodies = tuple(person.skin.vertices for person in people)
    return SceneDrawing(**vars(maps), picture=picture, camera=camera, bodies_cam=bodies, joints_cam=joints)


def _dressed(scene: Scene, model: str) -> tuple[list[DressedPerson], tuple[Float[Tensor, "J 3"], ...]]:
    """People in the world, dressed, and their joints in camera axes."""
    people, joints = [], []
    for person in scene.people:
        body = scene_model(model, person.gender)
        people.append(dress(person.params, model=body, outfit=person.outfit)[0])
        with torch.no_grad():
            joints.append(body.joints(person.params)[0] @ scene.R_cam_world.T + scene.t_cam_world_m)
    return people, tuple(joints)


def _corners(scene: Scene, people: list[DressedPerson]) -> Float[np.ndarray, "N 3"]:
    """Corners of boxes around all that throws shadows, world."""
    boxes = [(one.skin.vertices.amin(0).double().numpy(), one.skin.vertices.amax(0).double().numpy()) for one in people]
    reach = [np.abs(thing.axes.T) @ thing.half_m for thing in scene.things]
    boxes += [(one.middle_m - r, one.middle_m + r) for one, r in zip(scene.things, reach, strict=True)]
    corners = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3)
    return np.concatenate([low + corners * (high - low) for low, high in boxes])
