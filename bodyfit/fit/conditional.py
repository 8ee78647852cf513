"""What the conditional pose prior expects of people, among their observations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import roma
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.conditional.prior import ConditionalPrior
from bodyfit.fit.observations import Observations
from bodyfit.skeleton import correspondence

__all__ = ["Expectations"]


class Expectations:
    """The conditional pose prior for one model and keypoint layout."""

    def __init__(self, prior: ConditionalPrior, layout: str, *, angles: int, least: int) -> None:
        """Make it for a prior; `angles`: columns of the body pose; `least`: how many keypoints tell of a pose."""
        self.prior, self.angles, self.least = prior, angles, least
        self.rows: Sequence[int] = prior.slots.rows(correspondence(layout))

    def added(self, seen: Observations, confidence: Float[Tensor, "B K"]) -> Observations:
        """Return observations with what is expected of people in one picture.

        `confidence` is that of keypoints, 0 where missing. Of people with few of them nothing is expected.
        """
        lifted = None if seen.lift_weight is None else (seen.lift_weight > 0).to(seen.weight.dtype)
        found = self.prior(self.rows, seen.target, confidence, seen.lift_m, lifted)
        enough = ((confidence > 0).sum(1) >= self.least).to(seen.weight.dtype)
        orient = roma.rotmat_to_rotvec(found.root)
        assert isinstance(orient, Tensor)
        expected = {
            "expected_pose": found.pose.flatten(1)[:, : self.angles],
            "expected_factor": enough[:, None, None, None] * found.pose_factor[:, : self.angles // 3],
            "expected_orient": orient,
        }
        return replace(seen, **{name: value.to(seen.weight) for name, value in expected.items()})
