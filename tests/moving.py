"""A person who moves, for tests of files."""

from __future__ import annotations

import torch

from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.sample import random_bodies


def motion(model: BodyModel, frames: int = 13) -> BodyParams:
    """One person over time, from pose to pose of the prior, turning and walking off, upright in camera axes."""
    keys = random_bodies(4, model=model, seed=3)
    at = torch.linspace(0, 3, frames, dtype=model.dtype)
    low = at.long().clamp_max(2)
    share = (at - low)[:, None]
    moved = {k: v[low] * (1 - share) + v[low + 1] * share for k, v in keys.items() if k != "betas"}
    turn = torch.stack([3.0 + 0.1 * at, 0.3 * at, 0 * at], 1)
    transl = torch.stack([0.2 * at, 0.1 + 0 * at, 3 + 0.1 * at], 1)
    return model.params(**{**moved, "betas": keys.betas[:1], "global_orient": turn, "transl": transl})
