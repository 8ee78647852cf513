"""Sample random bodies: shapes from the model's normal distribution, poses from the pose prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.anthropometry.height import HeightDistribution, check_heights
from bodyfit.body.contact.self_contact import SelfContact
from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.pose_prior import PosePrior, load_pose_prior
from bodyfit.errors import OptionError

__all__ = ["POSES", "random_bodies"]

POSES = ("mocap-like", "rest", "a-pose")
"""Poses: sampled from the pose prior, the model's T-pose, or the T-pose with the arms 45 degrees down."""

_BETAS = 10
_TOUCH_M = 0.01
"""Depth of contact that soft tissue allows; deeper contact counts as self-penetration."""
_MAX_DRAWS = 50
"""Draws of a pose, about half of which are rejected: one body in 10^15 is left, which keeps its least bad pose."""
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
    """Sample `n` bodies: betas from the standard normal distribution within `max_sd` deviations, upright at the origin.

    pose: "mocap-like" (from the pose prior within the joint limits; poses in which a limb penetrates another part by
    more than about 1 cm are drawn again), "rest" (the T-pose) or "a-pose" (the arms 45 degrees down). heights: least
    and greatest height, metres; shapes are then conditioned on heights in that range. floor: translate the lowest
    vertex to y = 0; otherwise the pelvis stays where the model has it. The same seed gives the same bodies, and body i
    does not depend on `n`. Raises `OptionError`.
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
        body_pose, lowest = _free_poses(betas, model, load_pose_prior() if prior is None else prior, seed)
    else:
        body_pose, lowest = betas.new_zeros(n, 3 * (model.body_joints - 1)), None
        if pose == "a-pose":
            body_pose[:] = _arms_down(model)
    params = model.params(betas=betas, body_pose=body_pose)
    if not floor:
        return params
    transl = params.transl.clone()
    transl[:, 1] -= _lowest(params, model) if lowest is None else lowest
    return model.params(**{**params, "transl": transl})


def _shapes(
    n: int, model: BodyModel, seed: int, max_sd: float, heights: Sequence[float | int] | None
) -> Float[np.ndarray, "N S"]:
    """Sample betas, each body from its own random stream. Raises `OptionError`."""
    columns = min(model.num_betas, _BETAS)
    distribution = None if heights is None else HeightDistribution(model, columns, check_heights(heights), max_sd)
    sources = [np.random.default_rng([seed, 1, i]) for i in range(n)]
    betas = np.zeros((n, columns))
    remaining = np.arange(n)
    for _ in range(_MAX_DRAWS):
        draws = np.stack([sources[i].standard_normal(columns) for i in remaining]) if len(remaining) else betas[:0]
        # Wrapped at the limit, not clipped, so that bodies do not pile up there.
        draws = np.where(np.abs(draws) > max_sd, np.fmod(draws, max_sd), draws)
        fits = np.ones(len(remaining), bool)
        if distribution is not None:
            draws, fits = distribution.condition(draws)
        betas[remaining] = draws
        # Conditioning on height moves some bodies beyond the limit: draw those again.
        remaining = remaining[~fits | (np.abs(draws).max(1, initial=0.0) > max_sd)]
        if not len(remaining):
            return betas
    raise OptionError(f"hardly any body within max_sd={max_sd:g} has one of the heights {heights}; give a wider range")


def _free_poses(
    betas: Float[Tensor, "N S"], model: BodyModel, prior: PosePrior, seed: int
) -> tuple[Float[Tensor, "N P"], Float[Tensor, "N"]]:
    """Sample poses from the prior without self-penetration; poses, and the height of each body's lowest vertex."""
    n, angles = len(betas), 3 * (model.body_joints - 1)
    contact = _contact(model)
    sources = [np.random.default_rng([seed, 2, i]) for i in range(n)]
    poses, lowest = betas.new_zeros(n, angles), betas.new_zeros(n)
    least = torch.full((n,), torch.inf, dtype=torch.float64)
    remaining = torch.arange(n)
    for _ in range(_MAX_DRAWS):
        if not len(remaining):
            break
        uniform = np.array([sources[i].random() for i in remaining.tolist()])
        normal = np.stack([sources[i].standard_normal(prior.means.shape[1]) for i in remaining.tolist()])
        draws = torch.from_numpy(prior.pose_of(uniform, normal)[:, :angles]).to(betas)
        depth, low = _depth(model, contact, betas[remaining], draws)
        better = depth < least[remaining]
        chosen, device = remaining[better], draws.device
        poses[chosen], lowest[chosen] = draws[better.to(device)], low[better.to(device)]
        least[chosen] = depth[better]
        remaining = remaining[depth > _TOUCH_M]
    return poses, lowest


_CONTACTS: WeakKeyDictionary[BodyModel, SelfContact] = WeakKeyDictionary()


def _contact(model: BodyModel) -> SelfContact:
    """The model's pairs of parts that may touch, found once: it takes longer than drawing one body."""
    if model not in _CONTACTS:
        _CONTACTS[model] = SelfContact(model)
    return _CONTACTS[model]


def _depth(
    model: BodyModel, contact: SelfContact, betas: Float[Tensor, "B S"], body_pose: Float[Tensor, "B P"]
) -> tuple[Float[Tensor, "B"], Float[Tensor, "B"]]:
    """Measure the depth of self-penetration and the height of the lowest vertex, metres; chunks bound the memory."""
    depths, lowest = [], []
    for rows in torch.arange(len(betas)).split(_CHUNK):
        with torch.no_grad():
            vertices = model(betas=betas[rows], body_pose=body_pose[rows]).vertices
        depths.append(contact.depth(vertices))
        lowest.append(vertices[..., 1].amin(1))
    return torch.from_numpy(np.concatenate(depths)), torch.cat(lowest)


def _arms_down(model: BodyModel) -> Float[Tensor, "P"]:
    """Return the pose whose shoulders turn about z until the mean body's arms point 45 degrees down."""
    pose = model.v_template.new_zeros(model.body_joints, 3)
    rest = model.joints_template
    for side, outward in (("left", 1.0), ("right", -1.0)):
        shoulder, wrist = (model.skeleton.index(f"{side}_{joint}") for joint in ("shoulder", "wrist"))
        x, y, _ = (rest[wrist] - rest[shoulder]).tolist()
        pose[shoulder, 2] = outward * (-math.pi / 4 - math.atan2(y, outward * x))
    return pose[1:].flatten()


def _lowest(params: BodyParams, model: BodyModel) -> Float[Tensor, "B"]:
    """The height of each body's lowest vertex."""
    lowest = [params.transl[:0, 1]]
    for rows in torch.arange(params.batch).split(_CHUNK):
        with torch.no_grad():
            lowest.append(model(**params.select(rows)).vertices[..., 1].amin(1))
    return torch.cat(lowest)
