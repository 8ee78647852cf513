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

EXCHANGED = (*SWAPS, "arms and legs", "trunk", "arms and trunk", "legs and trunk")
"""What `FitResult.swapped` may say of a frame of a clip: `SWAPS` and what they make together; a trunk has a head."""

_FAR = 0.2
"""How far a keypoint goes between frames before it has rather jumped, in parts of the person's extent (root mean square
about the middle)."""
_FAR_LIFT_M = 0.1
"""The same in a lift."""
_FAR_OFF = 0.3
"""How far a keypoint may lie from where a lift has it, in parts of the extent."""
_ODD = 0.15
"""What a frame costs whose sides are exchanged in the picture, or in the lift; a keypoint that jumps costs 1."""
_APART = 0.3
"""What a keypoint costs that lies elsewhere in the picture than in the lift: such errors last, jumps are rare."""
_MEMORY_S = 0.3
"""How fast a gap makes what came before it matter less."""


def orders_of(single: Int[Tensor, "3 K"]) -> Int[Tensor, "E K"]:
    """For each of `EXCHANGED` the row that each keypoint is to be read from, by those of `SWAPS`."""
    arms, legs, body = single
    trunk = body[arms[legs]]
    return torch.stack([arms, legs, body, arms[legs], trunk, arms[trunk], legs[trunk]])


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
    if len(target) < 2:
        none = torch.full((len(target),), -1)
        return none, none
    every = torch.cat([torch.arange(orders.shape[1], device=orders.device)[None], orders])
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
    extent = (share * centred_by(target, weight).square()).sum((1, 2)).sqrt().clamp_min(1e-6)
    fade = torch.exp(-((times_s[1:] - times_s[:-1]) / _MEMORY_S))
    jumps, odd = [_jumps(target / (_FAR * extent.median()), weight, every, fade)], None
    if lift_m is not None and lift_weight is not None:
        odd = _disagreement(target, weight, lift_m, lift_weight, every)
        jumps.append(_jumps(centred_by(lift_m, lift_weight) / _FAR_LIFT_M, lift_weight, every, fade))
    picture, lift = _steadiest(jumps, odd)
    return torch.as_tensor(picture - 1, device=target.device), torch.as_tensor(lift - 1, device=target.device)


def _jumps(
    points: Float[Tensor, "T K C"], weight: Float[Tensor, "T K"], every: Int[Tensor, "O K"], fade: Float[Tensor, "S"]
) -> Float[np.ndarray, "S O O"]:
    """How many keypoints jump between consecutive frames, by the orders of the first and the second."""
    parts = []
    for rows in torch.arange(len(fade), device=points.device).split(256):
        (p, w), (q, v) = ((points[r][:, every], weight[r][:, every]) for r in (rows, rows + 1))  # (S, O, K, C)
        r2 = (q[:, None] - p[:, :, None]).square().sum(4)
        parts.append((fade[rows, None, None] * (v[:, None] * w[:, :, None] * r2 / (1 + r2)).sum(3)).cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


def _disagreement(
    target: Float[Tensor, "T K 2"],
    weight: Float[Tensor, "T K"],
    lift_m: Float[Tensor, "T K 3"],
    lift_weight: Float[Tensor, "T K"],
    every: Int[Tensor, "O K"],
) -> Float[np.ndarray, "T O O"]:
    """How many keypoints lie elsewhere in the picture than in the lift, moved and scaled, by the orders of both."""
    parts = []
    for rows in torch.arange(len(target), device=target.device).split(256):
        a = lift_m[rows][:, every, :2][:, None]  # (S, 1, O, K, 2)
        b = target[rows][:, every][:, :, None]
        w = weight[rows][:, every][:, :, None] * lift_weight[rows][:, every][:, None]
        share = (w / w.sum(3, keepdim=True).clamp_min(1e-12))[..., None]
        a, b = a - (share * a).sum(3, keepdim=True), b - (share * b).sum(3, keepdim=True)
        aa, ab, bb = ((share * u * v).sum((3, 4), keepdim=True) for u, v in ((a, a), (a, b), (b, b)))
        r2 = (b - ab.clamp_min(0) / aa.clamp_min(1e-12) * a).square().sum(4) / (_FAR_OFF**2 * bb[..., 0]).clamp_min(
            1e-12
        )
        parts.append((w * r2 / (1 + r2)).sum(3).cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


def _steadiest(
    jumps: list[Float[np.ndarray, "S O O"]], apart: Float[np.ndarray, "T O O"] | None
) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "T"]]:
    """The orders of picture and lift that jump least (Viterbi over both); of a picture alone the lift's are its own."""
    n_s, n = jumps[0].shape[:2]
    order = np.arange(n)
    odd = np.broadcast_to(_ODD * (order > 0), (n_s + 1, n))
    if apart is not None:
        odd = (odd[:, :, None] + odd[:, None] + _APART * apart).reshape(n_s + 1, -1)
    reached, came = odd[0], np.zeros((n_s, odd.shape[1]), np.uint8)
    for t in range(n_s):
        price = jumps[0][t]
        if apart is not None:
            price = (price[:, None, :, None] + jumps[1][t][None, :, None]).reshape(n * n, n * n)
        total = reached[:, None] + price
        came[t] = total.argmin(0)
        reached = total.min(0) + odd[t + 1]
        reached = reached - reached.min()
    states = [int(reached.argmin())]
    for back in came[::-1]:
        states.append(int(back[states[-1]]))
    chosen = np.array(states[::-1])
    return (chosen // n, chosen % n) if apart is not None else (chosen, chosen)


def centred_by(points: Float[Tensor, "T K C"], weight: Float[Tensor, "T K"]) -> Float[Tensor, "T K C"]:
    """About their weighted mean."""
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
    return points - (share * points).sum(1, keepdim=True)
