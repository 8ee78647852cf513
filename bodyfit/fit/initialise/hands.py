"""Where a hand starts: wrists and fingers fitted to its points alone, from several orientations and poses.

A body's keypoints hardly tell how the forearm is turned, and a wrist that starts half a turn off never gets round. So a
hand's 21 points are first explained by a hand without a body: of the mean poses of the hand prior each is turned the
way that brings it nearest to the points, by a lift (Kabsch) or, without one, by scaled orthography (DeMenthon and Davis
1995), whose mirror image in depth is tried too. The best go through some steps of the solver, and the cheapest stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.fit.initialise.hand_tree import FINGER_BLOCK, HAND_SIZE, pose_hand
from bodyfit.fit.parts import HAND_POINTS
from bodyfit.fit.residuals.lift import LiftArrays, centred_distance
from bodyfit.fit.residuals.measured import MeasuredArrays, distance
from bodyfit.fit.residuals.mixture import MixtureArrays, MixturePrior
from bodyfit.fit.residuals.parts.hand_prior import HandLimits, HandPosePrior, hand_limits
from bodyfit.fit.residuals.reprojection import ReprojectionArrays, reprojected
from bodyfit.runtime.parallel import run
from bodyfit.solve import LMConfig, Normal, minimize

__all__ = ["HandObservations", "HandStarts", "mirrored_hands", "swing_twist"]

_STEPS = LMConfig(max_iterations=4, cost_tolerance=3e-3)
"""Steps from every start; the best of each hand goes on with the rest of the body."""
_ALONE_STEPS = LMConfig(max_iterations=30, cost_tolerance=1e-3)
_TURN_DEG = 45.0
"""How far a hand is turned from where the forearm points, but for the turn about that, as a deviation."""
_TWIST_DEG = 80.0
"""The same about the forearm."""
_PLACE_CM = 15.0
"""How far a wrist is from where the body's keypoints put it."""
_UNIT_CM = 2.0
_STIFF = (100 * _UNIT_CM / _PLACE_CM) ** 2
"""Weight of a wrist's squared distance from there, square metres."""
_FREE_STIFF = 1e-3 * _STIFF
"""The same of a hand without a body, whose place is a first guess."""
_SIGMA, _LIFT_SIGMA_CM, _MEASURED_SIGMA_CM = 20.0, 6.0, 8.0
_LIFT_WEIGHT, _MEASURED_WEIGHT = _UNIT_CM / 3.0, 4.0
"""Weights, to be squared, and saturation of the residuals, as those of the fit of the whole body."""
_GRAIN = 4
"""Minimum number of hands per thread."""


@dataclass(frozen=True)
class HandObservations:
    """What is seen of N left hands, and where the body puts them; right ones are mirrored."""

    rest: Float[Tensor, "N 21 3"]
    """Points of the flat hand in the body's T-pose, metres."""
    target: Float[Tensor, "N 21 2"]
    """Normalised picture coordinates."""
    weight: Float[Tensor, "N 21"]
    scale: Float[Tensor, "N 21"]
    """Units of the residual for one of these."""
    lift_m: Float[Tensor, "N 21 3"]
    lift_weight: Float[Tensor, "N 21"]
    points_m: Float[Tensor, "N 21 3"]
    points_weight: Float[Tensor, "N 21"]
    wrist: Float[Tensor, "N 3"]
    """Where the body puts the wrist, camera axes."""
    R_forearm: Float[Tensor, "N 3 3"]
    """How the forearm is turned."""
    R_wrist: Float[Tensor, "N 3 3"]
    """How the body's fit turns the wrist."""

    def select(self, rows: Tensor) -> HandObservations:
        """Some of the hands."""
        return HandObservations(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def cat(cls, several: Sequence[HandObservations]) -> HandObservations:
        """Concatenate the hands of several records."""
        return cls(**{f.name: torch.cat([getattr(one, f.name) for one in several]) for f in fields(cls)})

    def mirrored(self) -> HandObservations:
        """Mirror left to right: x changes its sign in places and in the picture."""
        flip = self.rest.new_tensor([-1.0, 1.0, 1.0])
        changed = {name: getattr(self, name) * flip for name in ("rest", "lift_m", "points_m", "wrist")}
        changed |= {name: flip[:, None] * getattr(self, name) * flip for name in ("R_forearm", "R_wrist")}
        return replace(self, target=self.target * flip[:2], **changed)


def mirrored_hands(x: Float[Tensor, "N 51"]) -> Float[Tensor, "N 51"]:
    """Return the variables of the mirror images of hands."""
    place = x.new_tensor([-1.0, 1.0, 1.0])
    return torch.cat([x[:, :3] * place, x[:, 3:] * (-place).repeat(x.shape[1] // 3 - 1)], 1)


class HandArrays(NamedTuple):
    """What the loops read of hands without a body."""

    rest: np.ndarray
    wrist: np.ndarray
    picture: ReprojectionArrays
    lift: LiftArrays
    measured: MeasuredArrays
    prior: MixtureArrays
    limit_weight: float
    axes: np.ndarray
    limits: np.ndarray
    finger_joint: np.ndarray
    stiff: float


@dataclass(frozen=True)
class _HandObjective:
    """The objective of hands without a body; implements `solve.Problem`."""

    seen: HandObservations
    mixture: MixturePrior
    axes: Float[Tensor, "15 3 3"]
    limits: Float[Tensor, "15 3 2"]
    stiff: float = _STIFF
    """Weight of a wrist's squared distance from where it is taken to be."""

    def select(self, index: Int[Tensor, "N"]) -> _HandObjective:
        return _HandObjective(self.seen.select(index), self.mixture, self.axes, self.limits, self.stiff)

    def normal(self, x: Float[Tensor, "N 51"]) -> Normal:
        if not x.is_cpu or torch.is_grad_enabled():
            return self.reference(x)
        from bodyfit.fit.initialise.hand_loops import hand_normal

        kind, n = str(x.dtype).removeprefix("torch."), len(x)
        cost, gradient, hessian = (
            np.empty(n, kind),
            np.empty((n, HAND_SIZE), kind),
            np.empty((n, *2 * [HAND_SIZE]), kind),
        )
        run(hand_normal, n, x.contiguous().numpy(), self._arrays, cost, gradient, hessian, grain=_GRAIN)
        return Normal(torch.from_numpy(cost), torch.from_numpy(gradient), torch.from_numpy(hessian))

    @cached_property
    def _arrays(self) -> HandArrays:
        seen = {f.name: getattr(self.seen, f.name).contiguous().numpy() for f in fields(self.seen)}
        kind = seen["rest"].dtype
        picture = seen["target"], seen["weight"], seen["scale"], np.eye(3, dtype=kind)[None], np.zeros((1, 3), kind)
        lift, measured = (seen[name] for name in ("lift_weight", "points_weight"))
        means, root, precision, constant = self.mixture.tables
        return HandArrays(
            seen["rest"],
            seen["wrist"],
            ReprojectionArrays(1.0, *picture, _SIGMA),
            LiftArrays(_LIFT_WEIGHT if (lift > 0).any() else 0.0, seen["lift_m"], lift, _LIFT_SIGMA_CM),
            MeasuredArrays(
                _MEASURED_WEIGHT if (measured > 0).any() else 0.0, seen["points_m"], measured, _MEASURED_SIGMA_CM
            ),
            MixtureArrays(HandPosePrior.weight, math.inf, means, root, precision, constant),
            HandLimits.weight,
            self.axes.numpy(),
            self.limits.numpy(),
            np.array(FINGER_BLOCK),
            self.stiff,
        )

    def reference(self, x: Float[Tensor, "N 51"]) -> Normal:
        """Compute `normal` by torch alone, on any device."""
        hand, seen = pose_hand(self.seen.rest, x), self.seen
        J = hand.jacobian().flatten(1, 2)
        term = reprojected(hand.points, seen.target, seen.weight, seen.scale, _SIGMA)
        cost, force, stiffness = term.cost, term.force, term.stiffness
        assert stiffness is not None
        if bool((seen.points_weight > 0).any()):
            measured, w2 = (
                distance(hand.points, seen.points_m, seen.points_weight, _MEASURED_SIGMA_CM),
                _MEASURED_WEIGHT**2,
            )
            assert measured.stiffness is not None
            cost, force = cost + w2 * measured.cost, force + w2 * measured.force
            stiffness = stiffness + w2 * measured.stiffness
        gradient = (force.flatten(1)[:, None] @ J)[:, 0]
        H = J.mT @ (stiffness @ J.unflatten(1, (-1, 3))).flatten(1, 2)
        if bool((seen.lift_weight > 0).any()):
            lift = centred_distance(hand.points, seen.lift_m, seen.lift_weight, _LIFT_SIGMA_CM)
            w2 = _LIFT_WEIGHT**2
            assert lift.stiffness is not None
            assert lift.coupling is not None
            left, right = (v.flatten(2) @ J for v in lift.coupling)
            half = left.mT @ right
            cost = cost + w2 * lift.cost
            gradient = gradient + w2 * (lift.force.flatten(1)[:, None] @ J)[:, 0]
            H = H + w2 * (J.mT @ (lift.stiffness @ J.unflatten(1, (-1, 3))).flatten(1, 2) - half - half.mT)
        for w2, term in (
            (HandPosePrior.weight**2, self.mixture(x[:, 6:])),
            (HandLimits.weight**2, hand_limits(x[:, 6:], self.axes, self.limits)),
        ):
            cost = cost + w2 * term.cost
            gradient[:, 6:] += w2 * term.gradient
            H[:, 6:, 6:] += w2 * term.hessian
        off = x[:, :3] - seen.wrist
        gradient[:, :3] += self.stiff * off
        H[:, :3, :3].diagonal(dim1=1, dim2=2).add_(self.stiff)
        return Normal(cost + self.stiff * off.square().sum(1), gradient, H)


class HandStarts:
    """Starts of left hands, for one model's type and device; those of right ones are of their mirror images."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        prior = load_hand_prior()[0]
        self.mixture = MixturePrior(prior, dtype=dtype, device=device)
        self.axes, self.limits = (
            torch.as_tensor(value, dtype=dtype, device=device) for value in (prior.axes, prior.limits)
        )
        relaxed = torch.as_tensor(prior.relaxed, dtype=dtype, device=device)
        self.templates = torch.cat([relaxed[None], self.mixture.means])
        self.forearm = torch.tensor([1.0, 0.0, 0.0], dtype=dtype, device=device)
        """The way from the elbow to the wrist in the T-pose."""

    def relaxed(self, side: int) -> Float[Tensor, "45"]:
        """Return the relaxed pose of the left (0) or the right (1) hand, from the flat hand."""
        flip = self.templates.new_tensor([1.0, -1.0, -1.0]).repeat(15)
        return self.templates[0] * flip if side else self.templates[0]

    def __call__(
        self, seen: HandObservations, *, alone: bool = False
    ) -> tuple[Float[Tensor, "N 51"], Float[Tensor, "N"]]:
        """The variables of each hand and their cost. `alone`: no body says where hands are and how forearms turn."""
        starts, usable = self._candidates(seen)
        n, k = starts.shape[:2]
        rows = usable.flatten().nonzero()[:, 0]
        stiff, steps = (_FREE_STIFF, _ALONE_STEPS) if alone else (_STIFF, _STEPS)
        objective = _HandObjective(seen.select(rows // k), self.mixture, self.axes, self.limits, stiff)
        x, summary = minimize(objective, starts.flatten(0, 1)[rows], steps)
        odd = 0.0 if alone else self._turned_oddly(seen.select(rows // k), x)
        cost = starts.new_full((n * k,), torch.inf).index_copy(
            0, rows, torch.nan_to_num(summary.cost, nan=torch.inf) + odd
        )
        best = cost.view(n, k).argmin(1) + k * torch.arange(n, device=x.device)
        every = starts.flatten(0, 1).index_copy(0, rows, x)
        return every[best], cost[best]

    def _turned_oddly(self, seen: HandObservations, x: Float[Tensor, "N 51"]) -> Float[Tensor, "N"]:
        """What a wrist's turn against the forearm costs, squared residuals."""
        D = seen.R_forearm.mT @ roma.rotvec_to_rotmat(x[:, 3:6])
        swing, twist = swing_twist(D, self.forearm)
        z = (swing / torch.pi * 180 / _TURN_DEG).square() + (twist / torch.pi * 180 / _TWIST_DEG).square()
        return _UNIT_CM**2 * z

    def _candidates(self, seen: HandObservations) -> tuple[Float[Tensor, "N K 51"], Bool[Tensor, "N K"]]:
        """Starts of each hand, and which are any use."""
        n, t = len(seen.rest), len(self.templates)
        flat = torch.zeros(n * t, HAND_SIZE, dtype=seen.rest.dtype, device=seen.rest.device)
        flat[:, 6:] = self.templates.repeat(n, 1)
        models = pose_hand(seen.rest.repeat_interleave(t, 0), flat).points.view(n, t, HAND_POINTS, 3)
        lifted = (seen.lift_weight > 0).sum(1) >= 4
        measured = (seen.points_weight > 0).sum(1) >= 4
        solid = torch.where(measured[:, None, None], seen.points_m, seen.lift_m)
        solid_weight = torch.where(measured[:, None], seen.points_weight, seen.lift_weight)
        R_lift, off = _kabsch(models, solid, solid_weight)
        by_lift = _best(R_lift, off, 1)
        visible = (seen.weight > 0).sum(1) >= 4
        solid_visible = lifted | measured
        as_is = seen.R_wrist[:, None], torch.zeros(n, 1, dtype=torch.int64, device=flat.device)
        R, template = torch.cat([as_is[0], by_lift[0]], 1), torch.cat([as_is[1], by_lift[1]], 1)
        usable = torch.stack([visible | solid_visible, solid_visible], 1)
        flat_only = visible & ~solid_visible
        if flat_only.any():  # what is known in three dimensions needs no guess from the picture
            R_flat, off = self._orthographic(seen, models)
            by_picture = _best(R_flat.flatten(1, 2), off.repeat_interleave(2, 1), 3)
            R, template = torch.cat([R, by_picture[0]], 1), torch.cat([template, by_picture[1] // 2], 1)
            usable = torch.cat([usable, flat_only[:, None].expand(-1, 3)], 1)
        usable[:, 0] |= ~usable.any(1)
        x = flat.new_zeros(n, R.shape[1], HAND_SIZE)
        x[..., 3:6] = roma.rotmat_to_rotvec(R)
        x[..., 6:] = self.templates[template]
        x[..., :3] = self._places(seen, measured, x)
        return x, usable

    def _places(
        self, seen: HandObservations, measured: Bool[Tensor, "N"], x: Float[Tensor, "N K 51"]
    ) -> Float[Tensor, "N K 3"]:
        """Where wrists are: at the body's depth, so that the hand's middle is where it is seen."""
        n, k = x.shape[:2]
        hand = pose_hand(seen.rest.repeat_interleave(k, 0), x.flatten(0, 1)).points.view(n, k, HAND_POINTS, 3)
        depth = seen.wrist[:, None, 2:].clamp_min(0.2)
        w = seen.weight[:, None, :, None]
        middle = (w * seen.target[:, None] * depth[:, None]).sum(2) / w.sum(2).clamp_min(1e-6)
        own = (w * hand[..., :2]).sum(2) / w.sum(2).clamp_min(1e-6)
        place = torch.cat([middle - own, depth.expand(n, k, 1)], 2)
        place = torch.where((seen.weight > 0).any(1)[:, None, None], place, seen.wrist[:, None])
        w = seen.points_weight[:, None, :, None]
        offset = (w * (seen.points_m[:, None] - hand)).sum(2) / w.sum(2).clamp_min(1e-6)
        return torch.where(measured[:, None, None], offset, place)

    def _orthographic(
        self, seen: HandObservations, models: Float[Tensor, "N T 21 3"]
    ) -> tuple[Float[Tensor, "N T 2 3 3"], Float[Tensor, "N T"]]:
        """The turn of each template that brings it nearest to the picture, and that of its mirror image in depth;
        and how far off its points are then, in parts of the hand."""
        w = seen.weight[:, None, :, None]
        total = w.sum(2, keepdim=True).clamp_min(1e-6)
        X = models - (w * models).sum(2, keepdim=True) / total
        u = seen.target[:, None] - (w * seen.target[:, None]).sum(2, keepdim=True) / total
        A = X.mT @ (w * X)
        A = A + 1e-3 * A.diagonal(dim1=2, dim2=3).sum(2)[..., None, None] * torch.eye(3).to(A)
        M = torch.linalg.solve_ex(A, X.mT @ (w * u))[0].mT  # (N, T, 2, 3)
        U, S, V = torch.linalg.svd(M, full_matrices=False)
        rows = U @ V
        R = torch.cat([rows, torch.linalg.cross(rows[..., :1, :], rows[..., 1:, :], dim=-1)], -2)
        size = S.mean(-1)[..., None, None]
        off = (w * (size * X @ rows.mT - u).square()).sum((2, 3)) / (w * u.square()).sum((2, 3)).clamp_min(1e-12)
        normal = torch.linalg.eigh(A)[1][..., :1]  # of the plane that the template is nearest to
        mirror = torch.eye(3).to(A) - 2 * normal @ normal.mT
        turned = torch.diag(torch.tensor([1.0, 1.0, -1.0])).to(A) @ R @ mirror
        return torch.stack([R, turned], 2), off


def swing_twist(R: Float[Tensor, "N 3 3"], axis: Float[Tensor, "3"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """How far a rotation turns away from an axis and about it, radians."""
    q = roma.rotmat_to_unitquat(R)
    assert isinstance(q, Tensor)
    along = (q[:, :3] * axis).sum(1)
    twist = 2 * torch.atan2(along, q[:, 3])
    twist = torch.remainder(twist + torch.pi, 2 * torch.pi) - torch.pi
    swing = 2 * (along.square() + q[:, 3].square()).sqrt().clamp(max=1).acos()
    return swing, twist


def _kabsch(
    models: Float[Tensor, "N T K 3"], points: Float[Tensor, "N K 3"], weight: Float[Tensor, "N K"]
) -> tuple[Float[Tensor, "N T 3 3"], Float[Tensor, "N T"]]:
    """The rotation that brings each model nearest to points, both about their means, and how far off it stays."""
    w = weight[:, None, :, None]
    total = w.sum(2, keepdim=True).clamp_min(1e-6)
    X = models - (w * models).sum(2, keepdim=True) / total
    Y = points[:, None] - (w * points[:, None]).sum(2, keepdim=True) / total
    size = ((w * X.square()).sum((2, 3)) / (w * Y.square()).sum((2, 3)).clamp_min(1e-12)).sqrt()[..., None, None]
    R = roma.special_procrustes((size * Y).mT @ (w * X) + 1e-9 * torch.eye(3).to(X))
    assert isinstance(R, Tensor)
    return R, (w * (X @ R.mT - size * Y).square()).sum((2, 3))


def _best(
    R: Float[Tensor, "N M 3 3"], off: Float[Tensor, "N M"], count: int
) -> tuple[Float[Tensor, "N C 3 3"], Int[Tensor, "N C"]]:
    """The candidates that are least off, and which these are."""
    chosen = off.topk(min(count, off.shape[1]), 1, largest=False).indices
    return R.gather(1, chosen[..., None, None].expand(-1, -1, 3, 3)), chosen
