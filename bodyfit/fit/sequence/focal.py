"""The focal length as one more variable that all frames of a clip share.

A short focal length says that a body is near, and its near limbs look large against the far ones; a long one says that
it is far, and perspective weak. One frame tells little of it, many poses more; what a clip does not tell is as it was
believed before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.fit.objective import StageObjective
from bodyfit.fit.residuals.focal import FOCAL
from bodyfit.fit.sequence.objective import SequenceObjective
from bodyfit.solve import LMConfig, minimize_chain, solve_banded_arrow

__all__ = ["Focal", "refined", "with_focal"]


_LM = LMConfig(max_iterations=15, cost_tolerance=1e-5, damping=1e-5)
"""Focal length and distance lie in a long valley, along which damping would hold steps back."""


@dataclass(frozen=True)
class Focal:
    """What is believed of a focal length: its logarithm is normally distributed."""

    px: float
    """The likeliest."""
    precision: float
    """Half the curvature of the objective by the logarithm."""


def with_focal(frames: StageObjective, precision: float) -> SequenceObjective:
    """The objective of frames that do not follow each other and share betas and the focal length's logarithm."""
    count = max(len(frames.seen.weight), 1)
    stage = replace(frames.stage, weights={**frames.stage.weights, FOCAL.name: math.sqrt(precision / count)})
    return SequenceObjective(replace(frames, terms=frames.terms.with_blocks(FOCAL), stage=stage), None, 0.0)


def refined(frames: StageObjective, x: Float[Tensor, "T N"], shared: Float[Tensor, "M"], believed: Focal) -> Focal:
    """What is believed after frames of one person were seen, whose observations are made with `believed.px`; from a
    start of their poses and of what they share. The precision is Laplace's: that of the focal length whatever all else
    is."""
    objective = with_focal(frames, believed.precision)
    x, z, _ = minimize_chain(objective, x, torch.cat([shared, shared.new_zeros(1)]), _LM)
    unit = torch.zeros_like(z)
    unit[-1] = 1
    solved = solve_banded_arrow(objective.normal(x, z).hessian, torch.zeros_like(x), unit)
    # None where the frames leave something open: then the focal length is no surer than before.
    precision = believed.precision if solved is None else 1 / float(solved[1][-1])
    return Focal(believed.px * math.exp(float(z[-1])), precision)
