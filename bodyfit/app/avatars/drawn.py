"""Draw avatars with the light of their pictures, and score them by pictures that they were not made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bodyfit.avatars import Avatar, AvatarView
from bodyfit.avatars.light import linear, shade
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import OptionError
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.images.similarity import box_of, psnr_db, ssim
from bodyfit.render.scene import Texture
from bodyfit.render.shade import render_bodies

__all__ = [
    "AvatarScore",
    "avatar_paint",
    "avatar_vertices",
    "checked_avatar",
    "draw_view",
    "score_avatar",
    "score_drawings",
    "truth_of",
]

_LEAST_PX = 11
"""Side of the smallest box of a mask that is scored."""


@dataclass(frozen=True)
class AvatarScore:
    """How like pictures an avatar is, in the boxes of their masks, on white; means over the pictures."""

    psnr_db: float
    """Peak signal-to-noise ratio."""
    ssim: float
    """Structural similarity."""
    pictures: int
    """How many pictures."""


def avatar_paint(avatar: Avatar, world_m: Float[Tensor, "V 3"] | None = None) -> Texture:
    """Return the avatar's texture as a paint of its surface, which no other light falls on.

    world_m: its vertices, posed, in the axes of its pictures' cameras' world, for the light of these pictures; even
    light if left out.
    """
    uv, uv_faces = avatar.model.uv, avatar.model.uv_faces
    assert uv is not None
    assert uv_faces is not None
    light = None
    if avatar.light is not None and world_m is not None:
        normals = vertex_normals(world_m.double().cpu().numpy(), avatar.model.faces.cpu().numpy())
        light = linear(shade(avatar.light, normals))
    return Texture(avatar.texture, uv, uv_faces, lit=False, light=light)


def checked_avatar(avatar: Avatar, model: BodyModel) -> Avatar:
    """Return the avatar if it takes the bodies of a model. Raises `OptionError`."""
    if avatar.model.skeleton.names != model.skeleton.names or not torch.equal(avatar.model.faces, model.faces):
        raise OptionError(
            f"the avatar is of {avatar.model_name}, the bodies are of {model.name}; make it of their fits"
        )
    return avatar


def avatar_vertices(avatar: Avatar, params: BodyParams) -> Float[Tensor, "B V 3"]:
    """Pose the avatar's surface; in the axes of the parameters, metres."""
    with torch.no_grad():
        return avatar.model(**avatar.posed(params)).vertices


def draw_view(avatar: Avatar, view: AvatarView) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the avatar in the pose of a view and before its camera, on white."""
    height, width = view.mask.shape
    world = avatar_vertices(avatar, view.params)[0].double()
    points = world @ torch.from_numpy(view.camera.R.T) + torch.from_numpy(view.camera.t)
    fx, fy, cx, cy = view.lens
    points = points * torch.tensor([1.0, fy / fx, 1.0])  # one focal length for both axes
    camera = Camera.make(1, (width, height), focal_px=fx, principal_point_px=(cx, cy))
    layer = render_bodies([(points.float(), avatar_paint(avatar, world))], avatar.model.faces, camera, shadows=False)
    picture = np.ones((height, width, 3))
    if layer is not None:
        layer.over(picture)
    return np.round(255 * picture).astype(np.uint8)


def truth_of(view: AvatarView) -> UInt8[np.ndarray, "H W 3"]:
    """Return the picture of a view with what is not the person in white."""
    return np.where(view.mask[..., None], view.image, np.uint8(255))


def score_avatar(avatar: Avatar, views: Sequence[AvatarView]) -> AvatarScore | None:
    """Compare the avatar with pictures that it was not made of; None for none."""
    return score_drawings(views, lambda view: draw_view(avatar, view))


def score_drawings(
    views: Sequence[AvatarView], draw: Callable[[AvatarView], UInt8[np.ndarray, "H W 3"]]
) -> AvatarScore | None:
    """Compare what `draw` makes of views, on white, with their pictures; None for none.

    Pixels before which somebody else may be count in neither picture.
    """
    psnrs, ssims = [], []
    for view in views:
        drawn, truth, box = draw(view), truth_of(view), box_of(view.mask)
        if view.unknown is not None:
            drawn[view.unknown & ~view.mask] = 255
        if min(truth[box].shape[:2]) < _LEAST_PX:
            continue
        psnrs.append(psnr_db(drawn[box], truth[box]))
        ssims.append(ssim(drawn[box], truth[box]))
    return AvatarScore(float(np.mean(psnrs)), float(np.mean(ssims)), len(psnrs)) if psnrs else None
