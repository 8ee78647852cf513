"""What the conditional pose prior expects of people, among their observations, and what it weighs beside keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.conditional.prior import ConditionalPrior
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.reprojection import projected
from bodyfit.skeleton import correspondence

__all__ = ["Expectations", "noise_cm", "weighed_by_noise"]

_USUAL_CM = 1.5
"""Noise of keypoints that expectations are weighed by until a fit tells it, before the last stage."""
_LEAST_CM, _MOST_CM = 0.9, 2.7
"""Range of the noise by which a single picture's expectations are weighed. A fit that leaves less explains the noise as
well as the keypoints; one that leaves more is mistaken, or a keypoint is."""
_WILD_CM = 6.0
"""Distance at which a keypoint's error counts no more."""


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
        # Of joints that the body does not have, the errors are taken for 0.
        size = 3 + self.angles
        expected = {
            "expected_pose": found.pose.flatten(1)[:, : self.angles],
            "expected_orient": orient,
            "expected_precision": enough[:, None, None] * found.precision[:, :size, :size],
            "expected_weight": torch.full_like(enough, _USUAL_CM),
        }
        return replace(seen, **{name: value.to(seen.weight) for name, value in expected.items()})


def noise_cm(points_m: Float[Tensor, "B K 3"], seen: Observations) -> Float[Tensor, "B"]:
    """Estimate the standard deviation of each person's keypoints by their distances from fitted points, centimetres.

    points_m: the layout's points in camera axes. Where a person is so small that pixels blur them, centimetres are
    those of the residuals (`Observations.scale_cm`).
    """
    uv, _ = projected(points_m)
    scale = seen.scale_cm if seen.scale_cm.ndim == 2 else seen.scale_cm[:, None]
    off2 = (uv - seen.target).square().sum(2) * scale.square()
    share = seen.weight.square()
    mean = (share * off2.clamp(max=_WILD_CM**2)).sum(1) / (2 * share.sum(1)).clamp_min(1e-9)
    return mean.sqrt()


def weighed_by_noise(seen: Observations, noise: Float[Tensor, "B"], least_cm: float = _LEAST_CM) -> Observations:
    """Return observations whose expectations weigh as much as a noise of the keypoints, centimetres, makes them."""
    if seen.expected_weight is None:
        return seen
    return replace(seen, expected_weight=noise.clamp(least_cm, _MOST_CM).to(seen.weight))
