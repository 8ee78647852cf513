"""Points of hands: where they are seen, a detector's lift of them, and measured places."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.parts import PartTables
from bodyfit.body.points.posed import Points
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.parts import HAND_POINTS, PartObservations
from bodyfit.fit.residuals.base import BlockTerm, Loop, PointResidual, PointTerm
from bodyfit.fit.residuals.common.normal import NormalPrior
from bodyfit.fit.residuals.lift import LiftArrays, centred_distance
from bodyfit.fit.residuals.measured import MeasuredArrays, distance
from bodyfit.fit.residuals.parts.arrays import (
    HandLiftArrays,
    PartMeasuredArrays,
    PartReprojectionArrays,
    blank_reprojection,
    empty_tables,
    in_picture,
    numpy_type,
    part_tables,
    plain,
)
from bodyfit.fit.residuals.parts.offsets import HAND_OFFSET, offset_term
from bodyfit.fit.residuals.reprojection import in_views
from bodyfit.fit.setup import Setup
from bodyfit.fit.variables import Block

__all__ = [
    "HAND_SCALE",
    "HandLift",
    "HandPoints",
    "HandReprojection",
    "ScalePrior",
    "hand_noise_scale",
    "part_scale",
    "scaled_term",
]

HAND_SCALE = Block("hand_scale", 2, shared=True)
"""The logarithm of how much larger each hand is than the body's shape says: betas hardly tell, and a hand's size in the
picture must not be taken for its distance."""
_NOISE_CM, _SIGMA_CM = 0.4, 4.0
"""How well a point of a hand marks its place, and where its residual saturates."""
_SATURATED = _SIGMA_CM * 2.0 / _NOISE_CM
"""The same in the residual's units."""
_LIFT_NOISE_CM, _LIFT_SIGMA_CM = 3.0, 6.0
"""The same of a lift: a network's bends fingers wrongly by 1.5 cm a point, all points of a finger alike."""
_MEASURED_NOISE_CM, _MEASURED_SIGMA_CM = 0.5, 8.0
_UNIT_CM = 2.0
"""What a residual of 1 weighs as much as: body keypoints are in centimetres and err by 2 (`FitConfig.noise_cm`)."""


class _OnHands(PointResidual):
    """A residual on the 42 points of both hands. The shape does not answer to it: two hands are not to make a body."""

    group, weight, feels_shape = "seen", 1.0, False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    @classmethod
    def of(cls, setup: Setup):
        """Make the residual for the points of the setup's hands."""
        return cls(setup)

    @cached_property
    def tables(self) -> PartTables:
        """Both hands' points for the loops."""
        return part_tables(self.setup, self.points(self.setup), 2, HAND_SCALE.name, HAND_OFFSET.name)

    def points(self, setup: Setup) -> Points:
        """Those of both hands."""
        assert setup.hands is not None
        return setup.hands


class HandReprojection(_OnHands):
    """Robust distances of hand points in the picture of each camera."""

    name = "hands"
    loop = Loop("own points", "bodyfit.fit.residuals.loops.parts:reproject_parts", PartReprojectionArrays, whole=True)

    def applies(self, seen: Observations) -> bool:
        """Whether there are any."""
        return seen.parts is not None and seen.parts.hands_target is not None

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """The term, of hands scaled about their wrists."""
        parts = seen.parts
        assert parts is not None
        target, weight, scale = parts.hands_target, parts.hands_weight, hand_noise_scale(parts)
        assert target is not None
        assert weight is not None

        def term(points: Tensor) -> PointTerm:
            return in_views(points, target, weight, scale, _SATURATED, seen.rig)

        offset, size = variables.get(HAND_OFFSET.name), variables.get(HAND_SCALE.name)

        def scaled(p: Tensor) -> PointTerm:
            # About the mean an offset and the size are told apart.
            return scaled_term(p, size, HAND_SCALE.name, term, about_mean=offset is not None)

        return offset_term(points_m.unflatten(1, (2, HAND_POINTS)), offset, HAND_OFFSET.name, scaled)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> PartReprojectionArrays:
        """Make the inputs of the compiled kernel."""
        parts, about_mean = seen.parts, HAND_OFFSET.name in self.setup.layout
        assert parts is not None
        own = parts.hands_target, parts.hands_weight, hand_noise_scale(parts)
        return PartReprojectionArrays(weight, self.tables, about_mean, in_picture(seen, weight, _SATURATED, *own))

    @classmethod
    def blank(cls, setup: Setup) -> Any:
        """Make empty inputs of weight 0."""
        return blank_reprojection(setup)


class HandLift(_OnHands):
    """Distances to the lift of each hand after both are centred and the lift is given the hand's size."""

    name, centred = "hands_lift", True
    loop = Loop("own points", "bodyfit.fit.residuals.loops.parts:hands_lift", HandLiftArrays, whole=True)

    def applies(self, seen: Observations) -> bool:
        """Whether there is one."""
        return seen.parts is not None and seen.parts.hands_lift_m is not None

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """The sum of the terms of both hands."""
        parts = seen.parts
        assert parts is not None
        assert parts.hands_lift_m is not None
        assert parts.hands_lift_weight is not None
        n = len(points_m)
        lift, weight = parts.hands_lift_m, parts.hands_lift_weight
        p, q, weight = (v.unflatten(1, (2, -1)).flatten(0, 1) for v in (points_m, lift, weight))
        term = centred_distance(p, q, weight, _LIFT_SIGMA_CM)
        w2 = (_UNIT_CM / _LIFT_NOISE_CM) ** 2
        assert term.stiffness is not None
        assert term.coupling is not None
        force, stiffness = (w2 * v.unflatten(0, (n, 2)).flatten(1, 2) for v in (term.force, term.stiffness))
        # Vectors that couple the points of one hand are 0 at the other's.
        own = torch.eye(2, dtype=force.dtype, device=force.device)[:, None, :, None, None]
        left, right = ((own * v.unflatten(0, (n, 2))[:, :, :, None]).flatten(3, 4).flatten(1, 2) for v in term.coupling)
        return PointTerm(w2 * term.cost.view(n, 2).sum(1), force, stiffness, coupling=(w2 * left, right))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> HandLiftArrays:
        """Make the inputs of the compiled kernel."""
        parts, factor = seen.parts, weight * _UNIT_CM / _LIFT_NOISE_CM
        assert parts is not None
        assert parts.hands_lift_m is not None
        assert parts.hands_lift_weight is not None

        left, right = (
            LiftArrays(factor, plain(target, seen), plain(confidence, seen), _LIFT_SIGMA_CM)
            for target, confidence in zip(
                parts.hands_lift_m.split(HAND_POINTS, 1), parts.hands_lift_weight.split(HAND_POINTS, 1), strict=True
            )
        )
        return HandLiftArrays(weight, self.tables, left, right)

    @classmethod
    def blank(cls, setup: Setup) -> HandLiftArrays:
        """Make empty inputs of weight 0."""
        none = np.zeros((0, 0, 3), kind := numpy_type(setup)), np.zeros((0, 0), kind)
        lift = LiftArrays(0.0, *none, _LIFT_SIGMA_CM)
        return HandLiftArrays(0.0, empty_tables(setup), lift, lift)


class HandPoints(_OnHands):
    """Distances to measured points of hands."""

    name = "hands_points"
    loop = Loop("own points", "bodyfit.fit.residuals.loops.parts:measure_parts", PartMeasuredArrays, whole=True)

    def applies(self, seen: Observations) -> bool:
        """Whether there are any."""
        return seen.parts is not None and seen.parts.hands_points_m is not None

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """The term."""
        parts = seen.parts
        assert parts is not None
        assert parts.hands_points_m is not None
        assert parts.hands_points_weight is not None
        target, weight = parts.hands_points_m, _UNIT_CM / _MEASURED_NOISE_CM * parts.hands_points_weight

        def term(p: Tensor) -> PointTerm:
            return distance(p.flatten(1, 2), target, weight, _MEASURED_SIGMA_CM)

        p = points_m.unflatten(1, (2, HAND_POINTS))
        return offset_term(p, variables.get(HAND_OFFSET.name), HAND_OFFSET.name, term)

    @cached_property
    def tables(self) -> PartTables:
        """Both hands' points for the loops: measured hands are as large as the body's shape says."""
        return part_tables(self.setup, self.points(self.setup), 2, "", HAND_OFFSET.name)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> PartMeasuredArrays:
        """Make the inputs of the compiled kernel."""
        parts, factor = seen.parts, weight * _UNIT_CM / _MEASURED_NOISE_CM
        assert parts is not None
        own = plain(parts.hands_points_m, seen), plain(parts.hands_points_weight, seen)
        return PartMeasuredArrays(weight, self.tables, MeasuredArrays(factor, *own, _MEASURED_SIGMA_CM))

    @classmethod
    def blank(cls, setup: Setup) -> PartMeasuredArrays:
        """Make empty inputs of weight 0."""
        none = np.zeros((0, 0, 3), kind := numpy_type(setup)), np.zeros((0, 0), kind)
        return PartMeasuredArrays(0.0, empty_tables(setup), MeasuredArrays(0.0, *none, _MEASURED_SIGMA_CM))


class ScalePrior(NormalPrior):
    """How far hands differ from what the body's shape says of them, in deviations."""

    name, group, blocks = "hand_scale", "shape", (HAND_SCALE.name,)
    weight = 2.0
    deviation = 0.05


def hand_noise_scale(parts: PartObservations) -> Float[Tensor, "B CH"]:
    """`part_scale` of the points of hands."""
    return part_scale(parts.depth_cm, parts.hands_focal_px, parts.noise_px, _NOISE_CM)


def part_scale(
    depth_cm: Float[Tensor, "B C"] | None, focal_px: Float[Tensor, "B N"] | None, noise_px: float, noise_cm: float
) -> Float[Tensor, "B N"]:
    """What turns normalised picture coordinates into residuals that err by `_UNIT_CM` where a point errs by
    `noise_cm`, or by `noise_px` pixels where that is more."""
    assert depth_cm is not None
    assert focal_px is not None
    depth = depth_cm.repeat_interleave(focal_px.shape[1] // depth_cm.shape[1], 1)
    return _UNIT_CM * depth / (noise_cm**2 + (noise_px * depth / focal_px).square()).sqrt()


def scaled_term(
    p: Float[Tensor, "B P K 3"],
    log_scale: Float[Tensor, "B P"] | None,
    name: str,
    term: Callable[[Float[Tensor, "B PK 3"]], PointTerm],
    *,
    about_mean: bool,
) -> PointTerm:
    """A term of parts of the body that are scaled about their first point, or about the mean of their points.

    The gradient is exact; of the Hessian's stand-in what moves with the origin as the part is scaled is left out, for
    the scale is near 1.
    """
    if log_scale is None:
        return term(p.flatten(1, 2))
    origin = p.mean(2, keepdim=True) if about_mean else p[:, :, :1]
    size = log_scale.exp()[..., None, None]
    arm = size * (p - origin)
    found = term((origin + arm).flatten(1, 2))
    assert found.stiffness is not None
    force, stiffness = found.force.unflatten(1, p.shape[1:3]), found.stiffness.unflatten(1, p.shape[1:3])
    pushed = (stiffness @ arm[..., None])[..., 0]
    gradient, hessian = (force * arm).sum((2, 3)), (pushed * arm).sum((2, 3)).diag_embed()
    own = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
    mixed = (size * pushed)[..., None] * own[:, None, None]
    rest = ((1 - size) * force).sum(2, keepdim=True)
    share = torch.full_like(p[0, 0, :, :1], 1 / p.shape[2]) if about_mean else torch.eye(p.shape[2], 1).to(p)
    force = size * force + share * rest
    stiffness = size[..., None].square() * stiffness
    block = BlockTerm(gradient, hessian, mixed.flatten(1, 2))
    return PointTerm(found.cost, force.flatten(1, 2), stiffness.flatten(1, 2), blocks={name: block})
