"""A window of a track: its frames' evidence, the objective of all of them together, and its minimum."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.fit.config import SequenceConfig
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.focal import Focal, refined
from bodyfit.fit.motion import Motion
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.sides import centred_by, expected_sides, orders_of, reordered
from bodyfit.solve import BandedArrow, ChainNormal, ChainSummary, LMConfig, minimize_chain

__all__ = ["SequenceObjective", "Window"]


@dataclass(frozen=True)
class SequenceObjective:
    """The objective of a window: that of each frame, with the betas in common, and that of the motion; a
    `solve.ChainProblem` over transl, global_orient and body_pose of each frame and the shared betas."""

    frames: StageObjective
    motion: Motion
    weight: float
    """Of the motion, squared in the sum."""
    held: int = 0
    """So many first frames stay as they are."""
    chunk: int = 256
    """Frames whose derivatives are made at once."""

    def normal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"]) -> ChainNormal:
        """Cost and normal equations."""
        n, w2 = x.shape[1], self.weight**2
        rows = torch.arange(len(x), device=x.device).split(self.chunk)
        parts = [self.frames.select(r).normal(torch.cat([x[r], z.expand(len(r), -1)], 1)) for r in rows]
        cost = torch.cat([p.cost for p in parts])
        gradient, hessian = torch.cat([p.gradient for p in parts]), torch.cat([p.hessian for p in parts])
        moves = self.motion(x)
        gradient, own = gradient[:, :n] + w2 * moves.gradient, gradient[:, n:]
        diagonal, border = hessian[:, :n, :n].contiguous(), hessian[:, :n, n:].contiguous()
        _on_triples(diagonal).add_(moves.blocks[0], alpha=w2)
        bands = tuple(w2 * block for block in moves.blocks[1:])
        # The first frames held where they are.
        gradient[: self.held] = 0
        diagonal[: self.held] = torch.eye(n, dtype=x.dtype, device=x.device)
        for rows in (*bands, border):
            rows[: self.held] = 0
        system = BandedArrow(diagonal, bands, border, hessian[:, n:, n:].sum(0))
        total = float(cost.double().sum() + w2 * moves.cost.double().sum())
        return ChainNormal(total, gradient, own.sum(0), system)


def _on_triples(matrix: Float[Tensor, "T N N"]) -> Float[Tensor, "T G 3 3"]:
    """A view of the 3 x 3 blocks on the diagonal."""
    return matrix.unflatten(2, (-1, 3)).unflatten(1, (-1, 3)).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)


class Window:
    """Some frames of a track on end, as the objective wants them."""

    def __init__(
        self,
        frames: Fitter,
        settings: SequenceConfig,
        known: Evidence,
        present: Bool[Tensor, "T K"],
        exchanged: Int[Tensor, "T"],
        fps: float,
        *,
        motion: float,
        swaps: bool,
        held: int = 0,
        shape_known: bool = False,
    ) -> None:
        self.frames, self.settings = frames, settings
        self.known, self.present, self.swaps = known, present, swaps
        self.held, self.shape_known = held, shape_known
        self.motion, self.weight = Motion(frames.model, fps, settings.motion_tail), motion
        last = frames.config.stages[-1]
        self.stage = replace(
            last,
            shape=settings.shape,
            pose_tail=settings.pose_tail * last.pose_tail,
            interpenetration=settings.interpenetration * last.interpenetration,
        )
        self.exchanged = exchanged.clone()
        self.orders = orders_of(frames.exchanges)
        self.seen = self.frames.observations(known, present)

    def solve(
        self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"]
    ) -> tuple[Float[Tensor, "T N"], Float[Tensor, "S"], ChainSummary]:
        """The best poses and shape from a start. A few steps first tell which sides the detector mistook."""
        steps = 0
        for lm in (LMConfig(max_iterations=4, cost_tolerance=1e-2), self.settings.lm):
            self._observe(x, z)
            frames = StageObjective(self.frames.terms, self.stage, self.seen)
            x, z, summary = minimize_chain(SequenceObjective(frames, self.motion, self.weight, self.held), x, z, lm)
            steps += summary.iterations
        return x, z, replace(summary, iterations=steps)

    def focal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"], believed: Focal) -> Focal:
        """What is believed of the focal length after these frames, from a start of poses and shape."""
        self._observe(x, z)
        frames = StageObjective(self.frames.terms, self.stage, self.seen)
        return refined(frames, x, z, believed)

    def _observe(self, x: Float[Tensor, "T N"], z: Float[Tensor, "S"]) -> None:
        """Observations for bodies at x: sides exchanged where that is what they look like, scaled to their depth."""
        frames = self.frames
        objective = StageObjective(frames.terms, self.stage, self.seen)
        placed = frames.terms.points.place(
            objective.tree(torch.cat([x, z.expand(len(x), -1)], 1)), z.expand(len(x), -1)
        )
        points = placed.positions + x[:, None, :3]
        uv = points[..., :2] / points[..., 2:].clamp_min(0.1)
        scale = frames.scale_cm((placed.tree.joints[:, :1] + x[:, None, :3])[..., 2], self.known)
        if self.swaps:
            picture = expected_sides(uv, self.seen.target, self.seen.weight, scale, self.orders, 4.0)
            lift = torch.full_like(picture, -1)
            if self.seen.lift_m is not None and self.seen.lift_weight is not None:
                weight = self.seen.lift_weight
                turned, lifted = centred_by(points, weight), centred_by(self.seen.lift_m, weight)
                lift = expected_sides(turned, lifted, weight, torch.full_like(scale, 100.0), self.orders, 8.0)
            self.known, self.present = reordered(self.known, self.present, self.orders, picture, lift)
            self.exchanged = torch.where(picture >= 0, picture, self.exchanged)
        seen = frames.observations(self.known, self.present)
        self.seen = replace(seen, scale_cm=scale, shape_known=self.shape_known)

    def costs(self, x: Float[Tensor, "R D"], kept: slice) -> Float[Tensor, "R"]:
        """The objective of some frames by themselves, without the motion."""
        index = torch.arange(len(self.present), device=x.device)[kept]
        frames = StageObjective(self.frames.terms, self.stage, self.seen.select(index))
        rows = torch.arange(len(x), device=x.device).split(256)
        return torch.cat([frames.select(r).normal(x[r]).cost for r in rows])
