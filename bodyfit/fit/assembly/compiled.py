"""The normal equations by compiled loops, for people on a CPU: conversion of residuals to plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.tables import TreeTables
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals import RESIDUALS, Residual, VariableResidual
from bodyfit.fit.setup import Setup
from bodyfit.runtime.parallel import run
from bodyfit.solve import Normal

__all__ = ["CompiledTerms", "Loops"]

_GRAIN = 4
"""Minimum number of people per thread."""


class CompiledTerms(NamedTuple):
    """Records of the residuals that have a loop, by what they act on (`residuals.base.Loop`).

    A `NamedTuple` because numba takes it as an argument.
    """

    keypoints: tuple[Any, ...]
    points3d: tuple[Any, ...]
    centred: tuple[Any, ...]
    variables: tuple[tuple[int, int, Any], ...]
    """First column, number of columns and record."""
    own_points: tuple[Any, ...]


@dataclass(frozen=True)
class Loops:
    """Compiled assembly for one setup."""

    setup: Setup

    def take(self, x: Float[Tensor, "B D"], seen: Observations) -> bool:
        """Tell whether the loops can read x and the observations: on the CPU, of the model's type, without autograd."""
        kind = self.setup.model.dtype
        here = x.is_cpu and seen.weight.is_cpu and self.setup.model.device.type == "cpu"
        same = x.dtype == seen.weight.dtype == kind
        return here and same and kind in (torch.float32, torch.float64) and not torch.is_grad_enabled()

    def terms(
        self,
        residual: Callable[[str], Residual],
        weights: Mapping[str, float],
        seen: Observations,
        stage: StageConfig,
    ) -> CompiledTerms:
        """Collect the weighted records of all residuals that have a loop.

        Residuals without a weight are included, so that the types, and with them the compiled loop, are always the
        same; those of hands and faces only where these are fitted. `residual` returns the residual of a name.
        """
        places: dict[str, list[Any]] = {place: [] for place in CompiledTerms._fields}
        for name, kind in RESIDUALS.items():
            if kind.loop is None or (kind.loop.whole and not self.setup.whole):
                continue
            weight = float(weights.get(name, 0.0))
            record = None if weight > 0 else kind.blank(self.setup)
            record = residual(name).arrays(seen, stage, weight) if record is None else record
            if issubclass(kind, VariableResidual):
                layout, block = self.setup.layout, kind.blocks[0]
                columns = layout[block] if block in layout else slice(0, 0)
                record = columns.start, columns.stop - columns.start, record
            places[kind.loop.place.replace(" ", "_")].append(record)
        return CompiledTerms(*(tuple(records) for records in places.values()))

    def normal(self, x: Float[Tensor, "B D"], terms: CompiledTerms) -> Normal:
        """Compute the cost, J^T r and J^T J at x."""
        from bodyfit.fit.assembly.loops import normal

        kind, (batch, size), setup = self.setup.model.dtype, x.shape, self.setup
        numbers = str(kind).removeprefix("torch.")
        cost, gradient = np.empty(batch, numbers), np.empty((batch, size), numbers)
        hessian = np.empty((batch, size, size), numbers)
        lists = setup.points.tables, setup.points3d.tables, setup.points3d is setup.points
        x_of = x.contiguous().numpy()
        run(normal, batch, x_of, self._tree, *lists, terms, cost, gradient, hessian, grain=_GRAIN)
        return Normal(torch.from_numpy(cost), torch.from_numpy(gradient), torch.from_numpy(hessian))

    @cached_property
    def _tree(self) -> TreeTables:
        model, layout = self.setup.model, self.setup.layout
        n, shape = len(layout.joint_columns), layout.coefficient_columns
        return TreeTables.of(
            model.joints_template[:n].numpy(),
            model.joints_shapedirs[:n, :, : len(shape)].numpy(),
            tuple(model.parents[:n]),
            model.feature_columns,
            transl=layout["transl"].start,
            columns=layout.joint_columns,
            shape=shape,
            about=layout.about,
        )
