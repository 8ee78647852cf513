"""Pictures of open-x bodies whose hands and faces are known, for the detector to look at.

Skins are photographed ones where a folder of them is given, else an even tone; eyes, brows, lashes and lips are painted
on, for the body has none of its own. A picture is made of its random numbers alone.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import roma
import torch
from torch import Tensor

from bodyfit import render
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.points.face import face_entries
from bodyfit.body.points.posed import VertexSum
from bodyfit.geometry.camera import Camera
from bodyfit.skeleton import hand_entries
from scripts.bench.inputs.quality_pictures import _background, _developed

__all__ = ["Skins", "draw_people", "portraits", "visible_hands"]

_TEXTURE_PX, _EYE_PX = 1024, 256
_IRIS_DEG, _PUPIL_DEG = 21.5, 8.0
_BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))
_LASHES = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (263, 466, 388, 387, 386, 385, 384, 398, 362))
_UPPER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78)
_LOWER_LIP = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 78)
_HIDDEN_M = 0.1
"""A point that is so much behind the surface in the picture is hidden by more than its own hand."""
_VISIBLE_SHARE = 0.8
_HAIRY = 0.9
_PORTRAIT_PX, _PORTRAIT_FOCAL_PX, _FACE_PX, _FACE_M = 1200, 2000.0, 300.0, 0.2


class Skins:
    """Makes textures of a body with eyes."""

    def __init__(self, model: BodyModel, folder: Path | None = None) -> None:
        """`folder`: skin textures for the body's own coordinates, in folders of their own; none for plain tones."""
        self.files = [] if folder is None else sorted(p for e in ("png", "jpg", "webp") for p in folder.rglob(f"*.{e}"))
        assert model.uv is not None
        assert model.uv_faces is not None
        uv, uv_faces = np.asarray(model.uv, np.float64), np.asarray(model.uv_faces)
        faces = model.faces.numpy()
        self._at = np.zeros((len(model.v_template), 2))
        self._at[faces.ravel()] = uv[uv_faces.ravel()] * (1, -1) + (0, 1)
        self._entries = face_entries(model, 468)
        self._scalp = _scalp(model, uv, uv_faces, faces)
        self.uv, self.uv_faces = _with_eyes(model, uv, uv_faces, faces)

    def paint(self, rng: np.random.Generator) -> render.Texture:
        """Make a skin with eyes on its right."""
        n = _TEXTURE_PX
        if self.files:
            skin = cv2.imread(str(self.files[rng.integers(len(self.files))]))[..., 2::-1]
            image = cv2.resize(np.ascontiguousarray(skin), (n, n), interpolation=cv2.INTER_AREA)
        else:
            tone = rng.uniform(0.35, 1.0) * np.array([230.0, 180.0, 150.0])
            grain = cv2.resize(rng.uniform(0.93, 1.07, (n // 8, n // 8)), (n, n), interpolation=cv2.INTER_CUBIC)
            image = (tone * grain[..., None]).clip(0, 255).astype(np.uint8)
            for lip in (_UPPER_LIP, _LOWER_LIP):
                self._shade(image, [lip], np.array([0.85, 0.55, 0.55]))
        hair = rng.uniform(0.08, 0.9) * np.array([150.0, 115.0, 80.0])
        hairy = hair * rng.uniform(0.7, 1.3, (n, n // 16)).repeat(16, 1)[..., None]
        if rng.random() < _HAIRY:
            image = np.where(self._scalp[..., None], hairy, image).clip(0, 255).astype(np.uint8)
        self._shade(image, _BROWS, np.full(3, rng.uniform(0.2, 0.6)))
        for lash in _LASHES:
            line = (self._corners(lash) * 16).round().astype(np.int32)
            cv2.polylines(image, [line], False, (30, 22, 20), 2, cv2.LINE_AA, 4)
        eye = np.zeros((n, _EYE_PX, 3), np.uint8)
        eye[:_EYE_PX] = _eye(rng)
        return render.Texture(np.concatenate([image, eye], 1), self.uv, self.uv_faces)

    def _corners(self, points: tuple[int, ...]) -> np.ndarray:
        """(N, 2) pixels of points of a face in the texture."""
        entries = [self._entries[i] for i in points]
        return np.array(
            [np.dot(e.weights, self._at[list(e.vertices)]) for e in entries if isinstance(e, VertexSum)]
        ) * (_TEXTURE_PX)

    def _shade(self, image: np.ndarray, regions: tuple | list, factor: np.ndarray) -> None:
        """Multiply regions of the texture by a colour, with soft edges."""
        mask = np.zeros(image.shape[:2], np.uint8)
        for region in regions:
            cv2.fillPoly(mask, [self._corners(region).round().astype(np.int32)], 255)
        soft = cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None] / 255.0
        image[:] = (image * (1 - soft * (1 - factor))).astype(np.uint8)


def _scalp(model: BodyModel, uv: np.ndarray, uv_faces: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Mask of the hair in the texture."""
    head = model.weights[:, model.skeleton.index("head")].numpy() > 0.5
    rest = model.v_template.numpy()
    top, front = rest[head, 1].max(), rest[head, 2].max()
    # The hairline runs from above the forehead down before the ears.
    line = top - 0.055 - 0.9 * (front - 0.045 - rest[:, 2]).clip(0, 0.16)
    hairy = head & (rest[:, 1] > line)
    mask = np.zeros((_TEXTURE_PX, _TEXTURE_PX), np.uint8)
    corners = (uv * (1, -1) + (0, 1))[uv_faces[hairy[faces].all(1)]] * _TEXTURE_PX
    cv2.fillPoly(mask, list(corners.round().astype(np.int32)), 255)
    return cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0


def _with_eyes(
    model: BodyModel, uv: np.ndarray, uv_faces: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates in which eyeballs have a tile of their own, right of the skin: by the angle from the gaze."""
    width = 1 + _EYE_PX / _TEXTURE_PX
    uv, uv_faces = uv / (width, 1), uv_faces.copy()
    rest, joints = model.v_template.numpy(), model().joints[0].numpy()
    weights = model.weights.numpy()
    for name in ("left_eye_smplhf", "right_eye_smplhf"):
        eye = model.skeleton.index(name)
        rows = np.flatnonzero((weights[faces, eye] > 0.5).all(1))
        corners = rest[faces[rows]] - joints[eye]
        corners /= np.linalg.norm(corners, axis=2, keepdims=True)
        angle = np.arccos(corners[..., 2].clip(-1, 1)) / math.pi
        about = corners[..., :2] / np.linalg.norm(corners[..., :2], axis=2, keepdims=True).clip(1e-9)
        tile = 0.5 + 0.49 * angle[..., None] * about
        own = np.array([1.0, 1 - _EYE_PX / _TEXTURE_PX]) + tile * (_EYE_PX / _TEXTURE_PX)
        uv_faces[rows] = len(uv) + np.arange(3 * len(rows)).reshape(-1, 3)
        uv = np.concatenate([uv, own.reshape(-1, 2) / (width, 1)])
    return uv, uv_faces


def _eye(rng: np.random.Generator) -> np.ndarray:
    """An eyeball's colours by the angle from the gaze, which is the middle; 180 degrees are 0.49 of the side."""
    y, x = np.mgrid[:_EYE_PX, :_EYE_PX] / _EYE_PX - 0.5
    angle = np.hypot(x, y) / 0.49 * 180
    tone = rng.uniform(0.25, 1.0) * np.array([[90.0, 60.0, 40.0], [80.0, 110.0, 140.0], [90.0, 120.0, 80.0]])
    iris = tone[rng.integers(3)] * (0.8 + 0.3 * np.sin(7 * np.arctan2(y, x))[..., None] ** 2)
    iris = np.where(angle[..., None] > 0.85 * _IRIS_DEG, 0.5 * iris, iris)
    image = np.where(angle[..., None] < _IRIS_DEG, iris, np.array([225.0, 220.0, 215.0]))
    image = np.where(angle[..., None] < _PUPIL_DEG, 15.0, image)
    return cv2.GaussianBlur(image, (0, 0), 0.7).clip(0, 255).astype(np.uint8)


def draw_people(
    model: BodyModel,
    params: BodyParams,
    camera: Camera,
    skins: Skins,
    rng: np.random.Generator,
    *,
    shadows: bool = True,
) -> list[np.ndarray]:
    """Draw each person in a picture of its own, before a made-up background.

    Without shadows the inside of a mouth is red; with them it is black, for the body has no teeth, and a network takes
    it for a beard.
    """
    pictures = []
    vertices = model(**params).vertices
    for i in range(params.batch):
        image = _background(rng, *camera.image_size)
        image = render.overlay(
            image, [(vertices[i], skins.paint(rng))], model.faces, camera.select([i]), opacity=1.0, shadows=shadows
        )
        pictures.append(_developed(rng, image, "whole"))
    return pictures


def portraits(
    model: BodyModel, count: int, rng: np.random.Generator, *, jaw: float = 0.4, expression: float = 1.0
) -> tuple[BodyParams, Camera]:
    """Make people whose faces are about 300 px high and turned by up to 45 degrees, arms hanging.

    jaw: the widest opening, radians. expression: the deviation of its coefficients.
    """
    pose = np.zeros((count, len(model.skeleton.names[: model.body_joints]) - 1, 3))
    names = model.skeleton.names
    for side, sign in (("left", -1), ("right", 1)):
        pose[:, names.index(f"{side}_shoulder") - 1, 2] = 1.1 * sign
    pose[:, names.index("head") - 1] = rng.uniform((-0.3, -0.4, -0.15), (0.3, 0.4, 0.15), (count, 3))
    yaw = roma.rotvec_to_rotmat(torch.tensor(np.outer(rng.uniform(-0.6, 0.6, count), [0.0, 1.0, 0.0])))
    flip = roma.rotvec_to_rotmat(torch.tensor([math.pi, 0.0, 0.0], dtype=torch.float64))
    gaze = rng.standard_normal((count, 3)) * [0.12, 0.2, 0.0]
    params = model.params(
        betas=torch.tensor(rng.standard_normal((count, model.num_betas))),
        body_pose=torch.tensor(pose.reshape(count, -1)),
        global_orient=roma.rotmat_to_rotvec(flip @ yaw),
        jaw_pose=torch.tensor(np.stack([rng.uniform(0, jaw, count), *(0.03 * rng.standard_normal((2, count)))], 1)),
        leye_pose=torch.tensor(gaze),
        reye_pose=torch.tensor(gaze + 0.02 * rng.standard_normal((count, 3)) * [0.3, 1.0, 0.0]),
        expression=torch.tensor(expression * rng.standard_normal((count, model.num_expression_coeffs))),
    )
    head = model(**params).joints[:, names.index("head")]
    above = torch.tensor([0.0, -0.15, _PORTRAIT_FOCAL_PX * _FACE_M / _FACE_PX])
    camera = Camera.make(count, (_PORTRAIT_PX, _PORTRAIT_PX), focal_px=_PORTRAIT_FOCAL_PX, dtype=model.dtype)
    return model.params(**{**params, "transl": above - head}), camera


def visible_hands(model: BodyModel, params: BodyParams, camera: Camera) -> np.ndarray:
    """(B, 2) whether four fifths of a hand's points are in the picture and not hidden by the body."""
    out = model(**params)
    points = [[model.point(out, next(iter(e))) for e in hand_entries(side)] for side in ("left", "right")]
    at = torch.stack([p for side in points for p in side], 1)
    seen = [_unhidden(out.vertices[i], at[i], model, camera.select([i])) for i in range(params.batch)]
    return np.stack(seen).reshape(-1, 2, 21).mean(2) >= _VISIBLE_SHARE


def _unhidden(vertices: Tensor, points: Tensor, model: BodyModel, camera: Camera) -> np.ndarray:
    """Whether points are in the picture and not behind the body."""
    maps = render.draw_maps([(vertices, (0.5, 0.5, 0.5))], model.faces, camera, which=("depth",))
    assert maps.depth_m is not None
    width, height = camera.image_size
    xy = camera.project(points[None])[0].numpy()
    inside = (xy >= 0).all(1) & (xy < (width, height)).all(1)
    column, row = xy.clip(0, (width - 1, height - 1)).astype(int).T
    depth = maps.depth_m[row, column]
    return inside & ((depth <= 0) | (depth > points[:, 2].numpy() - _HIDDEN_M))
