"""Left and right through time: sides that a detector exchanges for some frames are found by what jumps, and by bodies
that are known to be about there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.fit.evidence import Evidence
from bodyfit.fit.swaps import SWAPS
from bodyfit.fit.terms import geman_mcclure

__all__ = ["EXCHANGED", "centred_by", "expected_sides", "orders_of", "reordered", "steady_sides"]

EXCHANGED = (*SWAPS, "arms and legs")
"""What `FitResult.swapped` may say of a frame of a clip."""

_FAR = 0.3
"""How far a keypoint goes between frames before it has rather jumped, in parts of the person's extent (root mean square
about the middle)."""
_FAR_LIFT_M = 0.15
"""The same in a lift."""
_ODD = 0.15
"""What a frame costs whose sides are exchanged, or exchanged otherwise in the lift than in the picture; a keypoint that
jumps costs 1."""
_MEMORY_S = 0.3
"""How fast a gap makes what came before it matter less."""


def orders_of(single: Int[Tensor, "E K"]) -> Int[Tensor, "E1 K"]:
    """For each of `EXCHANGED` the row that each keypoint is to be read from, by those of `SWAPS`."""
    arms, legs = single[0], single[1]
    return torch.cat([single, arms[legs][None]])


def reordered(
    known: Evidence,
    present: Bool[Tensor, "T K"],
    orders: Int[Tensor, "E K"],
    picture: Int[Tensor, "T"],
    lift: Int[Tensor, "T"],
) -> tuple[Evidence, Bool[Tensor, "T K"]]:
    """The same with each frame's keypoints, and its lift, read in one of the orders; -1 for as they are."""
    own = torch.arange(orders.shape[1], device=orders.device)
    every = torch.cat([orders, own[None]])  # -1 is the last
    rows, by_lift = every[picture], every[lift][..., None].expand(-1, -1, 3)
    known = replace(
        known,
        xyc=known.xyc.gather(1, rows[..., None].expand(-1, -1, 3)),
        target=known.target.gather(1, rows[..., None].expand(-1, -1, 2)),
        lift_m=None if known.lift_m is None else known.lift_m.gather(1, by_lift),
    )
    return known, present.gather(1, rows)


def expected_sides(
    expected: Float[Tensor, "T K C"],
    seen: Float[Tensor, "T K C"],
    weight: Float[Tensor, "T K"],
    scale_cm: Float[Tensor, "T"],
    orders: Int[Tensor, "E K"],
    noise_cm: float,
) -> Int[Tensor, "T"]:
    """Which of some orders of keypoints goes with points that are expected somewhere; -1 for as they are.

    Another order is taken where it leaves less than half, and as they are leaves more than noise does.
    """

    def left(order: Tensor) -> Tensor:
        w = weight[:, order].square()
        r = (expected - seen[:, order]).norm(dim=2) * scale_cm[:, None]
        return (w * geman_mcclure(r, 20.0)[0]).sum(1) / w.sum(1).clamp_min(1e-12)

    as_seen = left(torch.arange(orders.shape[1], device=orders.device))
    other, which = torch.stack([left(order) for order in orders]).min(0)
    return torch.where((other < 0.5 * as_seen) & (as_seen > noise_cm**2), which, -1)


def steady_sides(
    target: Float[Tensor, "T K 2"],
    weight: Float[Tensor, "T K"],
    lift_m: Float[Tensor, "T K 3"] | None,
    lift_weight: Float[Tensor, "T K"] | None,
    times_s: Float[Tensor, "T"],
    orders: Int[Tensor, "E K"],
) -> tuple[Int[Tensor, "T"], Int[Tensor, "T"]]:
    """For each frame the order (-1 for as it is) in which its keypoints, and those of its lift, go on from frame to
    frame with the fewest jumps, and are seldom other than as they are (dynamic programming over both at once).

    Every frame must show something; `times_s` tells of gaps between them.
    """
    n = len(orders) + 1
    if len(target) < 2:
        none = torch.full((len(target),), -1)
        return none, none
    own = torch.arange(orders.shape[1], device=orders.device)
    every = torch.cat([own[None], orders])
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
    extent = (share * centred_by(target, weight).square()).sum((1, 2)).sqrt().clamp_min(1e-6)
    jumps = _jumps(target / (_FAR * extent.median()), weight, every)[:, :, None, :, None]
    n_lift = 1
    if lift_m is not None and lift_weight is not None:
        centred = centred_by(lift_m, lift_weight)
        jumps = jumps + _jumps(centred / _FAR_LIFT_M, lift_weight, every)[:, None, :, None, :]
        n_lift = n
    fade = torch.exp(-((times_s[1:] - times_s[:-1]) / _MEMORY_S))
    price = (fade.view(-1, 1, 1, 1, 1) * jumps).reshape(len(jumps), n * n_lift, n * n_lift)
    picture, lifted = np.divmod(np.arange(n * n_lift), n_lift)
    odd = _ODD * (picture > 0)
    if n_lift > 1:
        odd = odd + _ODD * (lifted > 0) + _ODD * (picture != lifted)
    chosen = torch.as_tensor(_cheapest(price.double().cpu().numpy(), odd), device=target.device)
    return chosen // n_lift - 1, chosen % n_lift - 1


def _jumps(
    points: Float[Tensor, "T K C"], weight: Float[Tensor, "T K"], every: Int[Tensor, "O K"]
) -> Float[Tensor, "S O O"]:
    """How many keypoints jump between consecutive frames, by the orders of the first and the second."""
    p, w = points[:, every], weight[:, every]  # (T, O, K, C)
    r2 = (p[1:, None] - p[:-1, :, None]).square().sum(4)
    return (w[1:, None] * w[:-1, :, None] * r2 / (1 + r2)).sum(3)


def _cheapest(price: Float[np.ndarray, "S A A"], each: Float[np.ndarray, "A"]) -> Int[np.ndarray, "T"]:
    """The states of least total price (Viterbi): `each` of being in a state, `price` of going from one to the next."""
    reached, came = each, np.zeros(price.shape[:2], np.int64)
    for t, step in enumerate(price):
        total = reached[:, None] + step
        came[t] = total.argmin(0)
        reached = total.min(0) + each
    states = [int(reached.argmin())]
    for back in came[::-1]:
        states.append(int(back[states[-1]]))
    return np.array(states[::-1])


def centred_by(points: Float[Tensor, "T K C"], weight: Float[Tensor, "T K"]) -> Float[Tensor, "T K C"]:
    """About their weighted mean."""
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
    return points - (share * points).sum(1, keepdim=True)
