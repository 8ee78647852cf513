"""The objective of a window of frames of one person: residuals of each frame, shared variables, and the motion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.fit.objective import StageObjective
from bodyfit.fit.residuals.motion import Motion
from bodyfit.solve import BandedArrow, ChainNormal

__all__ = ["SequenceObjective"]


@dataclass(frozen=True)
class SequenceObjective:
    """Sum of the objectives of frames and of the motion.

    Implements `solve.ChainProblem` over the variables of each frame and the shared ones (`Variables.split`).
    """

    frames: StageObjective
    motion: Motion | None
    """Residual of the motion; None for frames that are not consecutive."""
    weight: float
    """Weight of the motion, squared in the objective."""
    fixed_frames: int = 0
    """Number of leading frames that are not optimised."""
    chunk: int = 256
    """Number of frames whose derivatives are computed at once."""

    @property
    def free(self) -> Int[Tensor, "D"]:
        """Columns of all variables in the order of (x, z)."""
        return torch.arange(self.frames.terms.layout.size)

    def whole(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> Float[Tensor, "T D"]:
        """Return all variables of each frame at (x, z)."""
        return self.frames.terms.layout.join(x, z)

    def select(self, rows: Int[Tensor, "R"]) -> SequenceObjective:
        """Select frames on end, all of them free."""
        return replace(self, frames=self.frames.select(rows), fixed_frames=0)

    def curvature(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> BandedArrow:
        """Compute half the Hessian's approximation at (x, z)."""
        return self.normal(x, z).hessian

    def normal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> ChainNormal:
        """Compute the cost and the normal equations at the frames' variables x and the shared ones z."""
        n, w2, layout = x.shape[1], self.weight**2, self.frames.terms.layout
        rows = torch.arange(len(x), device=x.device).split(self.chunk)
        parts = [self.frames.select(r).normal(layout.join(x[r], z)) for r in rows]
        cost = torch.cat([p.cost for p in parts])
        gradient, hessian = torch.cat([p.gradient for p in parts]), torch.cat([p.hessian for p in parts])
        gradient, shared = gradient[:, :n], gradient[:, n:]
        diagonal, border = hessian[:, :n, :n].contiguous(), hessian[:, :n, n:].contiguous()
        total, bands = cost.double().sum(), ()
        if self.motion is not None:
            moves, moved = self.motion(x[:, : layout.motion_size]), slice(layout.motion_size)
            gradient[:, moved] += w2 * moves.gradient
            _on_triples(diagonal[:, moved, moved]).add_(moves.blocks[0], alpha=w2)
            bands = tuple(w2 * block for block in moves.blocks[1:])
            total = total + w2 * moves.cost.double().sum()
        # The first frames keep their variables.
        gradient[: self.fixed_frames] = 0
        diagonal[: self.fixed_frames] = torch.eye(n, dtype=x.dtype, device=x.device)
        for rows in (*bands, border):
            rows[: self.fixed_frames] = 0
        system = BandedArrow(diagonal, bands, border, hessian[:, n:, n:].sum(0))
        return ChainNormal(float(total), gradient, shared.sum(0), system)


def _on_triples(matrix: Float[Tensor, "T N N"]) -> Float[Tensor, "T G 3 3"]:
    """View the 3 x 3 blocks on the diagonal of matrices."""
    return matrix.unflatten(2, (-1, 3)).unflatten(1, (-1, 3)).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
