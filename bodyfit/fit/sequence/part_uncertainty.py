"""How sure hands and face of a clip are: the covariance of their own chain, given the body's track.

The sandwich of `fit/sequence/uncertainty.py` with the objective of hands and face (`part_objective.py`), scaled as that
of single frames is. A finger, the jaw or an eye errs by what its wrist or head errs by in the body's track, and
independently of that by its own chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.posed import Points
from bodyfit.fit.config import FitConfig, SequenceCalibration, SequenceConfig
from bodyfit.fit.quality.uncertainty import Spread
from bodyfit.fit.sequence.part_objective import PartObjective
from bodyfit.fit.sequence.uncertainty import Chain, frame_spread
from bodyfit.fit.variables import Variables

__all__ = ["part_spread", "with_body"]

_AS_SINGLE_FRAMES = SequenceCalibration(seen=1.0, alike=0.0, pose=1.0)


@torch.no_grad()
def part_spread(
    objective: PartObjective,
    x: Float[Tensor, "T N"],
    z: Float[Tensor, "M"],
    joints: Points,
    config: FitConfig,
    sequence: SequenceConfig,
) -> Spread | None:
    """The covariance of the free columns of each frame, (T, N + M), and the deviations of all joints by it, given the
    body, which both are about the root; None where the objective has no minimum at (x, z). The covariance is left out
    where `sequence` says so."""
    layout, free = objective.frames.terms.layout, objective.free.tolist()
    columns = layout.point_columns(joints.joints, joints.coefficients)
    place = {column: i for i, column in enumerate(free)}
    moved = [i for i, column in enumerate(columns) if column in place]
    by = [place[columns[i]] for i in moved]

    def of_frames(some: slice, covariance: Float[Tensor, "R F F"]) -> Spread:
        full = objective.select(torch.arange(len(x), device=x.device)[some]).whole(x[some], z)
        J = joints.place(objective.frames.tree(full), layout.coefficients(full)).jacobian()[..., moved]
        return frame_spread(J.to(covariance), covariance, by, sequence, full.dtype)

    return Chain(objective, x, z, config, replace(sequence, calibration=_AS_SINGLE_FRAMES)).spread(of_frames)


def with_body(
    body: Spread,
    variables: Variables,
    parts: Spread | None,
    whole: Variables,
    free: Sequence[int],
    parents: Sequence[int],
) -> Spread:
    """Put the spread of hands and face beside that of the body, in the table `whole` of all variables.

    variables: the columns of the body's covariance. parts: of the columns `free`; None for NaN. parents: of all joints;
    the body's come first. Covariances between `free` and other columns are 0.
    """
    n = body.joints_sd_m.shape[1]
    anchors = list(range(n))
    for parent in parents[n:]:
        anchors.append(anchors[parent])
    deviations = []
    for name in ("joints_sd_m", "joints_sd_rel_m"):
        of_body = getattr(body, name)
        own = torch.nan if parts is None else getattr(parts, name)
        both = (of_body[:, anchors].square() + own**2).sqrt()
        both[:, :n] = of_body
        deviations.append(both)
    if body.covariance.shape[1] == 0:
        return Spread(body.covariance, *deviations)
    covariance = body.covariance.new_zeros(len(body.covariance), whole.size, whole.size)
    old = torch.tensor([c for name in variables.slices for c in range(*whole[name].indices(whole.size))])
    new = torch.tensor(free)
    covariance[:, old[:, None], old] = body.covariance
    covariance[:, new] = 0
    covariance[:, :, new] = 0
    covariance[:, new[:, None], new] = torch.nan if parts is None else parts.covariance
    return Spread(covariance, *deviations)
