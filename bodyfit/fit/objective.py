"""The SMPLify objective of one stage for a batch of people, as a problem for the Levenberg-Marquardt solver.

Variables of a person, in this order: transl (3), global_orient (3), body_pose (P: 69, or 63 without hands), betas (S).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.body.points import Points, PosedTree, pose_tree
from bodyfit.body.pose_prior import PosePrior
from bodyfit.fit.config import StageConfig
from bodyfit.fit.evidence import Rig
from bodyfit.fit.fused import FusedTerms, Seen, Weights
from bodyfit.fit.overlap import CapsuleOverlap, SphereOverlap
from bodyfit.fit.priors import AnglePrior, HeightTerm, LimitPrior, MixturePrior, Quadratic
from bodyfit.fit.terms import centred_rows, placed_rows, projection_rows
from bodyfit.solve import Normal

__all__ = ["BodyTerms", "Observations", "StageObjective", "pack", "unpack"]


@dataclass(frozen=True)
class Observations:
    """What was seen of each person, ready for the objective."""

    target: Float[Tensor, "B CK 2"]
    """Normalised picture coordinates (x px - cx) / f; 0 where missing."""
    weight: Float[Tensor, "B CK"]
    """Confidence; 0 where missing."""
    scale_cm: Float[Tensor, "B *N"]
    """Centimetres at the person for one unit of normalised coordinates: 100 x the starting depth in metres; one a
    person, or one a keypoint."""
    rig: Rig | None = None
    """Where several cameras stand; keypoints are then those of camera after camera."""
    lift_m: Float[Tensor, "B K 3"] | None = None
    """3D keypoints in camera axes about any origin; 0 where unknown."""
    lift_weight: Float[Tensor, "B K"] | None = None
    """Their confidence; 0 where unknown."""
    points_m: Float[Tensor, "B P 3"] | None = None
    """Measured 3D keypoints in camera axes; 0 where unknown."""
    points_weight: Float[Tensor, "B P"] | None = None
    """1 where they are known, else 0."""
    height_m: Float[Tensor, "B"] | None = None
    """Known statures."""
    previous_pose: Float[Tensor, "B A"] | None = None
    """Body angles a moment ago."""
    shape_known: bool = False
    """Whether betas stay as they are."""

    def select(self, index: Tensor) -> Observations:
        """Some of the people."""

        def some(value: Any) -> Any:
            return value[index] if isinstance(value, Tensor) else value

        return Observations(**{field.name: some(getattr(self, field.name)) for field in fields(self)})

    def replace_rows(self, rows: Int[Tensor, "N"], others: Observations) -> Observations:
        """Replace the keypoints and the lift of some people by those of `others`, in a new record."""
        names = ("target", "weight", "lift_m", "lift_weight")
        own = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(self, **{name: v.index_copy(0, rows, getattr(others, name)) for name, v in own.items()})


class BodyTerms:
    """What the objective needs of a model, a keypoint layout and a prior; made once, used for every stage."""

    def __init__(self, model: BodyModel, points: Points, prior: PosePrior, points3d: Points | None = None) -> None:
        kind = {"dtype": model.dtype, "device": model.device}
        self.model = model
        self.points = points
        self.points3d = points if points3d is None else points3d
        self.mixture = MixturePrior(prior, **kind)
        self.angle = AnglePrior(**kind)
        self.limits = LimitPrior(prior, **kind)

    @cached_property
    def fused(self) -> FusedTerms:
        """The same for the loops of a CPU."""
        return FusedTerms(self)

    @cached_property
    def height(self) -> HeightTerm:
        """Made when a height is known."""
        return HeightTerm(self.model)

    @cached_property
    def overlap(self) -> CapsuleOverlap:
        """Made when it weighs anything, and so are the spheres: each costs as much as a fit of one person."""
        return CapsuleOverlap(self.model)

    @cached_property
    def spheres(self) -> SphereOverlap:
        """See `overlap`."""
        return SphereOverlap(self.model)


def pack(params: BodyParams) -> Float[Tensor, "B D"]:
    """Parameters as the solver's variables."""
    return torch.cat([params.transl, params.global_orient, params.body_pose, params.betas], 1)


def unpack(x: Float[Tensor, "B D"], num_betas: int) -> BodyParams:
    """The solver's variables as parameters."""
    end = x.shape[1] - num_betas
    return BodyParams(betas=x[:, end:], body_pose=x[:, 6:end], global_orient=x[:, 3:6], transl=x[:, :3])


@dataclass(frozen=True)
class StageObjective:
    """The weighted sum of all terms; implements `solve.Problem`."""

    terms: BodyTerms
    stage: StageConfig
    seen: Observations

    def select(self, index: Tensor) -> StageObjective:
        """The objective of some of the people."""
        return replace(self, seen=self.seen.select(index))

    def normal(self, x: Float[Tensor, "B D"]) -> Normal:
        """Cost, J^T r and J^T J at x; on a CPU by one loop, elsewhere by the plain operations (`reference`)."""
        if not self.terms.fused.takes(x, self.seen):
            return self.reference(x)
        weights = Weights.of(self.stage)
        normal = self.terms.fused.normal(x, self._arrays, weights, shape_held=self.seen.shape_known)
        return self._rarely(x, None, normal)

    def reference(self, x: Float[Tensor, "B D"]) -> Normal:
        """`normal` in plain tensor operations, on any device."""
        tree = self.tree(x)
        return self._with_priors(x, tree, self._evidence(x, tree))

    @cached_property
    def _arrays(self) -> Seen:
        return Seen.of(self.seen)

    def prior_hessians(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B P P"], Float[Tensor, "B S"]]:
        """J^T J of the pose mixture by body_pose, and the diagonal of that of the betas' prior by betas."""
        stage, end = self.stage, x.shape[1] - self.terms.model.num_betas
        pose = self.terms.mixture(x[:, 6:end], stage.pose_tail).hessian
        return stage.pose**2 * pose, torch.full_like(x[:, end:], 0 if self.seen.shape_known else stage.shape**2)

    def tree(self, x: Float[Tensor, "B D"]) -> PosedTree:
        """The body at x."""
        end = x.shape[1] - self.terms.model.num_betas
        return pose_tree(self.terms.model, x[:, end:], x[:, 3:end].unflatten(1, (-1, 3)))

    def _evidence(self, x: Float[Tensor, "B D"], tree: PosedTree) -> Normal:
        """The terms of what was seen: keypoints, a lift, measured points."""
        stage, terms, seen = self.stage, self.terms, self.seen
        transl, betas = x[:, :3], x[:, x.shape[1] - terms.model.num_betas :]
        placed = terms.points.place(tree, betas)
        points, jacobian = placed.positions + transl[:, None], placed.jacobian()
        in_view = (points, jacobian) if seen.rig is None else (seen.rig.points(points), seen.rig.jacobian(jacobian))
        normal = _of_rows(*projection_rows(*in_view, seen.target, seen.weight, seen.scale_cm, stage.sigma_cm))
        if stage.lift > 0 and seen.lift_m is not None and seen.lift_weight is not None:
            weight = stage.lift * seen.lift_weight
            lifted = centred_rows(points, jacobian, seen.lift_m, weight, stage.lift_sigma_cm)
            normal = _of_rows(*lifted, beside=normal)
        if seen.points_m is not None and seen.points_weight is not None:
            if terms.points3d is not terms.points:
                placed = terms.points3d.place(tree, betas)
                points, jacobian = placed.positions + transl[:, None], placed.jacobian()
            weight = stage.points * seen.points_weight
            measured = placed_rows(points, jacobian, seen.points_m, weight, stage.points_sigma_cm)
            normal = _of_rows(*measured, beside=normal)
        return normal

    def _with_priors(self, x: Float[Tensor, "B D"], tree: PosedTree, normal: Normal) -> Normal:
        """The same with the priors of pose and shape added, in place."""
        stage, terms, seen = self.stage, self.terms, self.seen
        end = x.shape[1] - terms.model.num_betas
        betas, pose = x[:, end:], x[:, 6:end]
        normal = _add(normal, stage.pose, terms.mixture(pose, stage.pose_tail), slice(6, end))
        if stage.angle > 0:
            normal = _add(normal, stage.angle, terms.angle(pose), slice(6, end))
        if stage.limits > 0:
            normal = _add(normal, stage.limits, terms.limits(pose), slice(6, end))
        if stage.interpenetration > 0:
            normal = _add(normal, stage.interpenetration, terms.overlap(tree, betas), slice(3, end))
        normal = self._rarely(x, tree, normal)
        if seen.shape_known:
            return _held(normal, end)
        shape = Quadratic(betas.square().sum(1), betas, torch.ones_like(betas))
        return _add(normal, stage.shape, shape, slice(end, None))

    def _rarely(self, x: Float[Tensor, "B D"], tree: PosedTree | None, normal: Normal) -> Normal:
        """The same with the terms added that few fits have, in place."""
        stage, terms, seen = self.stage, self.terms, self.seen
        end = x.shape[1] - terms.model.num_betas
        betas, pose = x[:, end:], x[:, 6:end]
        if stage.spheres > 0:
            tree = self.tree(x) if tree is None else tree
            normal = _add(normal, stage.spheres, terms.spheres(tree, betas), slice(3, end))
        if seen.previous_pose is not None:
            moved = pose - seen.previous_pose
            still = Quadratic(moved.square().sum(1), moved, torch.ones_like(moved))
            normal = _add(normal, stage.previous, still, slice(6, end))
        if seen.height_m is not None and not seen.shape_known:
            normal = _add(normal, stage.height, terms.height(betas, seen.height_m), slice(end, None))
        return normal


def _of_rows(
    cost: Float[Tensor, "B"],
    r: Float[Tensor, "B R"],
    rows: Float[Tensor, "B R D"],
    beside: Normal | None = None,
) -> Normal:
    """The normal equations of residuals and their rows; added to those of others, in place, where there are any."""
    gradient, hessian = (rows.mT @ r[..., None])[..., 0], rows.mT @ rows
    if beside is None:
        return Normal(cost, gradient, hessian)
    return Normal(beside.cost + cost, beside.gradient.add_(gradient), beside.hessian.add_(hessian))


def _held(normal: Normal, start: int) -> Normal:
    """The same with the variables from `start` on held where they are."""
    normal.gradient[:, start:] = 0
    normal.hessian[:, start:, :] = 0
    normal.hessian[:, :, start:] = 0
    normal.hessian[:, start:, start:].diagonal(dim1=1, dim2=2).fill_(1)
    return normal


def _add(normal: Normal, weight: float, term: Quadratic, where: slice) -> Normal:
    """The sum with `weight` squared times a term on some of the variables; gradient and Hessian in place."""
    w2 = weight**2
    normal.gradient[:, where].add_(term.gradient, alpha=w2)
    block = normal.hessian[:, where, where]
    (block.diagonal(dim1=1, dim2=2) if term.hessian.ndim == 2 else block).add_(term.hessian, alpha=w2)
    return Normal(torch.add(normal.cost, term.cost, alpha=w2), normal.gradient, normal.hessian)
