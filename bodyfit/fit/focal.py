"""The focal length as one more unknown that all frames of a clip share.

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
from bodyfit.fit.terms import geman_mcclure
from bodyfit.solve import BandedArrow, ChainNormal, LMConfig, minimize_chain, solve_banded_arrow

__all__ = ["Focal", "FocalObjective", "refined"]


_LM = LMConfig(max_iterations=15, cost_tolerance=1e-5, damping=1e-5)
"""Focal length and distance lie in a long valley, along which damping would hold steps back."""


@dataclass(frozen=True)
class Focal:
    """What is believed of a focal length: its logarithm is normally distributed."""

    px: float
    """The likeliest."""
    precision: float
    """Half the curvature of the objective by the logarithm."""


@dataclass(frozen=True)
class FocalObjective:
    """The objective of frames that share betas and the focal length, without motion; a `solve.ChainProblem` over
    transl, global_orient and body_pose of each frame and the shared (betas, log of the focal length in parts of that
    which the observations were made with)."""

    frames: StageObjective
    precision: float
    """Of what is believed of the logarithm: its square costs as much."""

    def normal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> ChainNormal:
        """Cost and normal equations.

        r = (e^phi u - target) scale is the residual of a camera without phi that sees target e^-phi at scale e^phi.
        """
        n, betas, zoom = x.shape[1], z[:-1].expand(len(x), -1), z[-1].exp()
        seen = self.frames.seen
        seen = replace(seen, target=seen.target / zoom, scale_cm=seen.scale_cm * zoom)
        frames = replace(self.frames, seen=seen)
        full = torch.cat([x, betas], 1)
        part = frames.normal(full)
        placed = frames.terms.points.place(frames.tree(full), betas)
        points = placed.positions + x[:, None, :3]
        inverse = points[..., 2:].clamp_min(0.1).reciprocal()
        uv, scale = points[..., :2] * inverse, seen.scale_cm[:, None, None]
        r, by_phi = (uv - seen.target) * scale, uv * scale
        factor = seen.weight.square()[..., None] * geman_mcclure(r, frames.stage.sigma_cm)[1]
        pull = factor * by_phi * scale * inverse
        force = torch.cat([pull, -(pull * uv).sum(2, keepdim=True)], 2)
        by_pose = torch.cat([force.sum(1), placed.pull_back(force)], 1)
        by_betas = torch.einsum("bkcs,bkc->s", placed.jacobian_betas(), force)
        slope = (factor * r * by_phi).sum() + self.precision * z[-1]
        hessian, gradient = part.hessian, part.gradient
        corner = hessian.new_zeros(len(z), len(z))
        corner[:-1, :-1] = hessian[:, n:, n:].sum(0)
        corner[-1, :-1] = corner[:-1, -1] = by_betas
        corner[-1, -1] = (factor * by_phi.square()).sum() + self.precision
        system = BandedArrow(
            hessian[:, :n, :n].contiguous(), (), torch.cat([hessian[:, :n, n:], by_pose[..., None]], 2), corner
        )
        cost = float(part.cost.double().sum()) + self.precision * float(z[-1]) ** 2
        return ChainNormal(cost, gradient[:, :n], torch.cat([gradient[:, n:].sum(0), slope[None]]), system)


def refined(frames: StageObjective, x: Float[Tensor, "T N"], betas: Float[Tensor, "S"], believed: Focal) -> Focal:
    """What is believed after frames of one person were seen, whose observations are made with `believed.px`; from a
    start of their poses and shape. The precision is Laplace's: that of the focal length whatever all else is."""
    objective = FocalObjective(frames, believed.precision)
    x, z, _ = minimize_chain(objective, x, torch.cat([betas, betas.new_zeros(1)]), _LM)
    unit = torch.zeros_like(z)
    unit[-1] = 1
    solved = solve_banded_arrow(objective.normal(x, z).hessian, torch.zeros_like(x), unit)
    # None where the frames leave something open: then the focal length is no surer than before.
    precision = believed.precision if solved is None else 1 / float(solved[1][-1])
    return Focal(believed.px * math.exp(float(z[-1])), precision)
