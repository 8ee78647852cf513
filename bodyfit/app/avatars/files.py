"""What `bodyfit avatar` leaves: the avatar, its pictures, a file with skeleton and motion, films."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from bodyfit.app.avatars.drawn import AvatarScore, avatar_paint, avatar_vertices, draw_view, truth_of
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import Avatar, AvatarView
from bodyfit.body.model import BodyParams
from bodyfit.geometry.camera import y_up_from
from bodyfit.io import VideoWriter
from bodyfit.io.export.rig import rig_of
from bodyfit.io.export.textured import save_textured_rig_glb
from bodyfit.io.motions import Motion
from bodyfit.io.picture import save_picture
from bodyfit.io.results.avatar import save_avatar
from bodyfit.io.results.summary import write_json
from bodyfit.render.stage import Stage

__all__ = ["AVATAR_FILES", "MOTION_FILES", "write_avatar", "write_motion"]

AVATAR_FILES = ("avatar.npz", "avatar.glb", "texture.png", "confidence.png", "views.png", "turn.mp4", "avatar.json")
MOTION_FILES = ("motion.glb", "motion.mp4")
_INFLUENCES = 4
"""Weights a vertex: three.js takes no more."""
_TURN_FRAMES, _TURN_FPS, _TURN_RAYS = 36, 12.0, 24
_FILM_PX = (480, 640)
_FILM_FPS, _FILM_FRAMES = 15.0, 450
"""Rate and most frames of the film of a motion."""
_SHEET_PX, _SHEET_VIEWS = 320, 6


def write_avatar(avatar: Avatar, material: AvatarMaterial, score: AvatarScore | None, out: Path) -> dict[str, Any]:
    """Write the files of an avatar to a folder and return its facts. Raises `OutputError`."""
    for name in AVATAR_FILES:
        (out / name).unlink(missing_ok=True)
    save_avatar(avatar, out / "avatar.npz")
    save_picture(out / "texture.png", avatar.texture)
    save_picture(out / "confidence.png", np.repeat(avatar.confidence[..., None], 3, 2))
    save_picture(out / "views.png", _sheet(avatar, material.test_views or material.views))
    _save_glb(avatar, material.motion, out / "avatar.glb", times_s=material.times_s, fps=material.fps, axes="camera")
    _turntable(avatar, out / "turn.mp4")
    facts: dict[str, Any] = {
        "status": avatar.status,
        "reason": avatar.reason,
        "model": avatar.model_name,
        "gender": avatar.gender,
        "pictures": len(material.views),
        "iou": float(avatar.iou.mean()),
        "seen": float((avatar.confidence > 128).mean()),
        "score": None if score is None else {"psnr_db": score.psnr_db, "ssim": score.ssim, "pictures": score.pictures},
        "notes": list(material.notes),
        "files": list(AVATAR_FILES),
    }
    write_json(out / "avatar.json", facts)
    return facts


def write_motion(avatar: Avatar, motion: Motion, out: Path) -> list[str]:
    """Let an avatar play a motion: as a file with skeleton, and as a film. Raises `OutputError` and `OptionError`."""
    _save_glb(avatar, motion.params, out / "motion.glb", times_s=None, fps=motion.fps, axes="y_up")
    params = motion.params
    rows = _film_rows(params.batch, motion.fps)
    flip = torch.from_numpy(y_up_from("camera")).to(params.transl)  # its own inverse
    points = avatar_vertices(avatar, params.select(rows)) @ flip
    stage = Stage.around(points[:: max(1, len(rows) // 60)], view=(0.0, 7.0), size=_FILM_PX)
    fps = max(motion.fps, 1.0) * len(rows) / params.batch if params.batch > 1 else 1.0
    paint = avatar_paint(avatar)
    with VideoWriter(out / "motion.mp4", _FILM_PX, fps) as film:
        for vertices in points:
            film.write(stage.draw([(vertices, paint)], avatar.model.faces, rays=_TURN_RAYS))
    return list(MOTION_FILES)


def _film_rows(count: int, fps: float) -> list[int]:
    """Choose the frames of a film: at most 15 a second, and 450 in all."""
    stride = max(1, round(fps / _FILM_FPS), -(-count // _FILM_FRAMES))
    return list(range(0, count, stride))


def _save_glb(
    avatar: Avatar, params: BodyParams, path: Path, *, times_s: Float[np.ndarray, "T"] | None, fps: float, axes: str
) -> None:
    """Write the surface with skeleton and motion; of photographs the pose of the first one."""
    bodies = avatar.posed(params)
    moves = bodies.batch > 1 and fps > 0
    finite = torch.stack([value.isfinite().all(1) for value in bodies.values()]).all(0)
    if moves:
        bodies = bodies.select(finite)
        times_s = None if times_s is None else times_s[finite.numpy()]
    else:
        bodies, times_s = bodies.select([0]), None
    rig = rig_of(
        avatar.model,
        bodies,
        fps=fps if moves else 0.0,
        times_s=times_s,
        axes=axes,
        influences=_INFLUENCES,
        pose_shapes="none" if moves else "baked",
    )
    save_textured_rig_glb(path, rig, avatar.texture)


def _turntable(avatar: Avatar, path: Path) -> None:
    """Film the avatar turning once, in the pose of its first picture."""
    vertices, paint = avatar_vertices(avatar, avatar.params.select([0]))[0], avatar_paint(avatar)
    stage = Stage.around([vertices], view=(0.0, 7.0), size=_FILM_PX, all_round=True)
    with VideoWriter(path, _FILM_PX, _TURN_FPS) as film:
        for k in range(_TURN_FRAMES):
            turned = stage.turned(360 * k / _TURN_FRAMES)
            film.write(turned.draw([(vertices, paint)], avatar.model.faces, rays=_TURN_RAYS))


def _sheet(avatar: Avatar, views: tuple[AvatarView, ...]) -> UInt8[np.ndarray, "H W 3"]:
    """Lay pictures beside the avatar in their poses."""
    chosen = np.unique(np.linspace(0, len(views) - 1, min(_SHEET_VIEWS, len(views))).round().astype(int))
    columns = []
    for k in chosen:
        pair = [_scaled(picture) for picture in (truth_of(views[k]), draw_view(avatar, views[k]))]
        columns.append(np.concatenate(pair))
    return np.concatenate(columns, 1)


def _scaled(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    width = max(round(picture.shape[1] * _SHEET_PX / picture.shape[0]), 1)
    return np.asarray(Image.fromarray(picture).resize((width, _SHEET_PX), Image.Resampling.LANCZOS))
