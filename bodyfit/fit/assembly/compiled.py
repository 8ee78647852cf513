"""The normal equations by compiled loops, for people on a CPU: what the loops read, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.tables import TreeTables
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.capsules import CapsuleOverlap
from bodyfit.fit.residuals.common.arrays import CompiledTerms
from bodyfit.fit.setup import Setup
from bodyfit.runtime.parallel import run
from bodyfit.solve import Normal

__all__ = ["Loops"]

_GRAIN = 4
"""So many people are worth a thread."""


@dataclass(frozen=True)
class Loops:
    """The loops for one setup."""

    setup: Setup

    def take(self, x: Float[Tensor, "B D"], seen: Observations) -> bool:
        """Whether these are what the loops can read: on the CPU, of the model's type, no gradient wanted."""
        kind = self.setup.model.dtype
        here = x.is_cpu and seen.weight.is_cpu and self.setup.model.device.type == "cpu"
        same = x.dtype == seen.weight.dtype == kind
        return here and same and kind in (torch.float32, torch.float64) and not torch.is_grad_enabled()

    def terms(
        self, residuals: Mapping[str, Any], weights: Mapping[str, float], seen: Observations, stage: StageConfig
    ) -> CompiledTerms:
        """What the compiled residuals read, weighed; those without a weight are left out."""
        made = {}
        for name in CompiledTerms._fields:
            if name not in weights and name == CapsuleOverlap.name:
                made[name] = CapsuleOverlap.none(self.setup)
            else:
                made[name] = residuals[name].arrays(seen, stage, float(weights.get(name, 0.0)))
        return CompiledTerms(**made)

    def normal(self, x: Float[Tensor, "B D"], terms: CompiledTerms) -> Normal:
        """Cost, J^T r and J^T J at x."""
        from bodyfit.fit.assembly.loops import normal

        kind, (batch, size), setup = self.setup.model.dtype, x.shape, self.setup
        numbers = str(kind).removeprefix("torch.")
        cost, gradient = np.empty(batch, numbers), np.empty((batch, size), numbers)
        hessian = np.empty((batch, size, size), numbers)
        lists = setup.points.tables, setup.points3d.tables, setup.points3d is setup.points
        where = setup.layout["body_pose"].start
        run(
            normal, batch, x.contiguous().numpy(), self._tree, where, *lists, terms, cost, gradient, hessian,
            grain=_GRAIN
        )  # fmt: skip
        return Normal(torch.from_numpy(cost), torch.from_numpy(gradient), torch.from_numpy(hessian))

    @cached_property
    def _tree(self) -> TreeTables:
        model, layout = self.setup.model, self.setup.layout
        n = model.body_joints
        return TreeTables.of(
            model.joints_template[:n].numpy(),
            model.joints_shapedirs[:n, :, : model.num_betas].numpy(),
            tuple(model.parents[:n]),
            model.feature_columns,
            transl=layout["transl"].start,
            columns=layout.joint_columns[:n],
            betas=layout["betas"].start,
        )
