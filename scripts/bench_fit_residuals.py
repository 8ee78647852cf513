"""The fit's objective once more, as one residual vector a person, for optimisers that are not ours.

Written from the formulas of docs/how-it-works.md and apart from `bodyfit.fit.objective`: what is shared is the posed
points (`Points.place`) and the numbers (prior, capsules). |r|^2 is the objective, constants included, so it is also the
common yardstick; r is smooth wherever the objective is, and differentiable by autograd.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bodyfit.body.features import pose_features
from bodyfit.body.lbs import forward_kinematics
from bodyfit.body.points import PosedTree, pose_tree
from bodyfit.fit.config import StageConfig
from bodyfit.fit.objective import BodyTerms, Observations
from bodyfit.rotation import so3_exp

__all__ = ["Residuals"]


def bare_tree(model, betas: Tensor, rotvecs: Tensor) -> PosedTree:
    """The posed tree without derivatives, which autograd does not need."""
    n = model.body_joints
    R_local = so3_exp(rotvecs)
    R_world, joints = forward_kinematics(R_local, model.rest_joints(betas)[:, :n], model.parents[:n])
    features = pose_features(rotvecs[:, 1:], R_local[:, 1:], model.feature_columns)
    none = R_world.new_zeros(())
    return PosedTree(
        R_world=R_world,
        joints=joints,
        axes=none.expand(R_world.shape),
        bones_dbetas=none.expand(len(betas), n, 3 * betas.shape[1]),
        features=features,
        features_dpose=none.expand(*features.shape, 3),
    )


@dataclass(frozen=True)
class Residuals:
    """One stage's objective for a batch of people."""

    terms: BodyTerms
    stage: StageConfig
    seen: Observations
    constants: dict[str, Any] = field(default_factory=dict)
    """What is made once, on the first use."""

    def select(self, index: Tensor) -> Residuals:
        """The objective of some of the people."""
        return replace(self, seen=self.seen.select(index))

    def cost(self, x: Tensor) -> Tensor:
        """(B,) objective; infinite where a seen point is not before the camera."""
        return self(x)[0].square().sum(1) + self.behind(x)

    def behind(self, x: Tensor) -> Tensor:
        """(B,) infinity where a seen point is not before the camera, else 0."""
        tree, betas = self._tree(x.detach(), bare_tree)
        z = self.terms.points.place(tree, betas).positions[..., 2] + x.detach()[:, None, 2]
        return torch.where(((z < 0.1) & (self.seen.weight > 0)).any(1), torch.inf, 0.0).to(x)

    def __call__(self, x: Tensor, *, with_jacobian: bool = False) -> tuple[Tensor, Tensor]:
        """(B, R) residuals and, where asked for, (B, R, D) their derivative (else nothing)."""
        tree, betas = self._tree(x, pose_tree if with_jacobian else bare_tree)
        parts = [self._reprojection(x, tree, betas, with_jacobian), *self._on_pose(x, with_jacobian)]
        if self.stage.lift > 0 and self.seen.lift_m is not None:
            parts.append(self._lift(x, tree, betas, with_jacobian))
        if self.stage.interpenetration > 0:
            parts.append(self._overlap(x, with_jacobian))
        residuals, rows = zip(*parts, strict=True)
        return torch.cat(residuals, 1), torch.cat(rows, 1)

    def _tree(self, x: Tensor, kind) -> tuple[PosedTree, Tensor]:
        end = x.shape[1] - self.terms.model.num_betas
        return kind(self.terms.model, x[:, end:], x[:, 3:end].unflatten(1, (-1, 3))), x[:, end:]

    def _points(self, x: Tensor, tree: PosedTree, betas: Tensor, derive: bool) -> tuple[Tensor, Tensor | None]:
        placed = self.terms.points.place(tree, betas)
        if not derive:
            return placed.positions + x[:, None, :3], None
        return placed.positions + x[:, None, :3], placed.jacobian()

    def _reprojection(self, x: Tensor, tree: PosedTree, betas: Tensor, derive: bool) -> tuple[Tensor, Tensor]:
        """c r / sqrt(1 + r^2 / sigma^2): its square is the Geman-McClure cost."""
        points, jacobian = self._points(x, tree, betas, derive)
        inverse = 1 / points[..., 2:].clamp_min(0.1)
        uv = points[..., :2] * inverse
        scale = self.seen.scale_cm[:, None, None]
        r, slope = _saturated((uv - self.seen.target) * scale, self.stage.sigma_cm)
        weight = self.seen.weight[..., None]
        if jacobian is None:
            return (weight * r).flatten(1), x.new_empty(0)
        by_uv = (jacobian[:, :, :2] - uv[..., None] * jacobian[:, :, 2:]) * inverse[..., None]
        return (weight * r).flatten(1), ((weight * slope * scale)[..., None] * by_uv).flatten(1, 2)

    def _lift(self, x: Tensor, tree: PosedTree, betas: Tensor, derive: bool) -> tuple[Tensor, Tensor]:
        """The same saturation on the distance to the 3D keypoints, in centimetres: both about their weighted means, the
        keypoints in the size, within a factor of 1.5, that brings them nearest."""
        points, jacobian = self._points(x, tree, betas, derive)
        weight = (self.stage.lift * self.seen.lift_weight)[..., None]
        share = weight.square() / weight.square().sum(1, keepdim=True).clamp_min(1e-12)
        p, q = (v - (share * v).sum(1, keepdim=True) for v in (points, self.seen.lift_m))
        norm2 = (share * q.square()).sum((1, 2)).clamp_min(1e-12)
        best = (share * p * q).sum((1, 2)) / norm2
        size = best.clamp(1 / 1.5, 1.5)
        r, slope = _saturated(100 * (p - size[:, None, None] * q), self.stage.lift_sigma_cm)
        if jacobian is None:
            return (weight * r).flatten(1), x.new_empty(0)
        centred = jacobian - (share[..., None] * jacobian).sum(1, keepdim=True)
        by_size = ((share * q)[..., None] * centred).sum((1, 2)) / norm2[:, None] * (best == size)[:, None]
        rows = centred - q[..., None] * by_size[:, None, None]
        return (weight * r).flatten(1), (100 * (weight * slope)[..., None] * rows).flatten(1, 2)

    def _on_pose(self, x: Tensor, derive: bool) -> list[tuple[Tensor, Tensor]]:
        """The mixture, the bending angles, the limits and the betas."""
        stage, terms = self.stage, self.terms
        end = x.shape[1] - terms.model.num_betas
        pose, betas = x[:, 6:end], x[:, end:]
        parts = [self._mixture(pose)]
        bend = 10 * (terms.angle.sign * pose[:, terms.angle.index]).clamp(max=4.0).exp()
        by_pose = torch.zeros(*bend.shape, pose.shape[1]).to(x)
        by_pose[:, torch.arange(bend.shape[1]), terms.angle.index] = (terms.angle.sign * bend).detach()
        parts.append((stage.angle * bend, stage.angle * by_pose))
        beyond = (pose - terms.limits.upper).clamp_min(0) - (terms.limits.lower - pose).clamp_min(0)
        parts.append((stage.limits * beyond, stage.limits * (beyond != 0).to(x).diag_embed()))
        out = [(r, torch.nn.functional.pad(rows, (6, betas.shape[1]))) for r, rows in parts]
        by_betas = torch.nn.functional.pad(stage.shape * torch.eye(betas.shape[1]).to(x), (end, 0))
        out.append((stage.shape * betas, by_betas.expand(len(x), -1, -1)))
        return out if derive else [(r, x.new_empty(0)) for r, _ in out]

    def _mixture(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """The lowest component's whitened residual and its constant; with a tail, scaled so that |r|^2 is its cost."""
        prior, tail = self.terms.mixture, self.stage.pose_tail
        best = prior.component_costs(pose).argmin(1)
        root = self._roots()[best]
        u = (root @ (pose - prior.means[best])[..., None])[..., 0]
        u = torch.cat([u, prior.constant[best, None].sqrt()], 1)
        rows = torch.nn.functional.pad(root, (0, 0, 0, 1))
        if math.isinf(tail):
            return self.stage.pose * u, self.stage.pose * rows
        m = u.square().sum(1).clamp_min(1e-9)
        cost = tail * (m / tail).log1p()
        scale = (cost / m).sqrt()
        by_m = 0.5 / scale * (1 / (1 + m / tail) - cost / m) / m
        rows = scale[:, None, None] * rows + 2 * by_m[:, None, None] * u[..., None] * (u[:, None] @ rows)
        return self.stage.pose * scale[:, None] * u, self.stage.pose * rows

    def _overlap(self, x: Tensor, derive: bool) -> tuple[Tensor, Tensor]:
        """One residual for each pair of parts that could touch; as in SMPLify the betas do not feel it."""
        term = self.terms.overlap
        end = x.shape[1] - self.terms.model.num_betas
        betas = x[:, end:].detach()
        tree = (pose_tree if derive else bare_tree)(self.terms.model, betas, x[:, 3:end].unflatten(1, (-1, 3)))
        placed = term.points.place(tree, betas)
        r, slope, weights = term.residuals(placed.positions, term.radius + betas @ term.radius_shape.T)
        if not derive:
            return self.stage.interpenetration * r, x.new_empty(0)
        pull = ((r > 0)[..., None] * weights)[..., None] * slope[:, :, None]
        forces = r.new_zeros(*r.shape, len(term.points), 3)
        forces.scatter_add_(2, term.where[..., None].expand(len(x), -1, -1, 3), pull)
        rows = torch.nn.functional.pad(placed.pull_back(forces), (3, x.shape[1] - end))
        return self.stage.interpenetration * r, self.stage.interpenetration * rows

    def _roots(self) -> Tensor:
        """(M, P, P) R of each component with |R d|^2 half its Mahalanobis distance."""
        if "roots" not in self.constants:
            precision = self.terms.mixture.precision
            self.constants["roots"] = torch.linalg.cholesky(0.5 * precision.double()).mT.to(precision)
        return self.constants["roots"]


def _saturated(r: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """r / sqrt(1 + r^2 / sigma^2) and its derivative."""
    inverse = (1 + (r / sigma).square()).rsqrt()
    return r * inverse, inverse**3
