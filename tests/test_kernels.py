"""A residual's loop is found by the record that it reads: one of one's own is called like those that are shipped."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import tiny_assets
from test_fused import observations, terms_of

from bodyfit.body.model import BodyModel
from bodyfit.fit.assembly.kernels import any_weight, on_variables
from bodyfit.fit.config import StageConfig
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.residuals import RESIDUALS, Quadratic, VariableResidual, register, unregister
from bodyfit.fit.residuals.base import Loop
from bodyfit.fit.residuals.bends import AnglePriorArrays
from bodyfit.runtime.compiled import jit, loose


class Targets(NamedTuple):
    """What the kernel reads."""

    weight: float
    target: np.ndarray


@loose
def towards(x, b, column, size, own, room, t, H, g):
    """Squared distances of a block's columns to a target."""
    cost, w2 = 0.0, own.weight * own.weight
    for s in range(size):
        r = np.float64(x[b, column + s]) - own.target[s]
        cost += w2 * r * r
        g[column + s] += w2 * r
        H[column + s, column + s] += w2
    return cost


@jit
def _sum(x, b, terms, room, t, H, g):
    return on_variables(x, b, terms, room, t, H, g) if any_weight((terms[0][2], terms[1][2])) else -1.0


@pytest.fixture
def own():
    @register
    class Towards(VariableResidual):
        name, group, blocks = "towards", "shape", ("betas",)
        loop = Loop("variables", f"{__name__}:towards", Targets)

        @classmethod
        def of(cls, setup):
            return cls()

        def at(self, variables, seen, stage):
            r = variables["betas"] - 1
            return Quadratic(r.square().sum(1), r, torch.ones_like(r))

        def arrays(self, seen, stage, weight):
            return Targets(weight, np.ones(10))

    yield Towards
    unregister("towards")


def test_the_kernel_is_that_of_the_record(own):
    x, H, g = np.random.default_rng(0).normal(size=(2, 13)), np.zeros((13, 13)), np.zeros(13)
    bends = AnglePriorArrays(2.0, np.array([1]), np.array([-1.0]))
    terms = ((0, 3, bends), (3, 10, Targets(0.5, np.ones(10))))
    cost = _sum(x, 1, terms, np.zeros(13), np.zeros(4), H, g)
    r = 10 * np.exp(-x[1, 1])
    assert cost == pytest.approx(4 * r**2 + 0.25 * ((x[1, 3:] - 1) ** 2).sum())
    assert g == pytest.approx(np.r_[0, -4 * r**2, 0, 0.25 * (x[1, 3:] - 1)])
    np.testing.assert_allclose(H, np.diag(np.r_[0, 4 * r**2, 0, np.full(10, 0.25)]))
    none = ((0, 3, bends._replace(weight=0.0)), (3, 10, Targets(0.0, np.ones(10))))
    assert _sum(x, 1, none, np.zeros(13), np.zeros(4), H, g) == -1


def test_records_are_there_whatever_is_seen(own):
    """So that one loop is compiled: of those without evidence or weight, too."""
    terms = terms_of(BodyModel(tiny_assets("smpl", posedirs="dense"), dtype=torch.float64))
    seen = observations(terms, torch.Generator().manual_seed(0))
    stage = StageConfig(pose=1.0, shape=1.0, weights={"towards": 0.5})
    objective = StageObjective(terms, stage, seen)
    looped = [kind for kind in RESIDUALS.values() if kind.loop is not None and not kind.loop.whole]
    for some in (objective, StageObjective(terms, StageConfig(pose=0.0, shape=0.0), seen)):
        arrays = some._arrays
        assert sum(map(len, arrays)) == len(looped)
        records = [*arrays.keypoints, *arrays.points3d, *arrays.centred, *arrays.own_points]
        records += [record for *_, record in arrays.variables]
        assert {type(record) for record in records} == {kind.loop.arrays for kind in looped if kind.loop}
        weights = {record.weight for record in records if isinstance(record, Targets)}
        assert weights == {0.5 if some is objective else 0.0}
    x = torch.zeros(5, terms.layout.size, dtype=torch.float64)
    with torch.no_grad():
        assert objective.backend(x) == "loops"
