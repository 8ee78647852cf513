"""Make a textured avatar of pictures with masks and bodies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.avatars.avatar import Avatar
from bodyfit.avatars.bake import Chart, bake, sight_of
from bodyfit.avatars.contour import match_outlines
from bodyfit.avatars.fill import filled
from bodyfit.avatars.light import find_light, shade, world_normals
from bodyfit.avatars.outward import outward
from bodyfit.avatars.posed import PosedView, posed_views, rest_surface, together
from bodyfit.avatars.view import PERSON, UNKNOWN, AvatarView
from bodyfit.body.model import BodyModel, load_model
from bodyfit.errors import OptionError
from bodyfit.images.similarity import mask_iou

__all__ = ["LEAST_IOU", "agreement", "make_avatar"]

LEAST_IOU = 0.75
"""Mean intersection over union of masks and bodies below which an avatar is poor."""
_HAND_M = (-0.002, 0.004)
"""How far the skin of hands moves: their masks are coarser than fingers."""
_HANDS = ("wrist", "hand", "index", "middle", "pinky", "ring", "thumb")
_BODY_M = (-0.012, 0.06)
_SIZES = (64, 8192)


def make_avatar(
    views: Sequence[AvatarView],
    *,
    model: BodyModel | None = None,
    size: int = 1024,
    exact: bool = False,
    even_light: bool = True,
    room_light: bool = True,
) -> Avatar:
    """Make a person's textured avatar of pictures with masks, cameras and bodies of one shape.

    The surface goes out along its normals to where the masks end; colours are averaged into the model's texture by the
    cube of the cosine to the view, with a gain a picture and channel (`even_light`); what no picture shows is mirrored,
    then an average. model: what the bodies are of, the neutral open body by default. size: of the texture, pixels.
    room_light: the light stands still in the cameras' world; it is found from how colours change as the body turns, and
    taken out of the texture (`Avatar.light`). False where pictures have other places or other lamps.
    exact: bodies and masks are exact, as drawn ones are, so that fewer views have to agree on the surface. An avatar
    whose bodies disagree with the masks (mean IoU below 0.75) is `poor`. Raises `OptionError` for no views, an empty
    mask, bodies of several shapes and a model without texture coordinates.
    """
    model = load_model() if model is None else model
    if not views:
        raise OptionError("an avatar needs at least one view: a picture with a mask and a body")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise OptionError(f"size of a texture must lie in {_SIZES[0]} to {_SIZES[1]} pixels, got {size}")
    empty = [i for i, view in enumerate(views) if not view.mask.any()]
    if empty:
        raise OptionError(f"the mask of view {empty[0]} is empty: nobody is in it; leave the view out")
    if model.uv is None or model.uv_faces is None:
        raise OptionError(f"{model.name} has no texture coordinates, which an avatar needs; fit the open body")
    params = together([view.params for view in views])
    if float((params.betas - params.betas[:1]).abs().max()) > 1e-4:
        raise OptionError("the bodies of an avatar's views must have one shape: give all the same betas")
    faces = model.faces.numpy()
    rest_m, normals = rest_surface(model, params)
    posed = list(posed_views(views, model, normals))
    iou = np.array([agreement(view, faces) for view in posed])
    limits_m = _limits(model)
    distance = outward(posed, rest_m, faces, limits_m, exact=exact)
    distance = match_outlines(posed, distance, rest_m, faces, limits_m, exact=exact)
    moved = [view.moved(distance) for view in posed]
    seen = [(view, sight_of(view, faces, exact=exact)) for view in moved]
    light = find_light(seen, faces, gains=even_light, room=room_light)
    shades = [shade(light.harmonics, world_normals(view, faces)) for view, _ in seen] if room_light else None
    chart = Chart.of(model.uv, model.uv_faces, size)
    whole = filled(chart, bake(chart, faces, seen, light.gains, shades=shades), model)
    poor = float(iou.mean()) < LEAST_IOU
    reason = f"the bodies disagree with the masks: mean IoU {iou.mean():.2f}, less than {LEAST_IOU:g}" if poor else None
    return Avatar(
        betas=params.betas[:1].clone(),
        offsets_m=(distance[:, None] * normals).astype(np.float32),
        texture=whole.texture,
        confidence=whole.confidence,
        light=light.harmonics.astype(np.float32) if room_light else None,
        params=params,
        iou=iou,
        model_name=str(model.name),
        gender=model.gender,
        status="poor" if poor else "ok",
        reason=reason,
    )


def agreement(view: PosedView, faces: np.ndarray) -> float:
    """Compute the intersection over union of a view's mask and its body, where anything is known."""
    return mask_iou((view.depth(faces).faces >= 0) & (view.state != UNKNOWN), view.state == PERSON)


def _limits(model: BodyModel) -> Float[np.ndarray, "V 2"]:
    """Least and greatest distance of each vertex, metres."""
    hands = np.array([any(part in name for part in _HANDS) for name in model.skeleton.names])
    share = (model.weights.cpu() @ torch.from_numpy(hands).to(model.weights.dtype).cpu()).numpy()
    share = np.clip(share, 0, 1)[:, None]
    return (1 - share) * np.array(_BODY_M) + share * np.array(_HAND_M)
