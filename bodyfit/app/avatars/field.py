"""A radiance field of the views of an avatar: trained, scored and written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from bodyfit.app.avatars.drawn import score_drawings, truth_of
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import AvatarView
from bodyfit.body.model import BodyParams
from bodyfit.fields.radiance import RadianceConfig, RadianceField
from bodyfit.fields.radiance.files import save_field
from bodyfit.fields.radiance.fit import fit_views
from bodyfit.fields.radiance.mesh import field_mesh
from bodyfit.fields.radiance.views import View, frames_of
from bodyfit.io import VideoWriter
from bodyfit.io.export.gltf import save_rig_glb
from bodyfit.io.export.rig import rig_of
from bodyfit.io.motions import Motion
from bodyfit.io.picture import save_picture
from bodyfit.register.views import camera_around

__all__ = [
    "FIELD_FILES",
    "draw_field_view",
    "fit_view_field",
    "reduced",
    "save_field_glb",
    "score_field",
    "views_to_learn",
    "write_field",
    "write_field_motion",
]

FIELD_FILES = ("field.npz", "field.glb", "field_views.png")
_SIDE_PX = 320
"""Views are reduced so that their longer side is at most this: more pixels than nodes teach nothing."""
_SHEET_PX, _SHEET_VIEWS = 320, 6
_INFLUENCES = 4
_FILM_PX, _FILM_FPS, _FILM_FRAMES = (256, 256), 15.0, 300
_AROUND_M = 0.2
"""Space about the joints in a film."""


def fit_view_field(material: AvatarMaterial, *, config: RadianceConfig | None = None) -> RadianceField:
    """Train a field on the views of an avatar, reduced in size; pixels before which others may be teach nothing."""
    views, bodies = views_to_learn([reduced(view) for view in material.views])
    return fit_views(views, bodies, material.model, config=config)


def views_to_learn(views: Sequence[AvatarView]) -> tuple[list[View], BodyParams]:
    """Make the pictures that a field learns from of an avatar's views, and the bodies that are their frames."""
    bodies, frames = frames_of([view.params for view in views])
    pictures = [
        View(view.image, view.mask, view.camera, frame, view.unknown, view.camera_number)
        for view, frame in zip(views, frames, strict=True)
    ]
    return pictures, bodies


def reduced(view: AvatarView, side_px: int = _SIDE_PX) -> AvatarView:
    """Reduce a view so that its longer side is at most `side_px`."""
    height, width = view.mask.shape
    scale = side_px / max(height, width)
    if scale >= 1:
        return view
    return view.resized(max(round(width * scale), 1), max(round(height * scale), 1))


def draw_field_view(field: RadianceField, view: AvatarView) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a field in the pose of a view and before its camera, on white, with the colours of that camera."""
    (height, width), number = view.mask.shape, view.camera_number
    learned = number if number is not None and number < len(field.gains) else None
    drawn = field.draw(view.params, view.camera, (width, height), of_camera=learned).over((1.0, 1.0, 1.0))
    return np.round(255 * drawn).astype(np.uint8)


def score_field(field: RadianceField, views: Sequence[AvatarView]) -> dict[str, float | int] | None:
    """Compare a field with pictures that it was not trained on, as avatars are (`score_avatar`); None for none."""
    score = score_drawings([reduced(view) for view in views], lambda view: draw_field_view(field, view))
    return None if score is None else asdict(score)


def write_field(field: RadianceField, material: AvatarMaterial, out: Path) -> dict[str, Any]:
    """Write a field, its surface with skeleton and motion, and pictures beside it; return its facts."""
    for name in FIELD_FILES:
        (out / name).unlink(missing_ok=True)
    save_field(field, out / "field.npz")
    save_field_glb(field, material, out / "field.glb")
    save_picture(out / "field_views.png", _sheet(field, material.test_views or material.views))
    return {"files": list(FIELD_FILES), "score": score_field(field, material.test_views)}


def write_field_motion(field: RadianceField, motion: Motion, out: Path) -> list[str]:
    """Film a field that plays a motion. Raises `OutputError`."""
    params = motion.params
    stride = max(1, round(motion.fps / _FILM_FPS), -(-params.batch // _FILM_FRAMES))
    rows = list(range(0, params.batch, stride))
    shaped = BodyParams(**dict(params.select(rows)) | {"betas": field.canonical.betas.expand(len(rows), -1)})
    with torch.no_grad():
        joints = field.model.joints(shaped).flatten(0, 1).double().numpy()
    centre = (joints.min(0) + joints.max(0)) / 2
    radius = float(np.linalg.norm(joints - centre, axis=1).max()) + _AROUND_M
    up, ahead = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    camera = camera_around(centre, radius, up, ahead, yaw_deg=0, pitch_deg=7, size_px=_FILM_PX[0])
    fps = max(motion.fps, 1.0) * len(rows) / params.batch if params.batch > 1 else 1.0
    with VideoWriter(out / "field_motion.mp4", _FILM_PX, fps) as film:
        for k in range(len(rows)):
            drawn = field.draw(shaped.select([k]), camera, _FILM_PX).over((1.0, 1.0, 1.0))
            film.write(np.round(255 * drawn).astype(np.uint8))
    return ["field_motion.mp4"]


def save_field_glb(field: RadianceField, material: AvatarMaterial, path: Path) -> None:
    """Write the field's surface with skeleton and the clip's motion; of photographs the pose of the first one."""
    mesh, bodies, times_s = field_mesh(field), material.motion, material.times_s
    shaped = BodyParams(**dict(bodies) | {"betas": field.canonical.betas.expand(bodies.batch, -1)})
    moves = bodies.batch > 1 and material.fps > 0
    finite = torch.stack([value.isfinite().all(1) for value in shaped.values()]).all(0)
    if moves:
        shaped = shaped.select(finite)
        times_s = None if times_s is None else times_s[finite.numpy()]
    else:
        shaped, times_s = shaped.select([0]), None
    fps = material.fps if moves else 0.0
    rig = rig_of(field.model, shaped, fps=fps, times_s=times_s, pose_shapes="none")
    weights = np.sort(mesh.weights, 1)[:, -_INFLUENCES]
    weights = np.where(mesh.weights >= weights[:, None], mesh.weights, 0).astype(np.float64)
    vertices = rig.placing.per_metre * mesh.rest_m.astype(np.float64) @ rig.placing.from_y_up.T
    rig = replace(
        rig,
        vertices=vertices,
        faces=mesh.faces,
        weights=weights / weights.sum(1, keepdims=True),
        colors=mesh.colors.astype(np.float64),
        morphs=None,
        uv=None,
        uv_faces=None,
    )
    save_rig_glb(path, rig, color=(1.0, 1.0, 1.0))


def _sheet(field: RadianceField, views: Sequence[AvatarView]) -> UInt8[np.ndarray, "H W 3"]:
    """Lay pictures beside the field in their poses."""
    chosen = np.unique(np.linspace(0, len(views) - 1, min(_SHEET_VIEWS, len(views))).round().astype(int))
    columns = []
    for k in chosen:
        view = reduced(views[k])
        pair = np.concatenate([truth_of(view), draw_field_view(field, view)])
        width = max(round(pair.shape[1] * 2 * _SHEET_PX / pair.shape[0]), 1)
        columns.append(cv2.resize(pair, (width, 2 * _SHEET_PX), interpolation=cv2.INTER_AREA))
    return np.concatenate(columns, 1)
