"""Left and right through time: sides that a detector exchanges for some frames are found by what jumps, and by bodies
that are known to be about there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.initialise.left_right import SWAPS
from bodyfit.fit.residuals.common.robust import geman_mcclure

__all__ = ["EXCHANGED", "centred_by", "expected_sides", "orders_of", "reordered", "steady_sides"]

EXCHANGED = (*SWAPS, "arms and legs", "trunk", "arms and trunk", "legs and trunk")
"""What `FitResult.swapped` may say of a frame of a clip: `SWAPS` and what they make together; a trunk has a head."""

_FAR = 0.2
"""How far a keypoint goes between frames before it has rather jumped, in parts of the person's extent (root mean square
about the middle)."""
_FAR_LIFT_M = 0.1
"""How far a 3D keypoint of a lift goes between frames before it has rather jumped, metres."""
_FAR_OFF = 0.3
"""How far a keypoint may lie from where a lift has it, in parts of the extent."""
_ODD = 0.15
"""What a frame costs whose sides are exchanged in the picture, or in the lift; a keypoint that jumps costs 1."""
_APART = 0.3
"""What a keypoint costs that lies elsewhere in the picture than in the lift: such errors last, jumps are rare."""
_MEMORY_S = 0.3
"""How fast a gap makes what came before it matter less."""
_CHUNK = 256
"""Frames looked at at a time: a clip may last for hours."""


def orders_of(single: Int[Tensor, "3 K"]) -> Int[Tensor, "E K"]:
    """For each of `EXCHANGED` the row that each keypoint is to be read from, by those of `SWAPS`."""
    arms, legs, body = single
    trunk = body[arms[legs]]
    return torch.stack([arms, legs, body, arms[legs], trunk, arms[trunk], legs[trunk]])


def reordered(
    known: CheckedEvidence,
    present: Bool[Tensor, "T K"],
    orders: Int[Tensor, "E K"],
    picture: Int[Tensor, "T"],
    lift: Int[Tensor, "T"],
) -> tuple[CheckedEvidence, Bool[Tensor, "T K"]]:
    """Reorder each frame's keypoints, and its lift, by one of the orders; -1 leaves them."""
    own = torch.arange(orders.shape[1], device=orders.device)
    every = torch.cat([orders, own[None]])  # -1 is the last
    rows, by_lift = every[picture], every[lift][..., None].expand(-1, -1, 3)
    points = known.points_m
    if known.points_of_depth and points is not None:
        points = points.gather(1, rows[..., None].expand(-1, -1, 3))
    known = replace(
        known,
        xyc=known.xyc.gather(1, rows[..., None].expand(-1, -1, 3)),
        target=known.target.gather(1, rows[..., None].expand(-1, -1, 2)),
        lift_m=None if known.lift_m is None else known.lift_m.gather(1, by_lift),
        points_m=points,
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

    unchanged = left(torch.arange(orders.shape[1], device=orders.device))
    other, which = torch.stack([left(order) for order in orders]).min(0)
    return torch.where((other < 0.5 * unchanged) & (unchanged > noise_cm**2), which, -1)


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
    far = _FAR * extent.median()

    def some(rows: Int[Tensor, "S"]) -> tuple[list[Float[np.ndarray, "S O O"]], Float[np.ndarray, "S O O"] | None]:
        """Jumps from each of these frames to the next, and how far apart picture and lift are in the next."""
        pair = torch.cat([rows, rows[-1:] + 1])
        seen, sure, share = target[pair], weight[pair], fade[rows]
        jumps = [_jumps(seen / far, sure, every, share)]
        if lift_m is None or lift_weight is None:
            return jumps, None
        lifted, known = lift_m[pair], lift_weight[pair]
        jumps.append(_jumps(centred_by(lifted, known) / _FAR_LIFT_M, known, every, share))
        return jumps, _disagreement(seen[1:], sure[1:], lifted[1:], known[1:], every)

    first = None
    if lift_m is not None and lift_weight is not None:
        first = _disagreement(target[:1], weight[:1], lift_m[:1], lift_weight[:1], every)
    steps = map(some, torch.arange(len(fade), device=target.device).split(_CHUNK))
    picture, lift = _steadiest(first, steps, len(every), len(fade))
    return torch.as_tensor(picture - 1, device=target.device), torch.as_tensor(lift - 1, device=target.device)


def _jumps(
    points: Float[Tensor, "T K C"], weight: Float[Tensor, "T K"], every: Int[Tensor, "O K"], fade: Float[Tensor, "S"]
) -> Float[np.ndarray, "S O O"]:
    """How many keypoints jump between consecutive frames, by the orders of the first and the second."""
    (p, w), (q, v) = ((points[r][:, every], weight[r][:, every]) for r in (slice(-1), slice(1, None)))  # (S, O, K, C)
    r2 = (q[:, None] - p[:, :, None]).square().sum(4)
    return (fade[:, None, None] * (v[:, None] * w[:, :, None] * r2 / (1 + r2)).sum(3)).cpu().double().numpy()


def _disagreement(
    target: Float[Tensor, "T K 2"],
    weight: Float[Tensor, "T K"],
    lift_m: Float[Tensor, "T K 3"],
    lift_weight: Float[Tensor, "T K"],
    every: Int[Tensor, "O K"],
) -> Float[np.ndarray, "T O O"]:
    """How many keypoints lie elsewhere in the picture than in the lift, moved and scaled, by the orders of both."""
    a = lift_m[:, every, :2][:, None]  # (T, 1, O, K, 2)
    b = target[:, every][:, :, None]
    w = weight[:, every][:, :, None] * lift_weight[:, every][:, None]
    share = (w / w.sum(3, keepdim=True).clamp_min(1e-12))[..., None]
    a, b = a - (share * a).sum(3, keepdim=True), b - (share * b).sum(3, keepdim=True)
    aa, ab, bb = ((share * u * v).sum((3, 4), keepdim=True) for u, v in ((a, a), (a, b), (b, b)))
    r2 = (b - ab.clamp_min(0) / aa.clamp_min(1e-12) * a).square().sum(4)
    r2 = r2 / (_FAR_OFF**2 * bb[..., 0]).clamp_min(1e-12)
    return (w * r2 / (1 + r2)).sum(3).cpu().double().numpy()


def _steadiest(
    first: Float[np.ndarray, "1 O O"] | None,
    steps: Iterable[tuple[list[Float[np.ndarray, "S O O"]], Float[np.ndarray, "S O O"] | None]],
    n: int,
    n_s: int,
) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "T"]]:
    """The orders of picture and lift that jump least (Viterbi over both); of a picture alone the lift's are its own.

    `first`: how far picture and lift are apart in the first frame; `steps`: some frames at a time, `n_s` in all, the
    jumps to each and how far they are apart in it. There are n orders.
    """
    alone = _ODD * (np.arange(n) > 0)
    both = alone if first is None else (alone[:, None] + alone).ravel()
    reached = both if first is None else both + _APART * first.ravel()
    came, t = np.zeros((n_s, len(both)), np.uint8), 0
    for jumps, apart in steps:
        for k, price in enumerate(jumps[0]):
            odd = both
            if apart is not None:
                price = (price[:, None, :, None] + jumps[1][k][None, :, None]).reshape(n * n, n * n)
                odd = both + _APART * apart[k].ravel()
            total = reached[:, None] + price
            came[t] = total.argmin(0)
            reached = total.min(0) + odd
            reached = reached - reached.min()
            t += 1
    states = [int(reached.argmin())]
    for back in came[::-1]:
        states.append(int(back[states[-1]]))
    chosen = np.array(states[::-1])
    return (chosen, chosen) if first is None else (chosen // n, chosen % n)


def centred_by(points: Float[Tensor, "T K C"], weight: Float[Tensor, "T K"]) -> Float[Tensor, "T K C"]:
    """About their weighted mean."""
    share = (weight / weight.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
    return points - (share * points).sum(1, keepdim=True)
