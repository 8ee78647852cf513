"""How sure a clip's bodies are: the covariance of each frame's variables, given the whole track.

The sandwich of single frames (`fit/quality/uncertainty.py`) with H of the whole track: evidence and priors of all
frames, the motion that couples them, and what they share. Its diagonal blocks come from the banded system itself
(`solve/marginals.py`). Two things are not as for single frames:

- A prior of what frames share errs alike in all T frames, so that its weighted gradient has T times the standard
  deviation of one, and not its root: s is T times that of one frame.
- Detectors err from frame to frame partly alike, so that many frames are less sure than independent ones would be.
  `SequenceCalibration` has the factors.

A track that is longer than a window goes piece by piece, each with a context of frames before and after it, by which
motion has forgotten what lies beyond; what frames share has the information of all pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.body.points.posed import Points
from bodyfit.fit.config import FitConfig, SequenceConfig
from bodyfit.fit.quality.uncertainty import Spread, joint_deviations
from bodyfit.fit.sequence.objective import SequenceObjective
from bodyfit.fit.sequence.part_objective import PartObjective
from bodyfit.solve import BandedArrow, ChainCovariance, Sandwich, sandwich

__all__ = ["Chain", "frame_spread", "track_spread"]


@torch.no_grad()
def track_spread(
    objective: SequenceObjective,
    x: Float[Tensor, "T N"],
    z: Float[Tensor, "M"],
    joints: Points,
    config: FitConfig,
    sequence: SequenceConfig,
) -> Spread | None:
    """The covariance of each frame and its joints' deviations at a track's solution; None where the objective has no
    minimum there. `joints` are the body's, the root first; the covariance is left out where `sequence` says so."""
    chain = Chain(objective, x, z, config, sequence)

    def of_frames(some: slice, covariance: Float[Tensor, "R D D"]) -> Spread:
        layout = objective.frames.terms.layout
        for columns in objective.frames.fixed:
            covariance[:, columns] = 0
            covariance[:, :, columns] = 0
        full = objective.whole(x[some], z)
        J = joints.place(objective.frames.tree(full), layout.coefficients(full)).jacobian().to(covariance)
        columns = list(layout.point_columns(joints.joints, joints.coefficients))
        return frame_spread(J, covariance, columns, sequence, full.dtype)

    return chain.spread(of_frames)


def frame_spread(
    J: Float[Tensor, "R K 3 C"],
    covariance: Float[Tensor, "R D D"],
    columns: Sequence[int],
    sequence: SequenceConfig,
    dtype: torch.dtype,
) -> Spread:
    """Compute the deviations of joints, whose derivatives J are by some columns of the covariance, and return both.

    The covariance is left out where `sequence` says so.
    """
    deviations = joint_deviations(J, covariance[:, columns][:, :, columns])
    returned = covariance if sequence.covariance else covariance[:, :0, :0]
    return Spread(returned.to(dtype), *(d.to(dtype) for d in deviations))


def _pieces(count: int, size: int, context: int) -> Iterator[tuple[slice, slice]]:
    """Frames that are taken at once, and those of them that no other piece has."""
    if count <= size:
        yield slice(0, count), slice(0, count)
        return
    step = max(size - 2 * context, 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        yield slice(max(start - context, 0), min(stop + context, count)), slice(start, stop)


@dataclass(frozen=True)
class Chain:
    """A track, or its hands and face, at the solution."""

    objective: SequenceObjective | PartObjective
    x: Float[Tensor, "T N"]
    z: Float[Tensor, "M"]
    config: FitConfig
    sequence: SequenceConfig

    @property
    def variance(self) -> float:
        """That of a weighted residual of evidence, in how frames move about what they share."""
        return self.sequence.calibration.seen * self.config.calibration.seen * self.config.noise_cm**2

    @property
    def shared_variance(self) -> float:
        """Variance of a weighted residual of evidence for variables that frames share.

        Errors that all frames have in common do not average out over them.
        """
        alike = self.sequence.calibration.alike * (len(self.x) - 1)
        return (1 + alike) * self.config.calibration.seen * self.config.noise_cm**2

    def spread(self, of_frames: Callable[[slice, Float[Tensor, "R D D"]], Spread]) -> Spread | None:
        """Put together what `of_frames` makes of some frames and the covariance of their variables, float64.

        None where the objective has no minimum at (x, z).
        """
        pieces = list(_pieces(len(self.x), self.sequence.window, self.sequence.overlap))
        first = [self.sandwich(core) for _, core in pieces]
        if any(part is None for part in first):
            return None
        information = sum((part.information for part in first if part is not None), torch.zeros(()))
        meat = sum((part.meat for part in first if part is not None), torch.zeros(()))
        meat = meat + self.shared_variance * information
        spreads = []
        for (ahead, core), part in zip(pieces, first, strict=True):
            part = part if ahead == core else self.sandwich(ahead)
            if part is None:
                return None
            own = slice(core.start - ahead.start, core.stop - ahead.start)
            C = ChainCovariance.of(part, information, meat).joined()[own]
            spreads.append(of_frames(core, C.to(self.x.device)))
        return Spread(*(torch.cat([getattr(s, f.name) for s in spreads]) for f in fields(Spread)))

    def rows(self, some: slice) -> Int[Tensor, "R"]:
        """Frames as an index."""
        return torch.arange(some.start, some.stop, device=self.x.device)

    def sandwich(self, some: slice) -> Sandwich | None:
        """The parts of the covariance of some frames on end."""
        objective, x, z = self.objective.select(self.rows(some)), self.x[some], self.z
        frames, free = objective.frames, objective.free.to(x.device)
        H = objective.curvature(x, z)
        n, full = x.shape[1], objective.whole(x, z)
        diagonal, border = (torch.zeros_like(v) for v in (H.diagonal, H.border))
        corner = torch.zeros_like(H.corner)
        for name, weight in frames.weights.items():
            residual = frames.terms.residual(name)
            if residual.group not in ("pose", "shape"):
                continue
            s = residual.variance * getattr(self.config.calibration, residual.group) * weight**2
            s *= self.sequence.calibration.pose if residual.group == "pose" else 1.0
            for rows in self.rows(slice(0, len(x))).split(self.objective.chunk):
                own = frames.select(rows).hessian_of(name, full[rows])[:, free[:, None], free]
                diagonal[rows] += (s - self.variance) * own[:, :n, :n]
                border[rows] += (s - self.variance) * own[:, :n, n:]
                corner += (s * len(self.x) - self.shared_variance) * own[:, n:, n:].sum(0)
        # The solver's own floor: a direction that nothing tells of has a large variance and not an infinite one.
        floored = H.diagonal.double()
        own = floored.diagonal(dim1=1, dim2=2)
        shared = H.corner.double()
        floor = 1e-9 * torch.cat([own, (shared.diagonal() / len(x)).expand(len(x), -1)], 1).amax(1, keepdim=True)
        own += floor
        shared = shared + floor.sum() * torch.eye(len(shared)).to(shared)
        floored = replace(H, diagonal=floored, corner=shared)
        return sandwich(floored, self.variance, BandedArrow(diagonal, (), border, corner))
