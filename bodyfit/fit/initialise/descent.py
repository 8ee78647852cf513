"""A batch on its way through the stages, from several starts: of each person's ends the lowest objective is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.objective import BodyTerms, Observations, StageObjective
from bodyfit.solve import minimize

__all__ = ["Solved", "begin", "descend", "from_components"]

_GAIN = 0.97
"""What the objective must fall below for another component of the prior, in parts of that of the fit from the mean."""


@dataclass(frozen=True)
class Solved:
    """Where the fits of a chunk stand."""

    x: Float[Tensor, "B D"]
    cost: Float[Tensor, "B"]
    """Of the last stage that was gone through."""
    converged: Bool[Tensor, "B"]
    iterations: Int[Tensor, "B"]
    flipped: Bool[Tensor, "B"]
    swapped: Int[Tensor, "B"]
    """Which of `SWAPS` was exchanged; -1 for none."""
    trace: Float[Tensor, "B T"]

    @classmethod
    def nobody(cls, like: Tensor, size: int, columns: int) -> Solved:
        """The fits of as many people as `like` has rows, all unsolved (NaN), in `size` variables."""
        nothing = like.new_full((len(like), size + 1 + columns), torch.nan)
        x, cost, trace = nothing.split([size, 1, columns], 1)
        none = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        never = none > 0
        return cls(x, cost[:, 0], never, none, never, none - 1, trace)

    def select(self, rows: Tensor) -> Solved:
        """Those of some people."""
        return Solved(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def replace_rows(self, rows: Int[Tensor, "N"], others: Solved) -> Solved:
        """Replace the fits of some people by those of `others`, in a new record."""
        return Solved(
            **{f.name: getattr(self, f.name).index_copy(0, rows, getattr(others, f.name)) for f in fields(self)}
        )


def begin(
    terms: BodyTerms,
    stage: StageConfig,
    x: Float[Tensor, "B H D"],
    usable: Bool[Tensor, "B H"],
    seen: Observations,
) -> Solved:
    """The first stage from each start, the best of each person's ends."""
    batch, keep = x.shape[:2]
    none = ~usable.any(1)
    tried = torch.cat([usable[:, :1] | none[:, None], usable[:, 1:]], 1).flatten().nonzero()[:, 0]
    objective = StageObjective(terms, stage, seen.select(tried // keep))
    ends, summary = minimize(objective, x.flatten(0, 1)[tried], stage.lm, eliminate=terms.layout.eliminated)
    # One row of costs a person; the first of equals is the better start.
    reached = summary.cost.new_full((batch * keep,), torch.inf)
    reached[tried] = torch.where(usable.flatten()[tried], torch.nan_to_num(summary.cost, nan=torch.inf), torch.inf)
    best = reached.view(batch, keep).argmin(1)
    row = torch.zeros(batch * keep, dtype=torch.int64, device=x.device)
    row[tried] = torch.arange(len(tried), device=x.device)
    chosen = row[torch.arange(batch, device=x.device) * keep + best]
    iterations = torch.zeros_like(row)
    iterations[tried] = summary.iterations
    return Solved(
        ends[chosen],
        summary.cost[chosen],
        summary.converged[chosen],
        iterations.view(batch, keep).sum(1),
        best != usable.to(torch.int8).argmax(1),
        torch.full_like(best, -1),
        summary.trace[chosen],
    )


def descend(terms: BodyTerms, stages: Sequence[StageConfig], solved: Solved, seen: Observations) -> Solved:
    """Some more stages."""
    for stage in stages:
        x, summary = minimize(StageObjective(terms, stage, seen), solved.x, stage.lm, eliminate=terms.layout.eliminated)
        solved = replace(
            solved,
            x=x,
            cost=summary.cost,
            converged=summary.converged,
            iterations=solved.iterations + summary.iterations,
            trace=torch.cat([solved.trace, summary.trace], 1),
        )
    return solved


def from_components(
    terms: BodyTerms,
    stages: Sequence[StageConfig],
    solved: Solved,
    first_stage: Solved,
    half_cost: Float[Tensor, "B"],
    seen: Observations,
    who: Int[Tensor, "N"],
) -> Solved:
    """Fit some people again from the mean of each component of the pose prior, and keep what is clearly lower.

    `first_stage` holds all people's results after the first stage, `half_cost` their costs before the last stage. All
    components run through the stages between; the best of each person runs the last stage if its cost is lower.
    """
    means = terms.mixture.means
    each = who.repeat_interleave(len(means))
    starts = first_stage.select(each)
    x = terms.layout.put(starts.x, body_pose=means.repeat(len(who), 1))
    tried = descend(terms, stages[1:-1], replace(starts, x=x), seen.select(each))
    cost, best = torch.nan_to_num(tried.cost, nan=torch.inf).view(-1, len(means)).min(1)
    better = (cost < half_cost[who]).nonzero()[:, 0]
    chosen = better * len(means) + best[better]
    who = who[better]
    ended = descend(terms, stages[1:][-1:], tried.select(chosen), seen.select(who))
    better = ended.cost < _GAIN * solved.cost[who]
    return solved.replace_rows(who[better], ended.select(better))
