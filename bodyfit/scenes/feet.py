"""Which parts of the feet touch the floor."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.body.model import BodyModel
from bodyfit.scenes.draw import SceneDrawing
from bodyfit.scenes.sample import Scene, scene_model

__all__ = ["CONTACT_M", "FEET", "foot_contact", "foot_heights_m"]

FEET = ("left_heel", "right_heel", "left_toes", "right_toes")
CONTACT_M = 0.03
"""A part of a foot touches the floor if its lowest point, or the sole below it, is no higher than this."""


def foot_heights_m(scene: Scene, drawing: SceneDrawing, model: str) -> Float[np.ndarray, "N 4"]:
    """How high the lowest point of each of `FEET` is over the floor, metres, bare skin; a row a person."""
    out = []
    for person, points in zip(scene.people, drawing.bodies_cam, strict=True):
        heights = ((points - scene.t_cam_world_m) @ scene.R_cam_world[:, 1]).numpy()
        out.append([float(heights[rows].min()) for rows in _rows(scene_model(model, person.gender))])
    return np.array(out)


def foot_contact(scene: Scene, heights_m: Float[np.ndarray, "N 4"]) -> Bool[np.ndarray, "N 4"]:
    """Which of `FEET` touch the floor, in shoes where people have them on."""
    soles = np.array([[person.sole_m] for person in scene.people])
    return heights_m - soles <= CONTACT_M


@lru_cache(maxsize=4)
def _rows(body: BodyModel) -> list[Int[np.ndarray, "_"]]:
    """The vertices of each of `FEET`: what the ankles move behind themselves, and what the feet's joints move."""
    archive = read_archive(asset_path("body", "open.npz"))
    labels, names = archive["part_labels"], [str(name) for name in archive["part_names"]]
    behind = body.v_template[:, 2].numpy()
    rest = body.rest_joints(torch.zeros(1, body.num_betas).to(body.v_template))[0, :, 2]
    out = []
    for part in ("ankle", "foot"):
        for side in ("left", "right"):
            number = names.index(f"{side}_{part}")
            mine = labels == number
            if part == "ankle":
                mine &= behind < float(rest[body.skeleton.index(f"{side}_ankle")])
            out.append(np.flatnonzero(mine))
    return out
