"""Labels that tools read: COCO-WholeBody's keypoints and masks, SMPL parameters, and the camera."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.params import BodyOutput
from bodyfit.geometry.rotation import so3_exp, so3_log
from bodyfit.scenes.draw import SceneDrawing
from bodyfit.scenes.feet import FEET, foot_contact, foot_heights_m
from bodyfit.scenes.sample import Scene, scene_model

__all__ = ["body_arrays", "coco_records", "in_camera", "keypoint_arrays", "person_boxes", "run_lengths"]

LAYOUT = "wholebody133"
_PARTS = {"keypoints": (0, 17), "foot_kpts": (17, 23), "face_kpts": (23, 91)}
_PARTS |= {"lefthand_kpts": (91, 112), "righthand_kpts": (112, 133)}
"""COCO-WholeBody's names and rows."""
_INSIDE_M = 0.11
"""A joint counts as visible if the person is drawn before it by no more than this: the flesh around it."""
_COCO_SHIFT_PX = 0.5
"""COCO counts from the middle of the first pixel, everything else here from its corner."""
_NEAR_M = 0.1
"""What is nearer to the camera, or behind it, is in no box."""
_LEAST_PX = 16
"""Fewest visible pixels of a person who is annotated."""


def coco_records(scene: Scene, drawing: SceneDrawing, model: str, image_id: int) -> list[dict[str, Any]]:
    """COCO's records of those who are visible: box, mask (run lengths), keypoints, their places in 3D, feet's contact.

    Keypoints count pixels as COCO does, the middle of the first at 0. visibility: 2 visible, 1 in the picture but
    hidden, 0 outside it or unknown. "keypoints_cam_m" are all 133, camera axes. "amodal_bbox" is that of the whole
    body, hidden or not, and may reach beyond the picture. Numbers of people are those of the mask; ids are unique in a
    set, and at least 1, for pycocotools takes 0 for no match.
    """
    out = []
    touching = foot_contact(scene, foot_heights_m(scene, drawing, model))
    for number in range(len(scene.people)):
        mask = drawing.person == number
        if mask.sum() < _LEAST_PX:
            continue
        xy, visible, cam = _keypoints(scene, drawing, model, number, LAYOUT)
        body = drawing.bodies_cam[number].double().numpy()
        whole = scene.camera.project(body[body[:, 2] > _NEAR_M])
        box = _box(mask)
        record: dict[str, Any] = {
            "id": image_id * 100 + number + 1,
            "image_id": image_id,
            "category_id": 1,
            "iscrowd": 0,
        }
        record |= {"person": number, "bbox": box, "area": int(mask.sum()), "segmentation": run_lengths(mask)}
        low, high = whole.min(0), whole.max(0)
        record["amodal_bbox"] = [round(float(value), 2) for value in (*low, *(high - low))]
        flat = np.where(visible[:, None] > 0, np.c_[np.nan_to_num(xy) - _COCO_SHIFT_PX, visible], 0.0).round(2)
        for name, (first, stop) in _PARTS.items():
            record[name] = flat[first:stop].ravel().tolist()
            if name != "keypoints":
                record[name.replace("kpts", "valid")] = bool((visible[first:stop] > 0).any())
        record["num_keypoints"] = int((visible[:17] > 0).sum())
        record["keypoints_cam_m"] = [[round(float(c), 4) if np.isfinite(c) else None for c in row] for row in cam]
        record["foot_contact"] = dict(zip(FEET, touching[number].tolist(), strict=True))
        out.append(record)
    return out


def person_boxes(drawing: SceneDrawing, people: int) -> Int[np.ndarray, "N 4"]:
    """Column, row, width and height of what is visible of each person, pixels; 0 of nobody."""
    return np.array([_box(drawing.person == number) for number in range(people)])


def _box(mask: Bool[np.ndarray, "H W"]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(np.ptp(columns) + 1), int(np.ptp(rows) + 1)]


def keypoint_arrays(
    scene: Scene, drawing: SceneDrawing, model: str, layouts: tuple[str, ...]
) -> dict[str, Float[np.ndarray, "N K C"]]:
    """Keypoints of everyone, a row each, by the name of their layout.

    (N, K, 3) x px, y px (0 at the picture's edge, the middle of the first pixel at 0.5) and visibility as in
    `coco_records`, where 0 has no place; and as "<layout>_cam_m" (N, K, 3) camera axes, metres. NaN where the body has
    no such point.
    """
    arrays = {}
    for layout in layouts:
        rows = [_keypoints(scene, drawing, model, number, layout) for number in range(len(scene.people))]
        arrays[layout] = np.stack([np.c_[xy, visible] for xy, visible, _ in rows]).astype(np.float32)
        arrays[f"{layout}_cam_m"] = np.stack([cam for _, _, cam in rows]).astype(np.float32)
    return arrays


def _keypoints(
    scene: Scene, drawing: SceneDrawing, model: str, number: int, layout: str
) -> tuple[Float[np.ndarray, "K 2"], Int[np.ndarray, "K"], Float[np.ndarray, "K 3"]]:
    """One person's keypoints in the picture (pixels), COCO's visibility, and in camera axes (metres)."""
    body = BodyOutput(drawing.bodies_cam[number][None], drawing.joints_cam[number][None])
    points = scene_model(model, scene.people[number].gender).keypoints(body, layout)
    cam = points[0].double().numpy()
    xy = scene.camera.project(cam)
    return xy, _visibility(drawing, number, xy, cam[:, 2]), cam


def _visibility(
    drawing: SceneDrawing,
    number: int,
    xy: Float[np.ndarray, "K 2"],
    depth: Float[np.ndarray, "K"],
) -> Int[np.ndarray, "K"]:
    """COCO's flag of each point: hidden where somebody else or a thing, or well before it the own body, is drawn."""
    size = len(drawing.person)
    inside = np.isfinite(xy).all(1) & (depth > 0)
    at = np.where(inside[:, None], np.nan_to_num(xy), -1.0)
    inside &= ((at >= 0) & (at < size)).all(1)
    x, y = np.clip(at.astype(int), 0, size - 1).T
    before = drawing.depth_m[y, x]
    flesh = np.where(drawing.person[y, x] == number, _INSIDE_M, 0.0)
    hidden = before < depth - flesh
    return np.where(inside, np.where(hidden, 1, 2), 0)


def run_lengths(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """COCO's uncompressed run lengths: column by column, zeros first."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.r_[0, ends, flat.size])
    counts = ([0] if flat[0] else []) + runs.tolist()
    return {"size": list(mask.shape), "counts": counts}


def body_arrays(scene: Scene, drawing: SceneDrawing, model: str) -> dict[str, np.ndarray]:
    """SMPL's parameters of everyone, a row each, in the camera's and in the world's axes, and the camera.

    Names are those of AMASS where it has them; a body in camera axes has `global_orient` and `trans`, in the world's (y
    up, floor at 0) `global_orient_world` and `trans_world`; x_cam = R x_world + t. distortion: OpenCV's k1, k2, p1, p2,
    k3. `foot_height_m` (N, 4) says how high the lowest points of heels and toes are (`foot_names`), bare skin, and
    `foot_contact` which touch the floor, in shoes if there are any.
    """
    people: dict[str, list[np.ndarray]] = {}
    R, t = scene.R_cam_world.double(), scene.t_cam_world_m.double()
    bodies = [scene_model(model, person.gender) for person in scene.people]
    roots = [body.rest_joints(one.params.betas)[:, 0] for body, one in zip(bodies, scene.people, strict=True)]
    world = ([getattr(one.params, name) for one in scene.people] for name in ("global_orient", "transl"))
    orient, transl, root = (torch.cat(rows).double() for rows in (*world, roots))
    there = in_camera(orient, transl, root, R[None], t[None])
    for body, person, turned, moved in zip(bodies, scene.people, *(x[:, None] for x in there), strict=True):
        params = person.params
        values: dict[str, Tensor] = {"trans_world": params.transl, "global_orient_world": params.global_orient}
        values |= {"trans": moved, "global_orient": turned}
        values |= {name: value for name, value in params.items() if name not in ("transl", "global_orient")}
        values["poses"] = body.full_pose(params).flatten(1)
        values["poses"] = torch.cat([turned.float(), values["poses"][:, 3:]], 1)
        for name, value in values.items():
            people.setdefault(name, []).append(value.detach().numpy().astype(np.float32))
    arrays = {name: np.concatenate(rows) for name, rows in people.items()}
    K = np.array([[scene.focal_px, 0, scene.size / 2], [0, scene.focal_px, scene.size / 2], [0, 0, 1]])
    lens = scene.camera.lens
    distortion = np.zeros(5) if lens is None else np.array([lens.k1, lens.k2, 0, 0, 0])
    arrays |= {"K": K, "distortion": distortion, "R_cam_world": R.numpy(), "t_cam_world_m": t.numpy()}
    arrays |= {"gender": np.array([person.gender for person in scene.people]), "model": np.array(model)}
    heights = foot_heights_m(scene, drawing, model)
    arrays |= {"foot_height_m": heights.astype(np.float32), "foot_contact": foot_contact(scene, heights)}
    arrays |= {"foot_names": np.array(FEET)}
    return arrays | {"axes": np.array("camera: x right, y down, z forward; world: y up, floor at y = 0")}


def in_camera(
    orient: Float[Tensor, "B 3"],
    transl: Float[Tensor, "B 3"],
    root: Float[Tensor, "B 3"],
    R: Float[Tensor, "#B 3 3"],
    t: Float[Tensor, "#B 3"],
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3"]]:
    """Root orientation and translation in the axes x_cam = R x + t; the root turns about its rest position `root`."""
    return so3_log(R @ so3_exp(orient)), (R @ (root + transl)[..., None])[..., 0] + t - root
