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

    def __init__(self, prior: ConditionalPrior, layout: str, angles: int, trust: Float[Tensor, "K"]) -> None:
        self.prior, self.angles, self.trust = prior, angles, trust
        self.rows: Sequence[int] = prior.slots.rows(correspondence(layout))
        self.known = trust.new_tensor([float(row >= 0) for row in self.rows])

    def added(self, seen: Observations, confidence: Float[Tensor, "B K"]) -> Observations:
        """Return observations with the expected poses of people in one picture."""
        lifted = None if seen.lift_weight is None else (seen.lift_weight > 0).to(seen.weight.dtype)
        found = self.prior(self.rows, seen.target, confidence, seen.lift_m, lifted)
        pose, factor = found.pose.flatten(1)[:, : self.angles], found.pose_factor[:, : self.angles // 3]
        orient = roma.rotmat_to_rotvec(found.root)
        assert isinstance(orient, Tensor)
        more = {"expected_pose": pose, "expected_factor": factor, "expected_orient": orient}
        return replace(seen, **{name: value.to(seen.weight) for name, value in more.items()})
