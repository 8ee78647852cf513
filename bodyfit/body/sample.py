"""Random bodies."""

from __future__ import annotations

import numpy as np
import torch

from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.pose_prior import PosePrior, load_pose_prior
from bodyfit.errors import OptionError

__all__ = ["random_bodies"]


def random_bodies(
    n: int, *, model: BodyModel | None = None, seed: int = 0, prior: PosePrior | None = None, max_sd: float = 3.0
) -> BodyParams:
    """`n` bodies: betas from the model's normal distribution within `max_sd` deviations, poses from the pose prior
    within the joint limits, standing in the model's own frame at the origin. The same for the same seed.
    """
    if n < 0:
        raise OptionError(f"n must not be negative, got {n}")
    model = load_model() if model is None else model
    prior = (load_pose_prior() if prior is None else prior).of_joints(model.body_joints)
    betas = np.random.default_rng([seed, 1]).standard_normal((n, min(model.num_betas, 10)))
    betas = np.where(np.abs(betas) > max_sd, np.fmod(betas, max_sd), betas)  # folded: no heap of bodies at the limit
    return model.params(
        betas=torch.from_numpy(betas),
        body_pose=torch.from_numpy(prior.sample(n, seed=seed)),
        global_orient=torch.zeros(n, 3),
        transl=torch.zeros(n, 3),
    )
