"""Sides that a detector has mistaken: a leg for the other leg, an arm for the other arm, a back for a front.

A fit that leaves too much unexplained is made again with sides exchanged, and of both the lower objective is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import roma
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.fit.config import FitConfig
from bodyfit.fit.evidence import CheckedEvidence
from bodyfit.fit.initialise.descent import Solved, descend
from bodyfit.fit.objective import BodyTerms, Observations
from bodyfit.fit.variables import Variables
from bodyfit.geometry.rotation import so3_exp
from bodyfit.skeleton import SMPL, layout_names, mirrored_rows

__all__ = ["PARTS", "SWAPS", "Exchanged", "agreeing_lift", "exchanges", "misfit", "turned_round"]

SWAPS = ("arms", "legs", "body")
"""What may have been mistaken, in the order in which it is tried."""

_GAIN = {"arms": 0.9, "legs": 0.85, "body": 0.95}
"""What the objective must fall below, in parts of that of the fit as seen, for chance lowers it a little, too: chosen
on people of the training clips, a few of whom are exchanged in vain."""
_EXPECTED = 4 / 3
"""Factor of the objective from which exchanges are tried, with expectations of the conditional pose prior."""
_HOPE = 1.05
"""The same before the last stage; every mistake that was found there passed it."""

PARTS = {
    "arms": ("elbow", "wrist", "hand", "thumb", "index", "middle", "ring", "pinky"),
    "legs": ("knee", "ankle", "foot", "heel", "toe"),
    "body": ("",),
}
"""Parts of the names of the keypoints that each of `SWAPS` exchanges."""


def exchanges(layout: str) -> Int[Tensor, "E K"]:
    """For each of `SWAPS` the row that each keypoint is to be read from."""
    names = layout_names(layout)
    other = mirrored_rows(names)
    return torch.tensor(
        [[other[i] if any(p in name for p in PARTS[swap]) else i for i, name in enumerate(names)] for swap in SWAPS]
    )


def agreeing_lift(
    lift_m: Float[Tensor, "B K 3"],
    target: Float[Tensor, "B K 2"],
    weight: Float[Tensor, "B K"],
    order: Int[Tensor, "K"],
) -> Float[Tensor, "B K 3"]:
    """The lift as it is or in the given order, whichever looks more like the picture once moved and scaled.

    A network mistakes sides in its picture and lift alike; a lift of another source may have them right.
    """

    def unlike(lift: Tensor) -> Tensor:
        known = torch.isfinite(lift).all(2)
        share = (weight * known).square()
        share = (share / share.sum(1, keepdim=True).clamp_min(1e-12))[..., None]
        a, b = torch.where(known[..., None], lift, 0.0)[..., :2], target
        a, b = (v - (share * v).sum(1, keepdim=True) for v in (a, b))
        aa, ab, bb = ((share * u * v).sum((1, 2)) for u, v in ((a, a), (a, b), (b, b)))
        return bb - ab.clamp_min(0).square() / aa.clamp_min(1e-12)

    other = lift_m[:, order]
    return torch.where((unlike(lift_m) <= unlike(other))[:, None, None], lift_m, other)


def misfit(cost: Float[Tensor, "B"], weight: Float[Tensor, "B K"]) -> Float[Tensor, "B"]:
    """An objective by the keypoints that it has to explain, squared centimetres."""
    return cost / weight.square().sum(1).clamp_min(1e-12)


def turned_round(x: Float[Tensor, "B D"], layout: Variables) -> Float[Tensor, "B D"]:
    """The solver's variables of bodies that face the other way where they stand, in the mirrored pose.

    From afar their silhouettes are the same: what was a front is a back.
    """
    values = layout.unpack(x)
    pose = values["body_pose"].unflatten(1, (-1, 3))
    rows = mirrored_rows(SMPL.names[1 : 1 + pose.shape[1]])
    mirrored = (pose[:, rows] * pose.new_tensor([1.0, -1.0, -1.0])).flatten(1)
    about_y = torch.diag(x.new_tensor([-1.0, 1.0, -1.0]))
    orient = roma.rotmat_to_rotvec(so3_exp(values["global_orient"]) @ about_y)
    return layout.put(x, global_orient=orient, body_pose=mirrored)


@dataclass(frozen=True)
class Exchanged:
    """Fits of one `Fitter` with sides exchanged."""

    terms: BodyTerms
    config: FitConfig
    trust: Float[Tensor, "K"]
    """Of each keypoint."""
    orders: Int[Tensor, "E K"]
    """Of `exchanges`."""
    observe: Callable[[CheckedEvidence, Tensor], Observations]
    """Evidence, and which keypoints are there, as the objective wants it."""
    weighed: Callable[[Solved, Observations], Observations]
    """Observations whose expectations weigh as much as the noise that fits leave."""
    shows_trunk: Callable[[Observations], Tensor]
    """Who may have been seen from behind for from before, (B,); not who shows little but a face."""

    def __call__(
        self,
        solved: Solved,
        first_stage: Solved,
        half_cost: Float[Tensor, "B"],
        known: CheckedEvidence,
        present: Bool[Tensor, "B K"],
        seen: Observations,
    ) -> tuple[Solved, Observations]:
        """Fit who is explained badly once more with each of `SWAPS`, and keep what lowers the objective clearly.

        Returns the fits and the observations that they are judged by from here on.

        `first_stage` and `half_cost` are of everybody after the first stage and before the last. A mistake shows there
        already: who is not better explained goes no farther.
        """
        stages, unchanged_cost = self.config.stages, solved.cost.clone()
        least = self.config.doubtful * (1.0 if seen.expected_weight is None else _EXPECTED)
        doubtful = misfit(unchanged_cost, seen.weight) > least
        for swap, name in enumerate(SWAPS):
            who = (doubtful & self._possible(name, seen)).nonzero()[:, 0]
            if len(who) == 0:
                continue
            other, visible = self.evidence(known.select(who), present[who], self.orders[swap])
            start = first_stage.select(who)
            # At the same scale, for costs to compare.
            now = replace(self.observe(other, visible), scale_cm=seen.scale_cm[who])
            if name == "body":
                start = replace(start, x=turned_round(start.x, self.terms.layout))
            start = replace(start, swapped=torch.full_like(start.swapped, swap))
            start = descend(self.terms, stages[1:-1], start, now)
            rows = (start.cost < _HOPE * half_cost[who]).nonzero()[:, 0]
            who, start = who[rows], start.select(rows)
            now = self.weighed(start, now.select(rows))
            ended = descend(self.terms, stages[1:][-1:], start, now)
            better = (ended.cost < _GAIN[name] * unchanged_cost[who]) & (ended.cost < solved.cost[who])
            solved = solved.replace_rows(who[better], ended.select(better))
            seen = seen.replace_rows(who[better], now.select(better))
        return solved, seen

    def evidence(
        self, known: CheckedEvidence, present: Bool[Tensor, "B K"], order: Int[Tensor, "K"]
    ) -> tuple[CheckedEvidence, Bool[Tensor, "B K"]]:
        """Return the evidence of one camera, and which keypoints are present, with the keypoints in another order; the
        lift as it looks more like them."""
        other, present = replace(known, xyc=known.xyc[:, order], target=known.target[:, order]), present[:, order]
        if known.points_of_depth and known.points_m is not None:
            other = replace(other, points_m=known.points_m[:, order])
        if other.lift_m is not None:
            seen = torch.where(present[..., None], other.target, 0.0)
            other = replace(other, lift_m=agreeing_lift(other.lift_m, seen, present * self.trust, order))
        return other, present

    def as_fitted(
        self, known: CheckedEvidence, present: Bool[Tensor, "B K"], swapped: Int[Tensor, "B"]
    ) -> tuple[CheckedEvidence, Bool[Tensor, "B K"]]:
        """Return the evidence as fitted: with the exchanges of `SWAPS` that the fits made (-1 for none)."""
        for swap, order in enumerate(self.orders):
            rows = (swapped == swap).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            other, visible = self.evidence(known.select(rows), present[rows], order)
            present = present.index_copy(0, rows, visible)
            xyc, target = (getattr(known, name).index_copy(0, rows, getattr(other, name)) for name in ("xyc", "target"))
            known = replace(known, xyc=xyc, target=target)
            if known.points_m is not None and other.points_m is not None:
                known = replace(known, points_m=known.points_m.index_copy(0, rows, other.points_m))
            if known.lift_m is not None and other.lift_m is not None:
                known = replace(known, lift_m=known.lift_m.index_copy(0, rows, other.lift_m))
        return known, present

    def _possible(self, name: str, seen: Observations) -> Bool[Tensor, "B"]:
        """Whether people can be tried so: without a lift, or of a face, backs hardly pass for fronts."""
        if name != "body":
            return torch.ones_like(seen.weight[:, 0], dtype=torch.bool)
        if seen.lift_weight is None:
            return torch.zeros_like(seen.weight[:, 0], dtype=torch.bool)
        return ((seen.lift_weight > 0).sum(1) >= self.config.min_keypoints) & self.shows_trunk(seen)
