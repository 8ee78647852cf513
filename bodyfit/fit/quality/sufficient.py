"""Whether the evidence is enough to place a body by, and why not, in words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.skeleton import SMPL

__all__ = [
    "BEYOND",
    "FAR",
    "INVALID",
    "IN_ONE_PLACE",
    "LOST",
    "NOTHING",
    "Shortcomings",
    "beyond_the_edges",
    "bodiless",
    "in_one_place",
    "odd_size",
    "too_far",
]

INVALID = "keypoints that are given as visible have no finite place"
IN_ONE_PLACE = "all keypoints lie in one place"
BEYOND = "all keypoints lie beyond the picture"
NOTHING = "nothing of the person is visible before or after this frame"
LOST = "the keypoints lead to numbers that cannot be worked with"
FAR = "the body would be over a kilometre away; keypoints must be pixels of this picture, focal lengths its own"

_SPOT_PX = 6.0
"""Keypoints within a square of this side tell no size: a detector errs by as much."""
_SPOT_M = 0.05
"""Measured points within a cube of this side tell no size, either."""
_MARGIN = 0.05
"""Keypoints so far beyond the picture, in parts of its longer side, still count as in it."""
_SIZES = (0.1, 3.0)
"""How far measured points may be spread, in parts of how far they are on the mean body at rest."""
_FARTHEST_M = 1000.0
_LIMBS = ("knee", "ankle", "foot", "elbow", "wrist", "hand")


@dataclass(frozen=True)
class Shortcomings:
    """What is wrong with the evidence for each person, the gravest first."""

    found: dict[str, Bool[Tensor, "B"]]
    """Who is meant, by the reason in words."""

    def any(self) -> Bool[Tensor, "B"]:
        """Who has any."""
        return torch.stack(list(self.found.values())).any(0)

    def reasons(self) -> tuple[str | None, ...]:
        """The gravest of each person, in words."""
        words: list[str | None] = [None] * len(next(iter(self.found.values())))
        for reason, mask in reversed(self.found.items()):
            for i in mask.nonzero()[:, 0].tolist():
                words[i] = reason
        return tuple(words)


def in_one_place(
    points: Float[Tensor, "B *C K D"], there: Bool[Tensor, "B *C K"], *, metres: bool = False
) -> Bool[Tensor, "B"]:
    """Who has points, but in each view all of them in a spot (pixels, or metres for measured points)."""
    here = there[..., None]
    high = torch.where(here, points, -torch.inf).amax(-2)
    low = torch.where(here, points, torch.inf).amin(-2)
    narrow = ((high - low) < (_SPOT_M if metres else _SPOT_PX)).all(-1)  # of no points: -inf - inf
    return narrow.flatten(1).all(1) & there.flatten(1).any(1) if narrow.ndim > 1 else narrow & there.any(1)


def beyond_the_edges(
    xyc: Float[Tensor, "B K 3"], there: Bool[Tensor, "B K"], size_px: Float[Tensor, "#B 2"]
) -> Bool[Tensor, "B"]:
    """Who has keypoints, but none in the picture."""
    margin = _MARGIN * size_px.amax(1)[:, None, None]
    xy = xyc[..., :2]
    inside = ((xy >= -margin) & (xy <= size_px[:, None] + margin)).all(2)
    return there.any(1) & ~(there & inside).any(1)


def bodiless(observed: Bool[Tensor, "B N"]) -> Bool[Tensor, "B"]:
    """Tell of which people only the outer part of a limb is observed: a hand, a foot, a forearm, a shank."""
    limb = [any(part in name for part in _LIMBS) for name in SMPL.names[: observed.shape[1]]]
    outer = torch.tensor(limb, device=observed.device)
    return observed.any(1) & ~(observed & ~outer).any(1)


def odd_size(
    points_m: Float[Tensor, "B P 3"], there: Bool[Tensor, "B P"], body_m: Float[Tensor, "#B P 3"]
) -> Bool[Tensor, "B"]:
    """Whose measured points are spread much less or more than the same points of a body: the unit is another one."""

    def spread(points: Tensor) -> Tensor:
        share = (there / there.sum(1, keepdim=True).clamp_min(1))[..., None]
        points = torch.where(there[..., None], points, 0.0)
        return (share * (points - (share * points).sum(1, keepdim=True)).square()).sum((1, 2)).sqrt()

    ratio = spread(points_m) / spread(body_m.expand_as(points_m)).clamp_min(1e-6)
    return (there.sum(1) >= 2) & ((ratio < _SIZES[0]) | (ratio > _SIZES[1]))


def too_far(place_m: Float[Tensor, "B 3"]) -> Bool[Tensor, "B"]:
    """Who stands so far away that the numbers, not the person, are the cause."""
    return place_m.norm(dim=1) > _FARTHEST_M
