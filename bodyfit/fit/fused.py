"""The objective of a stage by the loops of `objective_loops`, for people on a CPU: what they read, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.point_tables import PointTables, TreeTables
from bodyfit.fit.config import StageConfig
from bodyfit.parallel import run
from bodyfit.solve import Normal

if TYPE_CHECKING:
    from bodyfit.fit.objective import BodyTerms, Observations

__all__ = ["FusedTerms", "Seen", "Weights"]

_GRAIN = 4
"""So many people are worth a thread."""


class Bends(NamedTuple):
    """`AnglePrior` and `LimitPrior`."""

    angle: np.ndarray
    sign: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


class Mixture(NamedTuple):
    """`MixturePrior`; the roots' rows are as long as `point_loops.wide` says."""

    means: np.ndarray
    root: np.ndarray
    precision: np.ndarray
    constant: np.ndarray


class Touching(NamedTuple):
    """`CapsuleOverlap`."""

    points: PointTables
    first: np.ndarray
    second: np.ndarray
    sampled: np.ndarray
    share: np.ndarray
    corners: np.ndarray
    radius: np.ndarray
    radius_shape: np.ndarray
    where: np.ndarray
    curved: int


class Seen(NamedTuple):
    """`Observations`; empty where there is nothing."""

    target: np.ndarray
    weight: np.ndarray
    scale_cm: np.ndarray
    R: np.ndarray
    t: np.ndarray
    lift_m: np.ndarray
    lift_weight: np.ndarray
    points_m: np.ndarray
    points_weight: np.ndarray

    @classmethod
    def of(cls, seen: Observations) -> Seen:
        """The same numbers."""
        w = seen.weight
        none, no_weight = w.new_empty(0, 0, 3), w.new_empty(0, 0)
        lifted = seen.lift_m is not None and seen.lift_weight is not None
        measured = seen.points_m is not None and seen.points_weight is not None
        tensors = (
            seen.target,
            w,
            seen.scale_cm if seen.scale_cm.ndim == 2 else seen.scale_cm[:, None],
            torch.eye(3).to(w)[None] if seen.rig is None else seen.rig.R,
            w.new_zeros(1, 3) if seen.rig is None else seen.rig.t,
            seen.lift_m if lifted else none,
            seen.lift_weight if lifted else no_weight,
            seen.points_m if measured else none,
            seen.points_weight if measured else no_weight,
        )
        return cls(*(t.to(w.dtype).contiguous().numpy() for t in tensors if t is not None))


class Weights(NamedTuple):
    """Those of `StageConfig` that the loops know."""

    pose: float
    pose_tail: float
    angle: float
    limits: float
    interpenetration: float
    shape: float
    sigma: float
    lift: float
    lift_sigma: float
    points: float
    points_sigma: float

    @classmethod
    def of(cls, stage: StageConfig) -> Weights:
        """Of a stage."""
        priors = (stage.pose, stage.pose_tail, stage.angle, stage.limits, stage.interpenetration, stage.shape)
        evidence = (stage.sigma_cm, stage.lift, stage.lift_sigma_cm, stage.points, stage.points_sigma_cm)
        return cls(*map(float, (*priors, *evidence)))


@dataclass(frozen=True)
class FusedTerms:
    """`BodyTerms` for the loops."""

    terms: BodyTerms

    def takes(self, x: Float[Tensor, "B D"], seen: Observations) -> bool:
        """Whether these are what the loops can read: on the CPU, of the model's type, no gradient wanted."""
        kind = self.terms.model.dtype
        here = x.is_cpu and seen.weight.is_cpu and self.terms.mixture.means.is_cpu
        same = x.dtype == seen.weight.dtype == self.terms.mixture.means.dtype == kind
        return here and same and kind in (torch.float32, torch.float64) and not torch.is_grad_enabled()

    def normal(self, x: Float[Tensor, "B D"], seen: Seen, weights: Weights, *, shape_held: bool) -> Normal:
        """Cost, J^T r and J^T J at x."""
        from bodyfit.fit.objective_loops import normal

        kind, (batch, size) = seen.weight.dtype, x.shape
        cost, gradient = np.empty(batch, kind), np.empty((batch, size), kind)
        hessian = np.empty((batch, size, size), kind)
        terms = self.terms
        touching = self._touching if weights.interpenetration > 0 else self._apart
        lists = terms.points.tables, terms.points3d.tables, terms.points3d is terms.points
        run(
            normal, batch, x.contiguous().numpy(), self._tree, *lists, seen, self._mixture, self._bends, touching,
            weights, shape_held, cost, gradient, hessian, grain=_GRAIN
        )  # fmt: skip
        return Normal(torch.from_numpy(cost), torch.from_numpy(gradient), torch.from_numpy(hessian))

    @cached_property
    def _tree(self) -> TreeTables:
        model = self.terms.model
        n = model.body_joints
        shape = model.joints_shapedirs[:n, :, : model.num_betas].numpy()
        return TreeTables.of(model.joints_template[:n].numpy(), shape, tuple(model.parents[:n]), model.feature_columns)

    @cached_property
    def _mixture(self) -> Mixture:
        m = self.terms.mixture
        n_m, n = m.means.shape
        root = m.root.unflatten(1, (n_m, n)).transpose(0, 1)
        root = torch.nn.functional.pad(root, (0, -n % 16)).contiguous()
        return Mixture(m.means.numpy(), root.numpy(), m.precision.numpy(), m.constant.numpy())

    @cached_property
    def _bends(self) -> Bends:
        angle, limits = self.terms.angle, self.terms.limits
        return Bends(angle.index.numpy(), angle.sign.numpy(), limits.lower.numpy(), limits.upper.numpy())

    @cached_property
    def _touching(self) -> Touching:
        o = self.terms.overlap
        first, second = o.pairs.contiguous().numpy()
        return Touching(
            points=o.points.tables,
            first=first,
            second=second,
            sampled=o.sampled.numpy(),
            share=o.share.numpy(),
            corners=o.corners.numpy(),
            radius=o.radius.contiguous().numpy(),
            radius_shape=o.radius_shape.contiguous().numpy(),
            where=o.where.contiguous().numpy(),
            curved=o.curvature_pairs,
        )

    @cached_property
    def _apart(self) -> Touching:
        """No capsules: making them costs as much as a fit."""
        none, few = np.zeros(0, np.int64), np.zeros(0, self._mixture.means.dtype)
        n_s = self.terms.model.num_betas
        return Touching(
            self.terms.points.tables, none, none, none, few, none, few, few.reshape(0, n_s), none.reshape(0, 5), 0
        )
