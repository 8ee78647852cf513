"""Scenes of fields, in which every factor is set by itself: number, shape, pose, place and look of people, camera."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fields.casting.canonical import pose_bodies
from bodyfit.fields.casting.rays import Rays, camera_rays
from bodyfit.fields.compositional.atlas import SurfaceAtlas
from bodyfit.fields.compositional.samples import PackedSamples, Window, cast_body
from bodyfit.geometry.camera import CalibratedCamera

__all__ = ["BodyField", "FieldCamera", "FieldScene", "cast_object"]


@dataclass(frozen=True, eq=False)
class FieldCamera:
    """A pinhole camera of square pictures whose principal point is the middle."""

    focal_px: float
    """Focal length, pixels."""
    R_cam_world: Float[np.ndarray, "3 3"]
    """x_cam = R x_world + t; camera axes are x right, y down, z forward; the world is y up."""
    t_cam_world_m: Float[np.ndarray, "3"]
    """Metres."""
    size: int = 128
    """Width and height of the picture, pixels."""

    def directions(self, side: int, window: Window | None = None) -> Float[np.ndarray, "h w 3"]:
        """Unit directions in the world through the middles of a feature image's pixels, or of a window of them.

        side: width of the whole feature image.
        """
        top, bottom, left, right = (0, side, 0, side) if window is None else window
        out = np.empty((bottom - top, right - left, 3))
        focal = self.focal_px * side / self.size
        out[..., 0] = (np.arange(left, right) + 0.5 - side / 2) / focal
        out[..., 1] = ((np.arange(top, bottom) + 0.5 - side / 2) / focal)[:, None]
        out[..., 2] = 1
        out /= np.linalg.norm(out, axis=-1, keepdims=True)
        return (out @ np.asarray(self.R_cam_world, np.float64)).astype(np.float32)

    def rays_in(self, side: int, R: Float[np.ndarray, "3 3"], t: Float[np.ndarray, "3"], scale: float) -> Rays:
        """Return the same rays, row by row, in the axes and units of an object with x_world = scale R x + t."""
        focal = self.focal_px * side / self.size
        K = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
        R_cam = np.asarray(self.R_cam_world, np.float64)
        u, _, v = np.linalg.svd(R_cam @ R)  # rotations of float32 are not orthonormal enough
        offset = (R_cam @ t + np.asarray(self.t_cam_world_m, np.float64)) / scale
        return camera_rays(CalibratedCamera(K, u @ v, offset), (side, side))


@dataclass(frozen=True, eq=False)
class BodyField:
    """One person: a posed body, what it looks like, and an affine placement x_world = scale R x + t."""

    params: BodyParams
    """One body, y up, metres."""
    model: BodyModel
    """The open body that the parameters are of."""
    appearance: Float[Tensor, "D"]
    """Code of clothes, hair and skin."""
    scale: float = 1.0
    """Size."""
    R_world_body: Float[np.ndarray, "3 3"] = field(default_factory=lambda: np.eye(3))
    """Rotation of the placement."""
    t_world_body_m: Float[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3))
    """Translation of the placement, metres."""

    def __post_init__(self) -> None:
        if self.params.batch != 1:
            raise ShapeError(f"params must be of one body, got {self.params.batch}; use params.select([i])")
        if not 0.01 <= self.scale <= 100:
            raise OptionError(f"scale must lie in 0.01 to 100, got {self.scale:g}")


@dataclass(frozen=True, eq=False)
class FieldScene:
    """People before a background, and a camera."""

    objects: tuple[BodyField, ...]
    """Any number of people, in any order."""
    background: Float[Tensor, "E"]
    """Code of the background."""
    camera: FieldCamera
    """Who looks."""


def cast_object(one: BodyField, camera: FieldCamera, atlas: SurfaceAtlas, side: int) -> PackedSamples:
    """Sample one object along the rays of a feature image of `side` pixels."""
    body = pose_bodies(atlas.body, one.model, one.params)[0]
    R, t = np.asarray(one.R_world_body, np.float64), np.asarray(one.t_world_body_m, np.float64)
    rays = camera.rays_in(side, R, t, one.scale)
    return cast_body(body, rays, atlas, np.asarray(camera.R_cam_world) @ R, scale=one.scale)
