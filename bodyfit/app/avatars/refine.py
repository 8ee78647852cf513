"""Refine the bodies of an avatar's pictures together with its radiance field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.app.avatars.field import fit_view_field, reduced
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import AvatarView
from bodyfit.body.model import BodyParams
from bodyfit.fields.radiance import RadianceConfig, RadianceField
from bodyfit.fields.radiance.joint import JointConfig, fit_field_and_bodies
from bodyfit.fields.radiance.views import View, frames_of
from bodyfit.geometry.rotation import so3_exp, so3_log

__all__ = ["corrected", "fit_field_of", "fit_refined_field"]

_LEAST_PICTURES = 6
"""Fewer pictures are not refined: none is held out, so that nothing would tell whether it helped."""
_TURNED = ("global_orient", "body_pose")


def fit_field_of(
    material: AvatarMaterial,
    *,
    refine: bool = True,
    config: RadianceConfig | None = None,
    joint: JointConfig | None = None,
) -> tuple[RadianceField, AvatarMaterial]:
    """Train a field on the views of an avatar; return it and the material, its bodies corrected if `refine`.

    Of fewer than six pictures nothing is refined, which a note of the material says.
    """
    if refine and len(material.views) + len(material.test_views) >= _LEAST_PICTURES:
        return fit_refined_field(material, config=config, joint=joint)
    if refine:
        note = f"poses not refined: of {len(material.views)} pictures, {_LEAST_PICTURES} are needed"
        material = replace(material, notes=(*material.notes, note))
    return fit_view_field(material, config=config), material


def fit_refined_field(
    material: AvatarMaterial, *, config: RadianceConfig | None = None, joint: JointConfig | None = None
) -> tuple[RadianceField, AvatarMaterial]:
    """Train a field on the views of an avatar and refine their bodies with it; return it and the corrected material.

    The bodies of pictures held out, and the motion, get the corrections of the pictures around them (`corrected`): no
    picture held out is looked at.
    """
    views = [reduced(view) for view in material.views]
    bodies, frames = frames_of([view.params for view in views])
    those = [
        View(view.image, view.mask, view.camera, frame, view.unknown, view.camera_number)
        for view, frame in zip(views, frames, strict=True)
    ]
    layouts = {None if view.keypoints is None else view.keypoints.layout for view in views}
    layout = layouts.pop() if len(layouts) == 1 else None
    keypoints = None if layout is None else [view.keypoints.xyc for view in views if view.keypoints is not None]
    field, better = fit_field_and_bodies(
        those, bodies, material.model, config=config, joint=joint, keypoints=keypoints, layout=layout
    )
    rows = np.array(material.rows[: len(views)])
    first = np.unique(frames, return_index=True)[1]
    return field, _with_bodies(material, rows[first], bodies, better)


def _with_bodies(
    material: AvatarMaterial, rows: Int[np.ndarray, "F"], before: BodyParams, after: BodyParams
) -> AvatarMaterial:
    """Correct all bodies of a material, by those of some rows of its motion before and after refinement."""
    all_rows = np.arange(material.motion.batch)
    motion = corrected(material.motion, all_rows, rows, before, after)
    shape = {"betas": before.betas[:1]}

    def moved(views: Sequence[AvatarView], at: Sequence[int]) -> tuple[AvatarView, ...]:
        return tuple(
            replace(view, params=BodyParams(**dict(motion.select([row])) | shape))
            for view, row in zip(views, at, strict=True)
        )

    count = len(material.views)
    return replace(
        material,
        views=moved(material.views, material.rows[:count]),
        test_views=moved(material.test_views, material.rows[count:]),
        motion=motion,
    )


def corrected(
    bodies: BodyParams,
    times: Float[np.ndarray, "T"] | Int[np.ndarray, "T"],
    known: Float[np.ndarray, "F"] | Int[np.ndarray, "F"],
    before: BodyParams,
    after: BodyParams,
) -> BodyParams:
    """Apply the corrections of some bodies to others, by time.

    bodies: at `times`. before, after: the bodies at `known` times and what became of them. A joint's correction, a
    rotation in its own axes, and that of the place are interpolated linearly between the times around, and are those of
    the first or last beyond.
    """
    order = np.argsort(known)
    known = np.asarray(known, np.float64)[order]

    def between(values: Float[Tensor, "F *N"]) -> Float[Tensor, "T *N"]:
        flat = values[torch.from_numpy(order)].flatten(1).double().numpy()
        columns = [np.interp(times, known, column) for column in flat.T]
        return torch.from_numpy(np.stack(columns, 1)).to(values).unflatten(1, values.shape[1:])

    out = {"transl": bodies.transl + between(after.transl - before.transl)}
    for name in _TURNED:
        old, new, own = (params[name].unflatten(1, (-1, 3)) for params in (before, after, bodies))
        turn = between(so3_log(so3_exp(old).mT @ so3_exp(new)))
        out[name] = so3_log(so3_exp(own) @ so3_exp(turn)).flatten(1)
    return BodyParams(**dict(bodies) | out)
