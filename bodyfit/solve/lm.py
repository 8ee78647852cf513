"""Minimise batches of small least-squares problems by Levenberg-Marquardt, each with its own damping and termination.

Independent of bodies: a problem supplies its normal equations at the current points; the solver damps and factors them,
evaluates the trial step, and accepts it item by item where the objective decreases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.runtime.parallel import run
from bodyfit.solve.elimination import solve_eliminated

__all__ = ["LMConfig", "LMSummary", "Normal", "Problem", "minimize"]


_GRAIN = 8
"""Fewest items for one thread."""


@dataclass
class Normal:
    """The objective |r(x)|^2 and its normal equations at x, for each item; terms are added to it in place."""

    cost: Float[Tensor, "B"]
    """|r|^2, without large terms that do not depend on x (float32 has seven digits)."""
    gradient: Float[Tensor, "B D"]
    """J^T r, half the objective's gradient."""
    hessian: Float[Tensor, "B D D"]
    """J^T J or another positive semi-definite approximation of half the objective's Hessian."""


@runtime_checkable
class Problem(Protocol):
    """A batch of least-squares problems."""

    def normal(self, x: Float[Tensor, "B D"]) -> Normal:
        """Compute cost and normal equations at x."""
        ...

    def select(self, index: Int[Tensor, "N"]) -> Problem:
        """Return the problem of some of the items."""
        ...


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """Termination and damping of Levenberg-Marquardt."""

    max_iterations: int = 30
    """Most steps tried."""
    cost_tolerance: float = 1e-4
    """Relative reduction of the objective by an accepted step below which an item has converged."""
    damping: float = 1e-3
    """Initial damping, as a fraction of the Hessian's diagonal (Marquardt)."""
    damping_down: float = 0.2
    """Factor on the damping after a step that achieves at least three quarters of the predicted reduction."""
    damping_up: float = 6.0
    """Factor on the damping after a rejected step; its square root after one that achieves less than a quarter."""
    damping_max: float = 1e8
    """An item whose damping exceeds this has no better point nearby and terminates."""
    check_every: int = 3
    """Iterations between checks for converged items, each of which waits for the device; on a CPU every iteration."""


@dataclass(frozen=True)
class LMSummary:
    """The outcome of a minimisation, for each item."""

    cost: Float[Tensor, "B"]
    """Final objective; not finite where it was not at the start."""
    iterations: Int[Tensor, "B"]
    """Number of steps tried."""
    converged: Bool[Tensor, "B"]
    """Whether the item met its tolerance before the iteration limit."""
    trace: Float[Tensor, "B T"]
    """Objective at the start and after each of `max_iterations` steps; constant after an item has terminated."""


@dataclass
class _State:
    """The state of the iteration, for the items that have not terminated."""

    x: Tensor
    at: Normal
    damping: Tensor
    finished: Tensor
    iterations: Tensor

    def select(self, index: Tensor) -> _State:
        """Return the state of some of the items."""
        at = Normal(self.at.cost[index], self.at.gradient[index], self.at.hessian[index])
        return _State(self.x[index], at, self.damping[index], self.finished[index], self.iterations[index])


@torch.no_grad()
def minimize(
    problem: Problem, x: Float[Tensor, "B D"], config: LMConfig, *, eliminate: Sequence[slice] = ()
) -> tuple[Float[Tensor, "B D"], LMSummary]:
    """Minimise from each start; an item whose objective is not finite at the start is returned unchanged.

    `eliminate`: blocks of columns that are not coupled to each other, which are eliminated before the remaining system
    is solved densely (`elimination`).
    """
    at = problem.normal(x)
    own = torch.contiguous_format
    at = Normal(*(t.clone(memory_format=own) for t in (at.cost, at.gradient, at.hessian)))
    state = _State(
        x=x.clone(memory_format=own),
        at=at,
        damping=torch.full_like(at.cost, config.damping),
        finished=~torch.isfinite(at.cost),
        iterations=torch.zeros_like(at.cost, dtype=torch.int64),
    )
    out_x, out_cost = state.x.clone(), at.cost.clone()
    out_iterations, out_finished = state.iterations.clone(), state.finished.clone()
    alive = torch.arange(len(x), device=x.device)
    # Costs never rise, so entries that are not written are the minimum of those before.
    trace = torch.full((config.max_iterations + 1, len(x)), torch.inf, dtype=x.dtype, device=x.device)
    trace[0] = at.cost
    check_every = 1 if x.is_cpu else config.check_every
    for iteration in range(config.max_iterations + 1):
        if iteration == config.max_iterations or iteration % check_every == 0:
            out_x[alive], out_cost[alive] = state.x, state.at.cost
            out_iterations[alive], out_finished[alive] = state.iterations, state.finished
            active = (~state.finished).nonzero()[:, 0]
            if iteration == config.max_iterations or len(active) == 0:
                break
            if len(active) < 0.85 * len(alive):  # finished items cost as much as others: drop them
                alive, problem, state = alive[active], problem.select(active), state.select(active)
        _step(problem, state, config, eliminate)
        trace[iteration + 1].index_copy_(0, alive, state.at.cost)
    converged = out_finished & torch.isfinite(out_cost)
    return out_x, LMSummary(out_cost, out_iterations, converged, trace.cummin(0).values.T)


def _step(problem: Problem, state: _State, config: LMConfig, eliminate: Sequence[slice] = ()) -> None:
    """Try one step for every item and accept it where the objective decreases."""
    if state.x.is_cpu and state.x.dtype in (torch.float32, torch.float64):
        _step_by_loops(problem, state, config, eliminate)
    else:
        _step_by_tensors(problem, state, config, eliminate)


def _step_by_loops(problem: Problem, state: _State, config: LMConfig, eliminate: Sequence[slice] = ()) -> None:
    """Step by compiled loops on a CPU, where the overhead of calls and copies exceeds that of the arithmetic."""
    from bodyfit.solve.lm_loops import judge, propose

    x, at = state.x, state.at
    current = (x, at.cost, at.gradient, at.hessian, state.damping, state.finished, state.iterations)
    arrays = tuple(t.numpy() for t in current)
    trial_x, predicted = torch.empty_like(x), np.empty(len(x))
    tiny = torch.finfo(x.dtype).tiny
    order = _elimination_order(x.shape[1], tuple((block.start, block.stop) for block in eliminate))
    run(propose, len(x), arrays[0], *arrays[2:6], tiny, order, trial_x.numpy(), predicted, grain=_GRAIN)
    trial = problem.normal(trial_x)
    new = (t.contiguous().numpy() for t in (trial_x, trial.cost, trial.gradient, trial.hessian))
    rules = float(config.cost_tolerance), float(config.damping_down), float(config.damping_up)
    run(judge, len(x), *new, predicted, *rules, float(config.damping_max), *arrays, grain=16 * _GRAIN)


@lru_cache(maxsize=16)
def _elimination_order(size: int, blocks: tuple[tuple[int, int], ...]) -> Int[np.ndarray, "D"]:
    """List the variables with those of blocks first; nothing without blocks."""
    if not blocks:
        return np.zeros(0, np.int64)
    first = [column for start, stop in blocks for column in range(start, stop)]
    return np.array([*first, *sorted(set(range(size)) - set(first))], dtype=np.int64)


@lru_cache(maxsize=16)
def _damping_factors(down: float, up: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Bounds of the ratio of a step's reduction to the predicted one, and the damping's factor between them; the ratio
    of a refused step is taken for -1."""
    with torch.inference_mode(False):
        bounds, factors = (
            torch.tensor([-0.5, 0.25, 0.75], dtype=dtype),
            torch.tensor([up, up**0.5, 1.0, down], dtype=dtype),
        )
        return bounds.to(device), factors.to(device)


def _step_by_tensors(problem: Problem, state: _State, config: LMConfig, eliminate: Sequence[slice] = ()) -> None:
    """Step by tensor operations on any device, without waiting for it."""
    cost, gradient, hessian = state.at.cost, state.at.gradient, state.at.hessian
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    floor = 1e-9 * diagonal.amax(1, keepdim=True) + torch.finfo(diagonal.dtype).tiny
    damping = torch.addcmul(floor, state.damping[:, None], diagonal)
    damped = hessian.clone()
    damped.diagonal(dim1=1, dim2=2).add_(damping)
    if eliminate:
        descent, definite = solve_eliminated(damped, gradient, eliminate)
    else:
        factor, info = torch.linalg.cholesky_ex(damped)
        descent, definite = torch.cholesky_solve(gradient[..., None], factor)[..., 0], info == 0
    predicted = (descent * torch.addcmul(gradient, damping, descent)).sum(1)  # reduction by the quadratic model
    # A NaN step has a NaN prediction.
    usable = definite & (predicted.abs() < torch.inf) & ~state.finished
    trial_x = torch.where(usable[:, None], state.x - descent, state.x)
    trial = problem.normal(trial_x)
    reduction = cost - trial.cost
    better = usable & (reduction > 0) & (reduction < torch.inf)
    keep = better[:, None]
    state.at = Normal(
        torch.where(better, trial.cost, cost),
        torch.where(keep, trial.gradient, gradient),
        torch.where(keep[..., None], trial.hessian, hessian),
    )
    state.x = torch.where(keep, trial_x, state.x)
    state.iterations += ~state.finished
    bounds, factors = _damping_factors(config.damping_down, config.damping_up, cost.dtype, cost.device)
    ratio = torch.bucketize((reduction / predicted).masked_fill(~better, -1.0), bounds)
    state.damping = (state.damping * factors[ratio]).clamp(1e-9, 10 * config.damping_max)
    converged = better & (reduction < config.cost_tolerance * cost.abs().clamp_min(1e-12))
    state.finished = state.finished | converged | (state.damping > config.damping_max)
