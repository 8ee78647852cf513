"""Other people's optimisers on the fit's objective: L-BFGS and Adam of torch, least_squares of scipy.

Each gets the fitter's own starts and goes through its schedule: the first stage from every hypothesis, the others from
the lower end. They run on our closed-form points, which flatters them; "adam32-mesh" is Adam as SPIN runs it, through
the whole body layer of smplx, 64 people at a time.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from bodyfit.body.points.posed import PosedPoints
from bodyfit.fit.config import StageConfig
from bodyfit.fit.objective import BodyTerms, Observations
from bodyfit.fit.residuals import PointResidual
from bodyfit.io.results.model_file import save_model
from scripts.bench.optimisers.residuals import Residuals

__all__ = ["OTHERS", "staged"]

Minimise = Callable[[Residuals, Tensor], Tensor]


def staged(
    terms: BodyTerms, stages: Sequence[StageConfig], x: Tensor, seen: Observations, minimise: Minimise
) -> Tensor:
    """(B, D) ends of the schedule from (B, H, D) starts."""
    batch, keep = x.shape[:2]
    rows = torch.arange(batch).repeat_interleave(keep)
    first = Residuals(terms, stages[0], seen.select(rows))
    x = minimise(first, x.flatten(0, 1))
    best = torch.nan_to_num(first.cost(x).detach(), nan=torch.inf).view(batch, keep).argmin(1)
    x = x[torch.arange(batch) * keep + best]
    for stage in stages[1:]:
        x = minimise(Residuals(terms, stage, seen), x)
    return x


def one_by_one(minimise: Minimise) -> Minimise:
    """A batch as a loop over its rows."""

    def each(problem: Residuals, x: Tensor) -> Tensor:
        return torch.cat([minimise(problem.select(torch.tensor([i])), x[i : i + 1]) for i in range(len(x))])

    return each


def lbfgs(problem: Residuals, x: Tensor, *, tolerance: float, rounds: int = 30, inner: int = 30) -> Tensor:
    """Strong Wolfe line search; up to 30 rounds of 30 steps until a round changes the objective by less than 1e-4.

    Rounds, steps and test are those that SMPLify-X's settings name.
    """
    x = x.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([x], max_iter=inner, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        cost = problem(x)[0].square().sum()
        cost.backward()
        return cost

    before = None
    for _ in range(rounds):
        cost = float(optimizer.step(closure).detach())  # at the start of the round
        if not np.isfinite(cost) or (before is not None and abs(before - cost) <= tolerance * abs(before)):
            break
        before = cost
    return x.detach()


def adam(problem: Residuals, x: Tensor, *, steps: int = 100, rate: float = 1e-2) -> Tensor:
    """SPIN's: a fixed number of steps for the whole batch."""
    x = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        problem(x)[0].square().sum().backward()
        optimizer.step()
    return x.detach()


def trf(problem: Residuals, x: Tensor, *, tolerance: float) -> Tensor:
    """scipy's trust region on the residuals with their derivative, scaled by its columns as ours is."""
    last: dict[bytes, np.ndarray] = {}

    def residuals(v: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            r, rows = problem(torch.from_numpy(v)[None], with_jacobian=True)
        last.clear()
        last[v.tobytes()] = rows[0].numpy()
        return r[0].numpy()

    def jacobian(v: np.ndarray) -> np.ndarray:
        if v.tobytes() not in last:
            residuals(v)
        return last[v.tobytes()]

    found = least_squares(
        residuals, x[0].numpy(), jac=jacobian, method="trf", x_scale="jac", ftol=tolerance, xtol=1e-8, gtol=1e-8
    )
    return torch.from_numpy(found.x)[None]


@dataclass(frozen=True)
class MeshResiduals(Residuals):
    """The same objective with its points from smplx's layer, which poses the whole mesh for them."""

    layer: Any = None

    def points(self, residual: PointResidual, x: Tensor) -> tuple[Tensor, PosedPoints | None]:
        if residual.points(self.terms.setup) is not self.terms.points:
            return super().points(residual, x)
        posed = self.layer(**self.terms.layout.params(x))
        return posed.joints[:, : len(self.terms.points)], None


def smplx_layer(terms: BodyTerms) -> Any:
    """The body as smplx loads it."""
    import smplx

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it prints a warning
        save_model("open", folder, layout="smplx")
        layer = smplx.create(folder, model_type="smpl", num_betas=terms.model.num_betas)
    return layer.to(terms.model.dtype).requires_grad_(False)


def _by_lbfgs(terms: BodyTerms, stages: Sequence[StageConfig], x: Tensor, seen: Observations, tolerance: float):
    return staged(terms, stages, x, seen, one_by_one(partial(lbfgs, tolerance=tolerance)))


def _by_adam(terms: BodyTerms, stages: Sequence[StageConfig], x: Tensor, seen: Observations, tolerance: float):
    return staged(terms, [stages[0], stages[-1]], x, seen, adam)  # 100 + 100 steps, whatever the tolerance


def _by_adam_through_mesh(
    terms: BodyTerms, stages: Sequence[StageConfig], x: Tensor, seen: Observations, tolerance: float
):
    layer = smplx_layer(terms)

    def through_mesh(problem: Residuals, x: Tensor) -> Tensor:
        problem = MeshResiduals(problem.terms, problem.stage, problem.seen, layer)
        return torch.cat([adam(problem.select(rows), x[rows]) for rows in torch.arange(len(x)).split(64)])

    return staged(terms, [stages[0], stages[-1]], x, seen, through_mesh)


def _by_trf(terms: BodyTerms, stages: Sequence[StageConfig], x: Tensor, seen: Observations, tolerance: float):
    return staged(terms, stages, x, seen, one_by_one(partial(trf, tolerance=tolerance)))


OTHERS: dict[str, tuple[Callable[..., Tensor], torch.dtype, bool]] = {
    "lbfgs64": (_by_lbfgs, torch.float64, False),
    "lbfgs32": (_by_lbfgs, torch.float32, False),
    "adam64": (_by_adam, torch.float64, True),
    "adam32": (_by_adam, torch.float32, True),
    "adam32-mesh": (_by_adam_through_mesh, torch.float32, True),
    "trf64": (_by_trf, torch.float64, False),
}
"""Name -> (optimiser, precision, whether it takes everybody at once)."""
