"""Drawn people in clothes, as views with exact masks and bodies: poses of the prior before cameras all round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

import bodyfit
from bodyfit.avatars import AvatarView
from bodyfit.geometry.camera import CalibratedCamera, turned_orient

__all__ = ["Studio", "studio", "yaw_rotation"]

_SIZE_PX = 256
_FOCAL, _DISTANCE_M = 1.5625, 3.4
"""Focal length in widths of the picture, and the distance of the cameras."""


@dataclass(frozen=True)
class Studio:
    """One person in clothes, who poses before cameras all round."""

    model: bodyfit.BodyModel
    outfit: bodyfit.Outfit
    poses: bodyfit.BodyParams
    """Bodies about the origin, y down as cameras have it."""
    size_px: int
    """Width and height of the pictures."""

    @property
    def focal_px(self) -> float:
        """Focal length of the cameras."""
        return _FOCAL * self.size_px

    @property
    def distance_m(self) -> float:
        """From the cameras to the origin."""
        return _DISTANCE_M

    def views(self, poses: Sequence[int], yaws_deg: Sequence[float]) -> list[AvatarView]:
        """Draw poses from cameras at some yaws, all for each pose."""
        return [self.view(pose, yaw) for pose in poses for yaw in yaws_deg]

    def view(self, pose: int, yaw_deg: float, *, light_yaw_deg: float = 0.0) -> AvatarView:
        """Draw one pose from one camera, on white. light_yaw_deg: of the camera in whose axes the lights stand."""
        size, focal = self.size_px, self.focal_px
        R, t = yaw_rotation(yaw_deg), np.array([0, 0, _DISTANCE_M])
        params = self.poses.select([pose])
        person = bodyfit.dress(params, model=self.model, outfit=self.outfit)[0]
        turned = person.turned(torch.from_numpy(R).float(), torch.from_numpy(t).float())
        camera = bodyfit.Camera.make(1, (size, size), focal_px=focal)
        layer = bodyfit.render.render_dressed([turned], camera, R_light=yaw_rotation(light_yaw_deg) @ R.T)
        assert layer is not None
        picture, alpha = np.ones((size, size, 3)), np.zeros((size, size))
        layer.over(picture)
        (x, y), (h, w) = layer.corner_px, layer.rgba.shape[:2]
        alpha[y : y + h, x : x + w] = layer.rgba[..., 3]
        K = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
        image = np.round(255 * picture).astype(np.uint8)
        return AvatarView(image, alpha >= 0.5, CalibratedCamera(K=K, R=R, t=t), params)


def yaw_rotation(yaw_deg: float) -> Float[np.ndarray, "3 3"]:
    """Return the rotation from the room's axes to those of the camera at a yaw."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def studio(seed: int, poses: int, *, pose: str = "mocap-like", size_px: int = _SIZE_PX) -> Studio:
    """Draw a person: shape, outfit and poses; pose i does not depend on how many there are."""
    outfit = bodyfit.random_outfits(1, seed=seed)[0]
    model = bodyfit.load_model("open-x")
    bodies = bodyfit.random_bodies(poses, model=model, seed=seed, pose=pose)
    rng = np.random.default_rng([19, seed])
    orient = bodies.global_orient.double().numpy()
    for i in range(poses):
        yaw = rng.uniform(-np.pi, np.pi)
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        orient[i] = turned_orient(orient[i : i + 1], np.diag([1.0, -1.0, -1.0]) @ turn)[0]
    values = dict(bodies) | {
        "global_orient": torch.from_numpy(orient).float(),
        "betas": bodies.betas[:1].expand(poses, -1),
    }
    params = model.params(**values)
    with torch.no_grad():
        middle = model(**params).vertices
    low, high = middle.amin(1), middle.amax(1)
    return Studio(model, outfit, model.params(**dict(params) | {"transl": params.transl - (low + high) / 2}), size_px)
