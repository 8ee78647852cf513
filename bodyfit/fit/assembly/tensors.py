"""The normal equations in torch, on any device, differentiable by autograd.

Residuals on points are reduced to forces, stiffnesses and couplings of points (`PointTerm`). These are summed over all
residuals on the same points first, so that the points' Jacobian enters one product, whatever their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.posed import PosedPoints, PosedTree, pose_tree
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import PointResidual, PointTerm, Quadratic, Residual, VariableResidual
from bodyfit.fit.setup import Setup
from bodyfit.fit.variables import Variables
from bodyfit.solve import Normal

__all__ = ["Weighted", "add_hessian", "add_to", "normal", "posed", "vector"]


@dataclass(frozen=True)
class Weighted:
    """A residual and its weight, which is squared in the objective."""

    residual: Residual
    weight: float


def posed(setup: Setup, x: Float[Tensor, "B D"]) -> PosedTree:
    """Compute forward kinematics of the body at x."""
    return pose_tree(setup.model, setup.layout.coefficients(x), setup.layout.rotvecs(x))


def normal(
    setup: Setup, residuals: Sequence[Weighted], x: Float[Tensor, "B D"], seen: Observations, stage: StageConfig
) -> Normal:
    """Compute the cost, J^T r and J^T J of some residuals at x."""
    batch, size = x.shape
    zero = Normal(x.new_zeros(batch), x.new_zeros(batch, size), x.new_zeros(batch, size, size))
    return add_to(zero, setup, residuals, x, seen, stage)


def add_to(
    normal: Normal,
    setup: Setup,
    residuals: Sequence[Weighted],
    x: Float[Tensor, "B D"],
    seen: Observations,
    stage: StageConfig,
) -> Normal:
    """Add residuals to the normal equations; gradient and Hessian are changed in place.

    Without people nothing is done: residuals are called with at least one person.
    """
    if len(x) == 0:
        return normal
    variables, layout, cost = setup.layout.unpack(x), setup.layout, normal.cost
    lists: dict[tuple[int, bool], list[tuple[PointResidual, float]]] = {}
    points = {}
    for weighted in residuals:
        residual, w2 = weighted.residual, weighted.weight**2
        if isinstance(residual, PointResidual):
            mine = residual.points(setup)
            points[id(mine)] = mine
            lists.setdefault((id(mine), residual.feels_shape), []).append((residual, w2))
        elif isinstance(residual, VariableResidual):
            term = residual.at(variables, seen, stage)
            cost = torch.add(cost, term.cost, alpha=w2)
            _add_quadratic(normal, term, w2, [layout[name] for name in residual.blocks])
    if lists:
        tree = posed(setup, x)
        coefficients = layout.coefficients(x)
        placed = {key: mine.place(tree, coefficients) for key, mine in points.items()}
        for (key, feels_shape), members in lists.items():
            at = placed[key].positions + variables["transl"][:, None]
            terms = [(residual, w2, residual.at(at, variables, seen, stage)) for residual, w2 in members]
            for _, w2, term in terms:
                cost = torch.add(cost, term.cost, alpha=w2)
            _add_points(normal, layout, placed[key], [(r.centred, w2, t) for r, w2, t in terms], feels_shape)
    return Normal(cost, normal.gradient, normal.hessian)


def add_hessian(
    hessian: Float[Tensor, "B D D"],
    setup: Setup,
    residual: Residual,
    factor: float,
    x: Float[Tensor, "B D"],
    seen: Observations,
    stage: StageConfig,
) -> None:
    """Add a residual's unweighted half Hessian times a factor of any sign, in place."""
    if not isinstance(residual, VariableResidual):
        hessian.add_(normal(setup, [Weighted(residual, 1.0)], x, seen, stage).hessian, alpha=factor)
        return
    term, layout = residual.at(setup.layout.unpack(x), seen, stage), setup.layout
    _add_hessian(hessian, term, factor, [layout[name] for name in residual.blocks])


def vector(
    setup: Setup, weighted: Weighted, x: Float[Tensor, "B D"], seen: Observations, stage: StageConfig
) -> tuple[Float[Tensor, "B R"], Float[Tensor, "B R D"]]:
    """Compute a weighted residual vector, whose square is its cost, and its Jacobian by x."""
    residual, layout = weighted.residual, setup.layout
    variables = layout.unpack(x)
    if isinstance(residual, PointResidual):
        placed = residual.points(setup).place(posed(setup, x), layout.coefficients(x))
        found = residual.vector(placed.positions + variables["transl"][:, None], variables, seen, stage)
        assert found.by_points is not None
        rows = found.by_points.flatten(2) @ placed.jacobian().flatten(1, 2)
        out = rows.new_zeros(*rows.shape[:2], layout.size)
        out[:, :, list(layout.point_columns(placed.points.joints, placed.points.coefficients))] = rows
        if not residual.feels_shape:
            out[:, :, layout["betas"]] = 0
    else:
        assert isinstance(residual, VariableResidual)
        found = residual.vector(variables, seen, stage)
        assert found.by_variables is not None
        out = found.r.new_zeros(*found.r.shape, layout.size)
        columns = [c for name in residual.blocks for c in range(*layout[name].indices(layout.size))]
        out[:, :, columns] = found.by_variables
    return weighted.weight * found.r, weighted.weight * out


def _add_quadratic(normal: Normal, term: Quadratic, w2: float, where: list[slice]) -> None:
    """Add a quadratic model on blocks of variables, in place."""
    start = 0
    for rows in where:
        own = slice(start, start + rows.stop - rows.start)
        normal.gradient[:, rows].add_(term.gradient[:, own], alpha=w2)
        start = own.stop
    _add_hessian(normal.hessian, term, w2, where)


def _add_hessian(hessian: Float[Tensor, "B D D"], term: Quadratic, factor: float, where: list[slice]) -> None:
    """Add the Hessian of a quadratic model on blocks of variables, in place."""
    start = 0
    for rows in where:
        own = slice(start, start + rows.stop - rows.start)
        if term.hessian.ndim == 2:
            hessian[:, rows, rows].diagonal(dim1=1, dim2=2).add_(term.hessian[:, own], alpha=factor)
        else:
            other = 0
            for columns in where:
                across = slice(other, other + columns.stop - columns.start)
                hessian[:, rows, columns].add_(term.hessian[:, own, across], alpha=factor)
                other = across.stop
        start = own.stop


def _add_points(
    normal: Normal,
    layout: Variables,
    placed: PosedPoints,
    terms: list[tuple[bool, float, PointTerm]],
    feels_shape: bool,
) -> None:
    """Add quadratic models on one list of points, in place.

    `terms` are tuples (whether the residual is centred, its squared weight, its model).
    """
    force = _sum([(w2, t.force) for _, w2, t in terms])
    own_force = _sum([(w2, t.force) for centred, w2, t in terms if not centred])
    stiffness = _sum([(w2, t.stiffness) for _, w2, t in terms])
    own_stiffness = _sum([(w2, t.stiffness) for centred, w2, t in terms if not centred])
    assert force is not None
    # The columns of the Jacobian; that of the translation is the identity.
    betas = layout["betas"]
    coefficients = [name for name in placed.points.coefficients if feels_shape or name != "betas"]
    by_joints = stiffness is not None or bool(coefficients) or any(t.blocks or t.coupling for *_, t in terms)
    by_joints = by_joints or any(t.rows is not None and not centred for centred, _, t in terms)
    J = None
    if by_joints:
        J = placed.jacobian_pose().flatten(1, 2)  # (B, 3K, 3J)
        if coefficients:
            first = 0 if feels_shape else betas.stop - betas.start
            J = torch.cat([J, placed.jacobian_betas(first).flatten(1, 2)], 2)
    into = _Into(normal, layout, layout.point_columns(placed.points.joints, coefficients)[3:])
    if own_force is not None:
        into.gradient(layout["transl"], own_force.sum(1))
    pulled = force[:, None] if J is not None else torch.cat([force[:, None], *_rows(terms)], 1)
    pulled = placed.pull_back(pulled) if J is None else pulled.flatten(2) @ J
    into.moved_gradient(pulled[:, 0])
    if J is None and pulled.shape[1] > 1:
        into.moved(pulled[:, 1:].mT @ pulled[:, 1:])
    if stiffness is not None:
        assert J is not None
        into.moved(J.mT @ (stiffness @ J.unflatten(1, (-1, 3))).flatten(1, 2))
    if own_stiffness is not None:
        assert J is not None
        across = own_stiffness.permute(0, 2, 1, 3).flatten(2) @ J  # (B, 3, N)
        into.translated(own_stiffness.sum(1), across)
    for centred, w2, term in terms:
        if term.rows is not None and J is not None:
            rows = term.rows.flatten(2) @ J
            into.moved(w2 * (rows.mT @ rows))
            if not centred:
                by_transl = term.rows.sum(2)
                into.translated(w2 * (by_transl.mT @ by_transl), w2 * (by_transl.mT @ rows))
        if term.coupling is not None:
            assert J is not None
            left, right = (v.flatten(2) @ J for v in term.coupling)  # (B, M, N)
            half = left.mT @ right
            into.moved(-w2 * (half + half.mT))
            if not centred:
                by_transl = [v.sum(2) for v in term.coupling]
                across = by_transl[0].mT @ right + by_transl[1].mT @ left
                square = by_transl[0].mT @ by_transl[1]
                into.translated(-w2 * (square + square.mT), -w2 * across)
        for name, block in term.blocks.items():
            assert J is not None
            rows = layout[name]
            into.gradient(rows, w2 * block.gradient)
            into.block(rows, w2 * block.hessian)
            mixed = w2 * block.mixed  # (B, K, 3, n)
            into.mixed(rows, mixed.flatten(1, 2).mT @ J)
            if not centred:
                into.across(rows, layout["transl"], mixed.sum(1).mT)


def _rows(terms: list[tuple[bool, float, PointTerm]]) -> list[Float[Tensor, "B R K 3"]]:
    """List the weighted rows of all terms."""
    return [w2**0.5 * term.rows for _, w2, term in terms if term.rows is not None]


def _sum(terms: list[tuple[float, Tensor | None]]) -> Tensor | None:
    """Sum the weighted values that are not None; None if all are."""
    total = None
    for weight, value in terms:
        if value is None:
            continue
        weighted = value if weight == 1 else weight * value
        total = weighted if total is None else total + weighted
    return total


@dataclass(frozen=True)
class _Into:
    """Adds blocks in the order of the points' Jacobian to the normal equations."""

    sums: Normal
    layout: Variables
    columns: tuple[int, ...]
    """Columns of the Jacobian in the solver's vector: the joints' axis-angles, then the coefficients."""

    @cached_property
    def _columns(self) -> slice | Tensor:
        first, last = self.columns[0], self.columns[-1] + 1
        if self.columns == tuple(range(first, last)):
            return slice(first, last)
        return torch.tensor(self.columns, device=self.sums.gradient.device)

    def gradient(self, where: slice, value: Tensor) -> None:
        self.sums.gradient[:, where].add_(value)

    def block(self, where: slice, value: Tensor) -> None:
        self.sums.hessian[:, where, where].add_(value)

    def across(self, rows: slice, columns: slice, value: Tensor) -> None:
        """Add a block off the diagonal and its transpose."""
        self.sums.hessian[:, rows, columns].add_(value)
        self.sums.hessian[:, columns, rows].add_(value.mT)

    def moved_gradient(self, value: Tensor) -> None:
        columns = self._columns
        if isinstance(columns, slice):
            self.sums.gradient[:, columns].add_(value)
        else:
            self.sums.gradient.index_add_(1, columns, value)

    def moved(self, value: Tensor) -> None:
        columns = self._columns
        if isinstance(columns, slice):
            self.sums.hessian[:, columns, columns].add_(value)
        else:
            self._scattered(columns, columns, value)

    def _scattered(self, rows: Tensor, columns: Tensor, value: Tensor) -> None:
        """Add a block of rows and columns anywhere: one pass over it, where an index of two lists makes copies."""
        hessian = self.sums.hessian
        at = (rows[:, None] * hessian.shape[2] + columns).flatten()
        hessian.view(len(hessian), -1).index_add_(1, at, value.flatten(1))

    def translated(self, own: Tensor, across: Tensor) -> None:
        """Add the translation's block, and its blocks with the columns of the Jacobian."""
        self.block(self.layout["transl"], own)
        self.mixed(self.layout["transl"], across)

    def mixed(self, rows: slice, value: Tensor) -> None:
        """Add blocks of some variables (rows) with the columns of the Jacobian."""
        columns = self._columns
        if isinstance(columns, slice):
            self.across(rows, columns, value)
        else:
            at = torch.arange(rows.start, rows.stop, device=columns.device)
            self._scattered(at, columns, value)
            self._scattered(columns, at, value.mT)
