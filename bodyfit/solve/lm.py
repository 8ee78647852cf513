"""Batched Levenberg-Marquardt: many small least-squares problems at once, each with its own damping and its own end.

It knows no bodies. A problem says what its objective is about the current points by normal equations; the solver damps,
factors, tries, and keeps per item what got better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.runtime.parallel import run
from bodyfit.solve.elimination import solve_eliminated

__all__ = ["LMConfig", "LMSummary", "Normal", "Problem", "minimize"]


_GRAIN = 8
"""So many items are worth a thread."""


@dataclass
class Normal:
    """The objective |r(x)|^2 about x, for each item. Terms are added to it in place: who gets one owns it."""

    cost: Float[Tensor, "B"]
    """|r|^2, constants that do not depend on x left out where they are large (float32 has seven digits)."""
    gradient: Float[Tensor, "B D"]
    """J^T r, half the objective's gradient."""
    hessian: Float[Tensor, "B D D"]
    """J^T J or another positive semi-definite stand-in for half the objective's Hessian."""


@runtime_checkable
class Problem(Protocol):
    """A batch of least-squares problems."""

    def normal(self, x: Float[Tensor, "B D"]) -> Normal:
        """Cost and normal equations at x."""
        ...

    def select(self, index: Int[Tensor, "N"]) -> Problem:
        """The problem of some of the items."""
        ...


@dataclass(frozen=True, kw_only=True)
class LMConfig:
    """When to stop and how to damp."""

    max_iterations: int = 30
    """Steps tried at most."""
    cost_tolerance: float = 1e-4
    """An accepted step that lowers the objective by less than this part of it ends the item."""
    damping: float = 1e-3
    """Starting damping, in parts of the Hessian's diagonal (Marquardt)."""
    damping_down: float = 0.2
    """Factor after a step that gained at least three quarters of what the quadratic model foretold."""
    damping_up: float = 6.0
    """Factor after a refused step; its root after one that gained less than a quarter."""
    damping_max: float = 1e8
    """An item whose damping passes this has no better point near it and ends."""
    check_every: int = 3
    """Iterations between looks at which items are done; each look waits for the device. A CPU is looked at always."""


@dataclass(frozen=True)
class LMSummary:
    """How a minimisation went, for each item."""

    cost: Float[Tensor, "B"]
    """Objective at the end; not finite where it was not at the start."""
    iterations: Int[Tensor, "B"]
    """Steps tried."""
    converged: Bool[Tensor, "B"]
    """Whether the item ended by its own test and not by the count."""
    trace: Float[Tensor, "B T"]
    """Objective at the start and after each of `max_iterations` steps; an item that has ended keeps its last."""


@dataclass
class _State:
    """What changes as the iterations go, for the items still in work."""

    x: Tensor
    at: Normal
    damping: Tensor
    done: Tensor
    iterations: Tensor

    def select(self, index: Tensor) -> _State:
        at = Normal(self.at.cost[index], self.at.gradient[index], self.at.hessian[index])
        return _State(self.x[index], at, self.damping[index], self.done[index], self.iterations[index])


@torch.no_grad()
def minimize(
    problem: Problem, x: Float[Tensor, "B D"], config: LMConfig, *, eliminate: Sequence[slice] = ()
) -> tuple[Float[Tensor, "B D"], LMSummary]:
    """The minimiser from each start; an item whose objective is not finite at the start is left where it is.

    `eliminate`: columns of variables that are coupled to all others but not to each other's, which are taken out before
    what is left is solved densely (`elimination`).
    """
    at = problem.normal(x)
    own = torch.contiguous_format
    at = Normal(*(t.clone(memory_format=own) for t in (at.cost, at.gradient, at.hessian)))
    state = _State(
        x=x.clone(memory_format=own),
        at=at,
        damping=torch.full_like(at.cost, config.damping),
        done=~torch.isfinite(at.cost),
        iterations=torch.zeros_like(at.cost, dtype=torch.int64),
    )
    out_x, out_cost = state.x.clone(), at.cost.clone()
    out_iterations, out_done = state.iterations.clone(), state.done.clone()
    alive = torch.arange(len(x), device=x.device)
    # Costs never rise, so what is not written is the least of what came before.
    trace = torch.full((config.max_iterations + 1, len(x)), torch.inf, dtype=x.dtype, device=x.device)
    trace[0] = at.cost
    check_every = 1 if x.is_cpu else config.check_every
    for iteration in range(config.max_iterations + 1):
        if iteration == config.max_iterations or iteration % check_every == 0:
            out_x[alive], out_cost[alive] = state.x, state.at.cost
            out_iterations[alive], out_done[alive] = state.iterations, state.done
            going = (~state.done).nonzero()[:, 0]
            if iteration == config.max_iterations or len(going) == 0:
                break
            if len(going) < 0.85 * len(alive):  # finished items cost as much as others: drop them
                alive, problem, state = alive[going], problem.select(going), state.select(going)
        _step(problem, state, config, eliminate)
        trace[iteration + 1].index_copy_(0, alive, state.at.cost)
    converged = out_done & torch.isfinite(out_cost)
    return out_x, LMSummary(out_cost, out_iterations, converged, trace.cummin(0).values.T)


def _step(problem: Problem, state: _State, config: LMConfig, eliminate: Sequence[slice] = ()) -> None:
    """One trial step for every item, kept where it lowers the objective."""
    if state.x.is_cpu and state.x.dtype in (torch.float32, torch.float64) and not eliminate:
        _step_by_loops(problem, state, config)
    else:
        _step_by_tensors(problem, state, config, eliminate)


def _step_by_loops(problem: Problem, state: _State, config: LMConfig) -> None:
    """On a CPU, whose time goes into calls and copies and not into sums of so small matrices."""
    from bodyfit.solve.lm_loops import judge, propose

    x, at = state.x, state.at
    kept = tuple(t.numpy() for t in (x, at.cost, at.gradient, at.hessian, state.damping, state.done, state.iterations))
    tried, foretold = torch.empty_like(x), np.empty(len(x))
    tiny = torch.finfo(x.dtype).tiny
    run(propose, len(x), kept[0], *kept[2:6], tiny, tried.numpy(), foretold, grain=_GRAIN)
    trial = problem.normal(tried)
    new = (t.contiguous().numpy() for t in (tried, trial.cost, trial.gradient, trial.hessian))
    rules = float(config.cost_tolerance), float(config.damping_down), float(config.damping_up)
    run(judge, len(x), *new, foretold, *rules, float(config.damping_max), *kept, grain=16 * _GRAIN)


def _step_by_tensors(problem: Problem, state: _State, config: LMConfig, eliminate: Sequence[slice] = ()) -> None:
    """On any device; nothing here waits for it."""
    cost, gradient, hessian = state.at.cost, state.at.gradient, state.at.hessian
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    floor = 1e-9 * diagonal.amax(1, keepdim=True) + torch.finfo(diagonal.dtype).tiny
    added = torch.addcmul(floor, state.damping[:, None], diagonal)
    damped = hessian.clone()
    damped.diagonal(dim1=1, dim2=2).add_(added)
    if eliminate:
        descent, definite = solve_eliminated(damped, gradient, eliminate)
    else:
        factor, info = torch.linalg.cholesky_ex(damped)
        descent, definite = torch.cholesky_solve(gradient[..., None], factor)[..., 0], info == 0
    foretold = (descent * torch.addcmul(gradient, added, descent)).sum(1)  # what the quadratic model would gain
    # A step that is no number foretells none.
    usable = definite & torch.isfinite(foretold) & ~state.done
    trial_x = torch.where(usable[:, None], state.x - descent, state.x)
    trial = problem.normal(trial_x)
    gained = cost - trial.cost
    better = usable & (gained > 0) & torch.isfinite(trial.cost)
    keep = better[:, None]
    state.at = Normal(
        torch.where(better, trial.cost, cost),
        torch.where(keep, trial.gradient, gradient),
        torch.where(keep[..., None], trial.hessian, hessian),
    )
    state.x = torch.where(keep, trial_x, state.x)
    state.iterations += ~state.done
    down, up = config.damping_down, config.damping_up
    by_gain = torch.where(gained > 0.75 * foretold, down, torch.where(gained > 0.25 * foretold, 1.0, up**0.5))
    state.damping = (state.damping * torch.where(better, by_gain, up)).clamp(1e-9, 10 * config.damping_max)
    settled = better & (gained < config.cost_tolerance * cost.abs().clamp_min(1e-12))
    state.done = state.done | settled | (state.damping > config.damping_max)
