"""Avatars of people who turn round before one camera, by bodyfit's own fits and masks."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bodyfit
from bodyfit.app.avatars.drawn import avatar_vertices, score_avatar
from bodyfit.app.avatars.views import gather_views
from bodyfit.app.results.find import find_results
from bodyfit.avatars import Avatar, AvatarView, make_avatar
from bodyfit.detect import load_detector
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.images.similarity import box_of, psnr_db, ssim
from bodyfit.io import VideoWriter, save_track
from bodyfit.io.results.summary import write_json
from bodyfit.render.scene import Texture
from bodyfit.render.shade import render_bodies
from scripts.bench.avatars.people import Studio, studio, yaw_rotation

__all__ = ["turning_avatar"]

_FRAMES, _FPS = 72, 24.0
_SIZE_PX = 512
_BACKDROP = 205
"""Grey of the wall behind."""


def turning_avatar(seed: int, size: int) -> dict[str, Any]:
    """Film one drawn person turning once, fit the film, make the avatar and score it."""
    room = studio(seed, 1, pose="a-pose", size_px=_SIZE_PX)
    yaws = np.arange(_FRAMES) * 360 / _FRAMES
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "film"
        out.mkdir()
        with VideoWriter(Path(folder) / "film.mp4", (_SIZE_PX, _SIZE_PX), _FPS, crf=12) as film:
            for yaw in yaws:
                view = room.view(0, float(yaw), light_yaw_deg=float(yaw))
                film.write(np.where(view.mask[..., None], view.image, np.uint8(_BACKDROP)))
        tracks = bodyfit.fit_video(Path(folder) / "film.mp4", focal_px=room.focal_px, silhouette=True)
        if not tracks:
            raise RuntimeError(f"nobody was found in the film of person {seed}")
        track = max(tracks, key=len)
        save_track(track, out / "person0.npz")
        write_json(out / "summary.json", {"inputs": []})
        found = find_results([out / "person0.npz"], Path(folder) / "film.mp4")
        start = time.process_time()
        material = gather_views(found, detector=load_detector(masks=True))
        avatar = make_avatar(material.views, model=material.model, size=size)
    entry: dict[str, Any] = {"person": seed, "seconds": time.process_time() - start, "iou": float(avatar.iou.mean())}
    score = score_avatar(avatar, material.test_views)
    assert score is not None
    entry["held out"] = {"psnr_db": score.psnr_db, "ssim": score.ssim}
    entry["camera"] = _from_the_side(avatar, track, room, exact_pose=True)
    entry["camera, fitted pose"] = _from_the_side(avatar, track, room, exact_pose=False)
    entry["status"], entry["pictures"] = avatar.status, len(material.views)
    return entry


def _from_the_side(avatar: Avatar, track: bodyfit.Track, room: Studio, *, exact_pose: bool) -> dict[str, float]:
    """Compare the avatar with what a second camera, a quarter round, saw in some frames of the film.

    The fitted body is brought to the exact one's distance, which one camera does not tell, and then turned about the
    vertical through its place. exact_pose: the avatar, of the fit's shape, takes the exact pose instead.
    """
    psnrs, ssims = [], []
    middle = np.array([0, 0, room.distance_m])
    for row in range(0, len(track), max(1, len(track) // 8)):
        yaw = 360.0 * int(track.frames[row]) / _FRAMES
        truth = room.view(0, yaw + 90, light_yaw_deg=yaw)
        if exact_pose:
            points = _in_exact_pose(avatar, room) @ truth.camera.R.T + truth.camera.t
        else:
            points = avatar_vertices(avatar, track.result.params.select([row]))[0].double().numpy()
            points = (points * room.distance_m / points[:, 2].mean() - middle) @ yaw_rotation(90).T + middle
        drawn, box = _drawn(avatar, points, truth), box_of(truth.mask)
        psnrs.append(psnr_db(drawn[box], truth.image[box]))
        ssims.append(ssim(drawn[box], truth.image[box]))
    return {"psnr_db": float(np.mean(psnrs)), "ssim": float(np.mean(ssims))}


def _in_exact_pose(avatar: Avatar, room: Studio) -> np.ndarray:
    """Pose the avatar as the drawn person stands, its pelvis at the same place, in the room's axes."""
    exact = room.poses
    pose = torch.nn.functional.pad(exact.body_pose, (0, avatar.params.body_pose.shape[1] - exact.body_pose.shape[1]))
    roots = [m.rest_joints(b)[:, 0] for m, b in ((room.model, exact.betas), (avatar.model, avatar.betas))]
    own = {"global_orient": exact.global_orient, "body_pose": pose, "transl": exact.transl + roots[0] - roots[1]}
    return avatar_vertices(avatar, avatar.model.params(**own))[0].double().numpy()


def _drawn(avatar: Avatar, points: np.ndarray, like: AvatarView) -> np.ndarray:
    """Draw points of the avatar's surface before the camera of a view, on white."""
    camera: CalibratedCamera = like.camera
    height, width = like.mask.shape
    own = bodyfit.Camera.make(
        1, (width, height), focal_px=camera.focal_px, principal_point_px=(camera.K[0, 2], camera.K[1, 2])
    )
    assert avatar.model.uv is not None
    assert avatar.model.uv_faces is not None
    paint = Texture(avatar.texture, avatar.model.uv, avatar.model.uv_faces, lit=False)
    layer = render_bodies([(torch.from_numpy(points).float(), paint)], avatar.model.faces, own, shadows=False)
    picture = np.ones((height, width, 3))
    if layer is not None:
        layer.over(picture)
    return np.round(255 * picture).astype(np.uint8)
