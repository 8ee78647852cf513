"""Random bodies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.anthropometry.height import Stature, check_heights
from bodyfit.body.contact.self_contact import SelfContact
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.pose_prior import PosePrior, load_pose_prior
from bodyfit.errors import OptionError

__all__ = ["POSES", "random_bodies"]

POSES = ("mocap-like", "rest", "a-pose")
"""Drawn from the pose prior, the model's T-pose, the T-pose with the arms 45 degrees down."""

_BETAS = 10
_TOUCH_M = 0.01
"""Skin that gives way where it is touched: deeper contact counts as running into oneself."""
_TRIES = 50
"""Draws of a pose, about half of which fail: one body in 10^15 is left, and of its poses the least bad is kept."""
_CHUNK = 64


def random_bodies(
    n: int,
    *,
    model: BodyModel | None = None,
    seed: int = 0,
    prior: PosePrior | None = None,
    max_sd: float = 3.0,
    pose: str = "mocap-like",
    heights: Sequence[float | int] | None = None,
    floor: bool = False,
) -> BodyParams:
    """`n` bodies: betas from the model's normal distribution within `max_sd` deviations, upright at the origin.

    pose: "mocap-like" (from the pose prior within the joint limits; poses in which a limb runs more than about 1 cm
    into another part are drawn anew), "rest" (the T-pose) or "a-pose" (the arms 45 degrees down). heights: least and
    greatest stature, metres; shapes are then distributed as those of the population's people of such stature. floor:
    the lowest vertex is at y = 0, else the pelvis is where the model has it.
    The same seed gives the same bodies, and body i does not depend on `n`. Raises `OptionError`.
    """
    if n < 0:
        raise OptionError(f"n must not be negative, got {n}")
    if seed < 0:
        raise OptionError(f"seed must not be negative, got {seed}")
    if not max_sd > 0:
        raise OptionError(f"max_sd must be positive, got {max_sd}")
    if pose not in POSES:
        raise OptionError(f"pose must be one of {', '.join(POSES)}, got {pose!r}")
    model = load_model() if model is None else model
    if not model.body_joints:
        raise OptionError(f"random bodies need a whole body; {model.kind.title} is a part of one")
    betas = torch.from_numpy(_shapes(n, model, seed, max_sd, heights)).to(model.v_template)
    if pose == "mocap-like":
        body_pose = _free_poses(betas, model, load_pose_prior() if prior is None else prior, seed)
    else:
        body_pose = betas.new_zeros(n, 3 * (model.body_joints - 1))
        if pose == "a-pose":
            body_pose[:] = _arms_down(model)
    params = model.params(betas=betas, body_pose=body_pose)
    return _on_floor(params, model) if floor else params


def _shapes(
    n: int, model: BodyModel, seed: int, max_sd: float, heights: Sequence[float | int] | None
) -> Float[np.ndarray, "N S"]:
    """Betas, each body's from numbers of its own."""
    columns = min(model.num_betas, _BETAS)
    stature = None if heights is None else Stature(model, columns, check_heights(heights), max_sd)
    sources = [np.random.default_rng([seed, 1, i]) for i in range(n)]
    betas = np.zeros((n, columns))
    left = np.arange(n)
    for _ in range(_TRIES):
        drawn = np.stack([sources[i].standard_normal(columns) for i in left]) if len(left) else betas[:0]
        # Folded at the limit, not clipped: no heap of bodies there.
        drawn = np.where(np.abs(drawn) > max_sd, np.fmod(drawn, max_sd), drawn)
        fits = np.ones(len(left), bool)
        if stature is not None:
            drawn, fits = stature.conditioned(drawn)
        betas[left] = drawn
        left = left[~fits | (np.abs(drawn).max(1, initial=0.0) > max_sd)]  # some move beyond it for the height's sake
        if not len(left):
            return betas
    raise OptionError(f"hardly any body within max_sd={max_sd:g} has one of the heights {heights}; give a wider range")


def _free_poses(betas: Float[Tensor, "N S"], model: BodyModel, prior: PosePrior, seed: int) -> Float[Tensor, "N P"]:
    """Poses of the prior in which the bodies do not run into themselves."""
    n, angles = len(betas), 3 * (model.body_joints - 1)
    contact = SelfContact(model)
    sources = [np.random.default_rng([seed, 2, i]) for i in range(n)]
    poses = betas.new_zeros(n, angles)
    least = torch.full((n,), torch.inf, dtype=torch.float64)
    left = torch.arange(n)
    for _ in range(_TRIES):
        if not len(left):
            break
        uniform = np.array([sources[i].random() for i in left.tolist()])
        normal = np.stack([sources[i].standard_normal(prior.means.shape[1]) for i in left.tolist()])
        drawn = torch.from_numpy(prior.pose_of(uniform, normal)[:, :angles]).to(betas)
        depth = _depth(model, contact, betas[left], drawn)
        better = depth < least[left]
        poses[left[better]], least[left[better]] = drawn[better.to(drawn.device)], depth[better]
        left = left[depth > _TOUCH_M]
    return poses


def _depth(
    model: BodyModel, contact: SelfContact, betas: Float[Tensor, "B S"], body_pose: Float[Tensor, "B P"]
) -> Float[Tensor, "B"]:
    """How deep bodies are in themselves, metres; some at a time, for meshes are large."""
    found = []
    for rows in torch.arange(len(betas)).split(_CHUNK):
        with torch.no_grad():
            found.append(contact.depth(model(betas=betas[rows], body_pose=body_pose[rows]).vertices))
    return torch.from_numpy(np.concatenate(found))


def _arms_down(model: BodyModel) -> Float[Tensor, "P"]:
    """Shoulders turned about z so that on the mean body the lines from shoulder to wrist fall 45 degrees."""
    pose = model.v_template.new_zeros(model.body_joints, 3)
    rest = model.joints_template
    for side, outward in (("left", 1.0), ("right", -1.0)):
        shoulder, wrist = (model.skeleton.index(f"{side}_{joint}") for joint in ("shoulder", "wrist"))
        x, y, _ = (rest[wrist] - rest[shoulder]).tolist()
        pose[shoulder, 2] = outward * (-math.pi / 4 - math.atan2(y, outward * x))
    return pose[1:].flatten()


def _on_floor(params: BodyParams, model: BodyModel) -> BodyParams:
    lowest = [params.transl[:0, 1]]
    for rows in torch.arange(params.batch).split(_CHUNK):
        with torch.no_grad():
            lowest.append(model(**params.select(rows)).vertices[..., 1].amin(1))
    transl = params.transl.clone()
    transl[:, 1] -= torch.cat(lowest)
    return model.params(**{**params, "transl": transl})
