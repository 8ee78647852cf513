"""Draw a scene by compositional feature fields in place of clothes: people of random looks, one network's picture."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from bodyfit.errors import OptionError
from bodyfit.fields.compositional import BodyField, FieldCamera, FieldScene, FieldSet, draw_fields, load_fields
from bodyfit.geometry.camera import Camera
from bodyfit.scenes.draw import SceneDrawing
from bodyfit.scenes.sample import Scene, scene_model

__all__ = ["FIELD_LABELS", "draw_field_scene"]

FIELD_LABELS = ("masks", "depth", "depth_npy")
"""Maps that fields have: there are no garments in them."""
_MOST_PX = 256
"""Larger pictures are drawn at this size and enlarged: they have no finer detail."""


def draw_field_scene(scene: Scene, model: str = "open-x", fields: FieldSet | None = None) -> SceneDrawing:
    """Draw the bodies and camera of a scene by fields, with looks and a background drawn from its seed.

    Maps of garments, parts and normals are empty. Raises `OptionError` and `AssetError`.
    """
    fields = load_fields() if fields is None else fields
    drawn_px = min(scene.size, _MOST_PX)
    if scene.size % fields.network.config.upsampling:
        raise OptionError(f"size must be a multiple of {fields.network.config.upsampling} for fields, got {scene.size}")
    seed = int(np.random.default_rng([*scene.seed, 5]).integers(2**31))
    looks = fields.random_appearances(len(scene.people), seed)
    R, t = scene.R_cam_world.double().numpy(), scene.t_cam_world_m.double().numpy()
    objects, bodies, joints = [], [], []
    for person, look in zip(scene.people, looks, strict=True):
        body = scene_model(model, person.gender)
        objects.append(BodyField(person.params, body, look))
        with torch.no_grad():
            posed = body(**person.params)
        bodies.append(posed.vertices[0] @ scene.R_cam_world.T + scene.t_cam_world_m)
        joints.append(posed.joints[0] @ scene.R_cam_world.T + scene.t_cam_world_m)
    camera = FieldCamera(scene.focal_px * drawn_px / scene.size, R, t, drawn_px)
    drawing = draw_fields(FieldScene(tuple(objects), fields.random_backgrounds(1, seed)[0], camera), fields)
    size = (scene.size, scene.size)
    picture = drawing.picture
    if drawn_px != scene.size:
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    return SceneDrawing(
        person=cv2.resize(drawing.person.astype(np.int32), size, interpolation=cv2.INTER_NEAREST),
        garments=np.zeros(size, np.uint8),
        parts=np.zeros(size, np.uint8),
        depth_m=cv2.resize(drawing.depth_m, size, interpolation=cv2.INTER_NEAREST),
        normals=np.zeros((*size, 3), np.float32),
        picture=picture,
        camera=Camera.make(1, size, focal_px=scene.focal_px),
        bodies_cam=tuple(bodies),
        joints_cam=tuple(joints),
    )
