"""Starts for a whole track from fits of single frames: made to agree with their neighbours, and spread between them."""

from __future__ import annotations

import roma
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.fit.initialise.left_right import turned_round
from bodyfit.fit.variables import Variables
from bodyfit.geometry.rotation import so3_exp

__all__ = ["agreeing", "between", "unwrapped"]

_TURN = 1.0
"""Radians that a person turns between keyframes without anyone wondering."""
_CHUNK = 4096
"""Frames whose rotations are made at once: a clip may last for hours."""


def agreeing(
    x: Float[Tensor, "N D"], times_s: Float[Tensor, "N"], layout: Variables
) -> tuple[Float[Tensor, "N D"], Int[Tensor, "N"]]:
    """Fits of single frames, those turned round that face away from what their neighbours face; and which these are.

    From afar a front looks like a back, and a single frame may take one for the other. Of all ways to turn frames round
    the one is taken that turns least from frame to frame (dynamic programming): each frame that is turned round costs
    as much as a turn of one radian.
    """
    n = len(x)
    both = torch.stack([x, turned_round(x, layout)], 1)
    if n < 3:
        return x, torch.zeros(n, dtype=torch.int64, device=x.device)
    R = so3_exp(both[..., layout["global_orient"]])
    cosine = ((R[:-1, :, None] * R[1:, None]).sum((3, 4)) - 1) / 2  # (N - 1, before, after)
    angle = cosine.clamp(-1, 1).acos()
    # A long gap tells little of what came after.
    price = (angle / _TURN).square().clamp(max=4) / (1 + (times_s[1:] - times_s[:-1])[:, None, None])
    price = price.cpu().double()
    turning = torch.tensor([0.0, 1.0], dtype=torch.float64)
    reached, came = turning.clone(), []
    for step in price:
        total = reached[:, None] + step
        came.append(total.argmin(0))
        reached = total.min(0).values + turning
    state = int(reached.argmin())
    chosen = [state]
    for back in reversed(came):
        state = int(back[state])
        chosen.append(state)
    picked = torch.tensor(chosen[::-1], device=x.device)
    return both[torch.arange(n, device=x.device), picked], picked


def between(
    x: Float[Tensor, "N D"], at: Int[Tensor, "N"], frames: Int[Tensor, "T"], layout: Variables
) -> Float[Tensor, "T D"]:
    """Variables of a frame at `frames` from those at frames `at`, ascending: rotations on the shortest way, all else on
    the straight one; beyond the ends as at the ends."""
    if len(frames) > _CHUNK:
        return torch.cat([between(x, at, some, layout) for some in frames.split(_CHUNK)])
    after = torch.searchsorted(at, frames).clamp(1, max(len(at) - 1, 1)).clamp(max=len(at) - 1)
    before = (after - 1).clamp_min(0)
    span = (at[after] - at[before]).clamp_min(1)
    share = ((frames - at[before]) / span).clamp(0, 1).to(x.dtype)[:, None]
    straight = torch.lerp(x[before], x[after], share)
    R = so3_exp(layout.rotvecs(x))
    way = roma.rotmat_to_rotvec(R[before].mT @ R[after])
    assert isinstance(way, Tensor)
    turned = R[before] @ so3_exp(share[..., None] * way)
    rotvec = roma.rotmat_to_rotvec(turned)
    assert isinstance(rotvec, Tensor)
    return layout.put_rotvecs(straight, rotvec)


def unwrapped(rotvecs: Float[Tensor, "T J 3"]) -> Float[Tensor, "T J 3"]:
    """Unwrap axis-angles over time: choose for each rotation the branch nearer to the previous frame's.

    Values then do not jump where the motion does not; angles stay below two turns.
    """
    angle = rotvecs.norm(dim=2, keepdim=True).clamp_min(1e-9)
    other = rotvecs * (1 - 2 * torch.pi / angle)
    # Whether each frame's nearest branch changes against the frame before, summed up: 0 or 1 turn.
    changes = (other[1:] - rotvecs[:-1]).norm(dim=2) < (rotvecs[1:] - rotvecs[:-1]).norm(dim=2)
    odd = torch.nn.functional.pad(changes.cumsum(0) % 2 == 1, (0, 0, 1, 0))[: len(rotvecs)]
    return torch.where(odd[..., None], other, rotvecs)
