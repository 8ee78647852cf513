"""The fit's objective as one residual vector a person, for optimisers that are not ours: asked of the residuals.

|r|^2 is the objective, constants included, so it is also the common yardstick; r is smooth wherever the objective is,
and differentiable by autograd.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bodyfit.body.features import pose_features
from bodyfit.body.lbs import forward_kinematics
from bodyfit.body.points.posed import PosedPoints, PosedTree
from bodyfit.fit.config import StageConfig
from bodyfit.fit.objective import BodyTerms, Observations, StageObjective
from bodyfit.fit.residuals import PointResidual, VariableResidual
from bodyfit.fit.residuals.reprojection import NEAR_M
from bodyfit.geometry.rotation import so3_exp

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

    @cached_property
    def objective(self) -> StageObjective:
        """Which residuals there are, and what they weigh."""
        return StageObjective(self.terms, self.stage, self.seen)

    def select(self, index: Tensor) -> Residuals:
        """The objective of some of the people."""
        return replace(self, seen=self.seen.select(index))

    def cost(self, x: Tensor) -> Tensor:
        """(B,) objective; infinite where a seen point is not before the camera."""
        return self(x)[0].square().sum(1) + self.behind(x)

    def behind(self, x: Tensor) -> Tensor:
        """(B,) infinity where a seen point is not before the camera, else 0."""
        reprojection = self.terms.residual("reprojection")
        assert isinstance(reprojection, PointResidual)
        z = Residuals.points(self, reprojection, x.detach())[0][..., 2]
        return torch.where(((z < NEAR_M) & (self.seen.weight > 0)).any(1), torch.inf, 0.0).to(x)

    def points(self, residual: PointResidual, x: Tensor) -> tuple[Tensor, PosedPoints | None]:
        """(B, K, 3) the points that a residual looks at, without what derivatives in closed form need."""
        layout = self.terms.layout
        betas = x[:, layout["betas"]] if residual.feels_shape else x[:, layout["betas"]].detach()
        tree = bare_tree(self.terms.model, betas, layout.rotvecs(x))
        placed = residual.points(self.terms.setup).place(tree, betas)
        return placed.positions + x[:, None, layout["transl"]], placed

    def __call__(self, x: Tensor, *, with_jacobian: bool = False) -> tuple[Tensor, Tensor]:
        """(B, R) residuals and, where asked for, (B, R, D) their derivative (else nothing)."""
        if with_jacobian:
            residuals, rows = zip(*(self.objective.vector_of(name, x) for name in self.objective.weights), strict=True)
            return torch.cat(residuals, 1), torch.cat(rows, 1)
        variables, parts = self.terms.layout.unpack(x), []
        for name, weight in self.objective.weights.items():
            residual = self.terms.residual(name)
            if isinstance(residual, PointResidual):
                points, _ = self.points(residual, x)
                found = residual.vector(points, variables, self.seen, self.stage, derive=False)
            else:
                assert isinstance(residual, VariableResidual)
                found = residual.vector(variables, self.seen, self.stage, derive=False)
            parts.append(weight * found.r)
        return torch.cat(parts, 1), x.new_empty(0)
