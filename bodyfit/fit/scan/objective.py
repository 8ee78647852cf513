"""The objective of a body's fit to a scan: the priors of a stage, and the distances of paired points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.skin import PosedSkin, Skin
from bodyfit.fit.objective import StageObjective, fix
from bodyfit.fit.residuals.scan import scan_normal
from bodyfit.fit.scan.pairs import ScanPairs
from bodyfit.solve import Normal

__all__ = ["ScanObjective", "posed"]


def posed(surface: Skin, stage: StageObjective, x: Float[Tensor, "D"]) -> PosedSkin:
    """Pose the skin at the solver's variables of one body; joints that are no variables keep the model's mean pose."""
    layout = stage.terms.layout
    return surface.pose(layout.coefficients(x[None]), layout.rotvecs(x[None]), x[None, layout["transl"]])


@dataclass(frozen=True)
class ScanObjective:
    """Weighted sum of squares of a stage and of each body's pairs; implements `solve.Problem`."""

    stage: StageObjective
    surface: Skin
    pairs: tuple[ScanPairs, ...]
    constant: tuple[slice, ...] = ()
    """Columns of variables that do not move."""

    def select(self, index: Tensor) -> ScanObjective:
        """Select bodies by index or mask."""
        rows = torch.arange(len(self.pairs))[index].tolist()
        return ScanObjective(
            self.stage.select(index), self.surface, tuple(self.pairs[row] for row in rows), self.constant
        )

    def normal(self, x: Float[Tensor, "B D"]) -> Normal:
        """Compute the cost, J^T r and J^T J at x."""
        normal, layout = self.stage.normal(x), self.stage.terms.layout
        joints = len(layout.joint_columns)
        names = ["betas", *(["expression"] if "expression" in layout else [])]
        columns = torch.tensor(layout.point_columns(range(joints), names), device=x.device)
        for row, pairs in enumerate(self.pairs):
            cost, gradient, hessian = scan_normal(pairs, posed(self.surface, self.stage, x[row]), joints)
            normal.cost[row] += cost
            normal.gradient[row, columns] += gradient
            normal.hessian[row, columns[:, None], columns] += hessian
        return fix(normal, self.constant)
