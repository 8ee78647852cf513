"""Minimise an objective on a chain by Levenberg-Marquardt.

Links have variables of their own, coupled to their neighbours' and to variables that all links share. One objective,
one damping; time and memory are linear in the number of links. Independent of bodies: a problem supplies its cost and
normal equations as a block-banded matrix with an arrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.solve.banded import BandedArrow, solve_banded_arrow
from bodyfit.solve.lm import LMConfig

__all__ = ["ChainNormal", "ChainProblem", "ChainSummary", "minimize_chain"]


@dataclass(frozen=True)
class ChainNormal:
    """The objective |r(x, z)|^2 and its normal equations at links x and shared variables z."""

    cost: float
    """|r|^2; not finite where it is undefined."""
    gradient: Float[Tensor, "T N"]
    """J^T r with respect to the links, half the gradient."""
    gradient_shared: Float[Tensor, "M"]
    """J^T r with respect to the shared variables."""
    hessian: BandedArrow
    """J^T J or another positive semi-definite approximation of half the Hessian."""


@runtime_checkable
class ChainProblem(Protocol):
    """A least-squares problem on a chain."""

    def normal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> ChainNormal:
        """Compute cost and normal equations at (x, z)."""
        ...


@dataclass(frozen=True)
class ChainSummary:
    """The outcome of a minimisation."""

    cost: float
    """Final objective."""
    iterations: int
    """Number of steps tried."""
    converged: bool
    """Whether it met its tolerance before the iteration limit."""
    trace: tuple[float, ...]
    """Objective at the start and after each step."""


@torch.no_grad()
def minimize_chain(
    problem: ChainProblem, x: Float[Tensor, "T N"], z: Float[Tensor, "M"], config: LMConfig
) -> tuple[Float[Tensor, "T N"], Float[Tensor, "M"], ChainSummary]:
    """Minimise from a start; damping, acceptance and termination as in `minimize`, for the whole chain together."""
    from bodyfit.solve.lm_loops import damping_factor

    at = problem.normal(x, z)
    damping, trace, converged = config.damping, [at.cost], False
    while len(trace) <= config.max_iterations and not converged and damping <= config.damping_max:
        step = _damped_step(at, damping)
        if step is None:
            damping *= config.damping_up
            trace.append(at.cost)
            continue
        dx, dz, predicted = step
        trial = problem.normal(x - dx, z - dz)
        reduction = at.cost - trial.cost
        if reduction > 0:  # false where the cost is NaN
            converged = reduction < config.cost_tolerance * abs(at.cost)
            damping *= damping_factor(reduction, predicted, config.damping_down, config.damping_up)
            damping = max(damping, 1e-9)
            x, z, at = x - dx, z - dz, trial
        else:
            damping *= config.damping_up
            # Where the quadratic model predicts a negligible reduction, the point is a minimum.
            converged = predicted < config.cost_tolerance * abs(at.cost)
        trace.append(at.cost)
    return x, z, ChainSummary(at.cost, len(trace) - 1, converged, tuple(trace))


def _damped_step(at: ChainNormal, damping: float) -> tuple[Tensor, Tensor, float] | None:
    """Return the step to subtract (links, shared variables) and the reduction that the quadratic model predicts."""
    A, dtype = at.hessian, at.gradient.dtype
    diagonal, corner = A.diagonal.double(), A.corner.double()
    own, shared = diagonal.diagonal(dim1=1, dim2=2), corner.diagonal()
    damping_term, damping_shared = (
        v * damping + 1e-9 * v.amax().clamp_min(1e-12) if v.numel() else v for v in (own, shared)
    )
    damped = BandedArrow(
        diagonal + torch.diag_embed(damping_term),
        A.bands,
        A.border,
        corner + torch.diag(damping_shared),
    )
    g, h = at.gradient.double(), at.gradient_shared.double()
    solution = solve_banded_arrow(damped, g, h)
    if solution is None:
        return None
    dx, dz = solution
    predicted = float((dx * (g + damping_term * dx)).sum() + (dz * (h + damping_shared * dz)).sum())
    return dx.to(dtype), dz.to(dtype), predicted
