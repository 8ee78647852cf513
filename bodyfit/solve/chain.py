"""Levenberg-Marquardt on a chain: many links, each with variables of its own, coupled to their neighbours and to a few
variables that all share. One objective, one damping; time and memory linear in the links.

It knows no bodies. A problem gives cost and normal equations as a block-banded matrix with an arrow.
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
    """The objective |r(x, z)|^2 about links x and shared variables z."""

    cost: float
    """|r|^2; not finite where there is none."""
    gradient: Float[Tensor, "T N"]
    """J^T r by the links, half the gradient."""
    gradient_shared: Float[Tensor, "M"]
    """The same by what they share."""
    hessian: BandedArrow
    """J^T J or another positive semi-definite stand-in for half the Hessian."""


@runtime_checkable
class ChainProblem(Protocol):
    """A least-squares problem on a chain."""

    def normal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> ChainNormal:
        """Cost and normal equations at (x, z)."""
        ...


@dataclass(frozen=True)
class ChainSummary:
    """How a minimisation went."""

    cost: float
    """Objective at the end."""
    iterations: int
    """Steps tried."""
    converged: bool
    """Whether it ended by its own test and not by the count."""
    trace: tuple[float, ...]
    """Objective at the start and after each step."""


@torch.no_grad()
def minimize_chain(
    problem: ChainProblem, x: Float[Tensor, "T N"], z: Float[Tensor, "M"], config: LMConfig
) -> tuple[Float[Tensor, "T N"], Float[Tensor, "M"], ChainSummary]:
    """The minimiser from a start; damping, acceptance and end as in `minimize`, for the whole chain at once."""
    from bodyfit.solve.lm_loops import damping_factor

    at = problem.normal(x, z)
    damping, trace, converged = config.damping, [at.cost], False
    while len(trace) <= config.max_iterations and not converged and damping <= config.damping_max:
        step = _damped_step(at, damping)
        if step is None:
            damping *= config.damping_up
            trace.append(at.cost)
            continue
        dx, dz, foretold = step
        tried = problem.normal(x - dx, z - dz)
        gained = at.cost - tried.cost
        if gained > 0:  # false for a cost that is no number
            converged = gained < config.cost_tolerance * abs(at.cost)
            damping *= damping_factor(gained, foretold, config.damping_down, config.damping_up)
            damping = max(damping, 1e-9)
            x, z, at = x - dx, z - dz, tried
        else:
            damping *= config.damping_up
            # Where the model itself foretells less than counts, there is no better point near.
            converged = foretold < config.cost_tolerance * abs(at.cost)
        trace.append(at.cost)
    return x, z, ChainSummary(at.cost, len(trace) - 1, converged, tuple(trace))


def _damped_step(at: ChainNormal, damping: float) -> tuple[Tensor, Tensor, float] | None:
    """The step to subtract, of links and shared variables, and what the quadratic model would gain by it."""
    A, kind = at.hessian, at.gradient.dtype
    diagonal, corner = A.diagonal.double(), A.corner.double()
    own, shared = diagonal.diagonal(dim1=1, dim2=2), corner.diagonal()
    added, added_shared = (v * damping + 1e-9 * v.amax().clamp_min(1e-12) if v.numel() else v for v in (own, shared))
    damped = BandedArrow(
        diagonal + torch.diag_embed(added),
        A.bands,
        A.border,
        corner + torch.diag(added_shared),
    )
    g, h = at.gradient.double(), at.gradient_shared.double()
    solved = solve_banded_arrow(damped, g, h)
    if solved is None:
        return None
    dx, dz = solved
    foretold = float((dx * (g + added * dx)).sum() + (dz * (h + added_shared * dz)).sum())
    return dx.to(kind), dz.to(kind), foretold
