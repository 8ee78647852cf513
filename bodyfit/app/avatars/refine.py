"""Refine the bodies of an avatar's pictures together with its radiance field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.app.avatars.field import fit_view_field, reduced, views_to_learn
from bodyfit.app.avatars.views import AvatarMaterial
from bodyfit.avatars import AvatarView
from bodyfit.body.model import BodyParams
from bodyfit.fields.radiance import RadianceConfig, RadianceField
from bodyfit.fields.radiance.joint import JointConfig, fit_field_and_bodies
from bodyfit.geometry.rotation import so3_exp, so3_log

__all__ = ["corrected", "fit_field_of", "fit_refined_field"]

_LEAST_PICTURES = 6
"""Fewer pictures are not refined: none is held out, so that nothing would tell whether it helped."""
_TURNED = ("global_orient", "body_pose")


def fit_field_of(
    material: AvatarMaterial,
    *,
    refine: bool | None = None,
    config: RadianceConfig | None = None,
    joint: JointConfig | None = None,
) -> tuple[RadianceField, AvatarMaterial]:
    """Train a field on the views of an avatar; return it and the material, its bodies corrected if `refine`.

    If left out, bodies are refined where several cameras took one moment: one camera's pictures leave them no better.
    Of fewer than six pictures nothing is refined, which a note of the material says.
    """
    rows = material.rows[: len(material.views)]
    if refine is None:
        refine = len(set(rows)) < len(rows)
    if refine and len(material.rows) >= _LEAST_PICTURES:
        return fit_refined_field(material, config=config, joint=joint)
    if refine:
        note = f"poses not refined: of {len(rows)} pictures, {_LEAST_PICTURES} are needed"
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
    those, bodies = views_to_learn(views)
    layouts = {None if view.keypoints is None else view.keypoints.layout for view in views}
    layout = layouts.pop() if len(layouts) == 1 else None
    keypoints = None if layout is None else [view.keypoints.xyc for view in views if view.keypoints is not None]
    field, better = fit_field_and_bodies(
        those, bodies, material.model, config=config, joint=joint, keypoints=keypoints, layout=layout
    )
    rows = np.array(material.rows[: len(views)])
    first = np.unique([view.frame for view in those], return_index=True)[1]
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
    the first or last beyond. Between known times they are reduced to the part of them that the known ones have of what
    their neighbours say (least squares, of each joint; none of fewer than three).
    """
    order = np.argsort(known)
    known = np.asarray(known, np.float64)[order]
    own = np.isin(times, known)

    def between(values: Float[Tensor, "F 3"]) -> Float[Tensor, "T 3"]:
        numbers = values[torch.from_numpy(order)].double().numpy()
        part = np.where(own, 1.0, _neighbour_factor(known, numbers))[:, None]
        return torch.from_numpy(part * _interpolated(times, known, numbers)).to(values)

    out = {"transl": bodies.transl + between(after.transl - before.transl)}
    for name in _TURNED:
        old, new, poses = (params[name].unflatten(1, (-1, 3)) for params in (before, after, bodies))
        turns = so3_log(so3_exp(old).mT @ so3_exp(new))
        turn = torch.stack([between(turns[:, joint]) for joint in range(turns.shape[1])], 1)
        out[name] = so3_log(so3_exp(poses) @ so3_exp(turn)).flatten(1)
    return BodyParams(**dict(bodies) | out)


def _interpolated(
    times: Float[np.ndarray, "T"] | Int[np.ndarray, "T"],
    known: Float[np.ndarray, "F"],
    values: Float[np.ndarray, "F 3"],
) -> Float[np.ndarray, "T 3"]:
    """Interpolate vectors linearly in time."""
    return np.stack([np.interp(times, known, column) for column in values.T], 1)


def _neighbour_factor(known: Float[np.ndarray, "F"], values: Float[np.ndarray, "F 3"]) -> float:
    """Find the factor, of 0 to 1, by which vectors interpolated from their neighbours are best like them."""
    if len(known) < 3:
        return 0.0
    inner = range(1, len(known) - 1)
    pairs = [(known[[k - 1, k + 1]], values[[k - 1, k + 1]]) for k in inner]
    guess = np.concatenate([_interpolated(known[[k]], *pair) for k, pair in zip(inner, pairs, strict=True)])
    return float(np.clip((guess * values[1:-1]).sum() / max((guess**2).sum(), 1e-12), 0.0, 1.0))
