"""The objective of hands and face through a clip: what each frame shows of them, and how fast they change.

The body's track is given. Free are, in each frame, the turns of wrists and head, fingers, jaw, eyes, expression and the
offsets of hands and face from where the body puts them, and for all frames together the sizes of hands and face. With
a = (x_{t+1} - 2 x_t + x_{t-1}) / (sigma dt^2) of a joint's axis-angle, the expression or an offset, a frame costs
s ((1 + |a|^2 / s)^(1/2) - 1) / (1/2), a pseudo-Huber loss: quadratic where motion is steady, so that noise is averaged
over frames, and linear where it is fast, so that a blink is not flattened. It is convex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.fit.objective import StageObjective
from bodyfit.fit.residuals.base import PointResidual
from bodyfit.fit.residuals.parts.offsets import FACE_OFFSET, HAND_OFFSET
from bodyfit.fit.variables import Variables
from bodyfit.solve import BandedArrow, ChainNormal

__all__ = ["PartColumns", "PartMotion", "PartObjective"]

_SIGMA = {"wrist": 12.0, "head": 6.0, "hand_pose": 8.0, "jaw_pose": 30.0, "leye_pose": 30.0, "reye_pose": 30.0}
"""Angular accelerations at which the loss turns linear, rad/s^2, by joint or block of variables."""
_SIGMA_EXPRESSION = 300.0
"""The same of the expression, standard deviations/s^2."""
_SIGMA_OFFSET = 1.0
"""The same of an offset, m/s^2."""
_TAIL, _POWER = 2.0, 0.5
"""s, and the exponent of the loss."""


@dataclass(frozen=True)
class PartColumns:
    """Holds which columns of the variables of hands and face are free."""

    frame: tuple[int, ...]
    """Those of each frame: rotations of the wrists and the head, then hands, jaw, eyes, expression and offsets."""
    shared: tuple[int, ...]
    """Those that all frames share: sizes of hands and face."""
    groups: tuple[int, ...]
    """The group of each column of `frame` whose acceleration is one vector: a joint, or the expression."""
    sigma: tuple[float, ...]
    """The acceleration of each column of `frame` at which the loss turns linear."""

    @property
    def free(self) -> tuple[int, ...]:
        """Those of each frame, then the shared ones."""
        return (*self.frame, *self.shared)

    @classmethod
    def of(cls, layout: Variables, joints: Mapping[int, str]) -> PartColumns:
        """Find the free columns in the table of all variables.

        `joints`: the numbers of free joints of the body, and whether each is a "wrist" or the "head".
        """
        frame: list[int] = []
        sigma: list[float] = []
        groups: list[int] = []

        def add(columns: slice, size: int, value: float) -> None:
            first = groups[-1] + 1 if groups else 0
            frame.extend(range(columns.start, columns.stop))
            groups.extend(first + i // size for i in range(columns.stop - columns.start))
            sigma.extend([value] * (columns.stop - columns.start))

        for joint, kind in joints.items():
            add(layout.columns_of_joint(joint), 3, _SIGMA[kind])
        for name in ("left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose"):
            if name in layout:
                add(layout[name], 3, _SIGMA[name if name in _SIGMA else "hand_pose"])
        if "expression" in layout:
            add(layout["expression"], layout.block("expression").size, _SIGMA_EXPRESSION)
        for name in ("hand_offset", "face_offset"):
            if name in layout:
                add(layout[name], 3, _SIGMA_OFFSET)
        scales = [layout[name] for name in ("hand_scale", "face_scale") if name in layout]
        return cls(tuple(frame), tuple(c for s in scales for c in range(s.start, s.stop)), tuple(groups), tuple(sigma))


class PartMotion:
    """The loss on accelerations of the free columns of a frame, at one frame rate."""

    def __init__(self, columns: PartColumns, fps: float, like: Tensor) -> None:
        self.scale = fps**2 / like.new_tensor(columns.sigma)
        self.group: Int[Tensor, "N"] = torch.tensor(columns.groups, device=like.device)

    def __call__(self, x: Float[Tensor, "T N"]) -> tuple[Tensor, Float[Tensor, "T N"], list[Float[Tensor, "_ N"]]]:
        """Compute the cost, half its gradient and the diagonals of half the Hessian's approximation.

        The diagonals couple each frame with itself (T), with the frame before (T - 1) and with the second before.
        """
        n = max(len(x) - 2, 0)
        gradient = torch.zeros_like(x)
        bands = [x.new_zeros(max(len(x) - k, 0), x.shape[1]) for k in range(3)]
        if n == 0:
            return x.new_zeros(()), gradient, bands
        second = x[2:] - 2 * x[1:-1] + x[:-2]
        squares = x.new_zeros(n, int(self.group[-1]) + 1).index_add_(1, self.group, (self.scale * second).square())
        growth = 1 + squares / _TAIL
        cost = (_TAIL / _POWER * (growth**_POWER - 1)).double().sum()
        weight = (growth ** (_POWER - 1))[:, self.group] * self.scale.square()
        factors = (1.0, -2.0, 1.0)
        for i, by in enumerate(factors):
            gradient[i : n + i] += by * weight * second
            for j in range(i + 1):
                bands[i - j][j : n + j] += by * factors[j] * weight
        return cost, gradient, bands


@dataclass(frozen=True)
class PartObjective:
    """The objective of frames on end as a `solve.ChainProblem` over the free columns."""

    frames: StageObjective
    """That of each frame, over all variables."""
    base: Float[Tensor, "T D"]
    """The variables of each frame; those that are not free stay as they are here."""
    columns: PartColumns
    motion: PartMotion | None
    """None where frames do not follow each other."""
    weight: float
    """Weight of the motion, squared in the sum."""
    fixed_frames: int = 0
    """The number of first frames that stay as they are."""
    fixed_shared: bool = False
    """Whether the shared columns stay as they are."""
    chunk: int = 128
    """Frames whose derivatives are computed at once."""

    @property
    def free(self) -> Int[Tensor, "F"]:
        """Columns of all variables in the order of (x, z)."""
        return torch.tensor(self.columns.free)

    def select(self, rows: Int[Tensor, "R"]) -> PartObjective:
        """Select frames on end, all their columns and the shared ones free."""
        return replace(self, frames=self.frames.select(rows), base=self.base[rows], fixed_frames=0, fixed_shared=False)

    def whole(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> Float[Tensor, "T D"]:
        """Return all variables with the free ones at (x, z)."""
        out = self.base.clone()
        out[:, list(self.columns.frame)] = x
        out[:, list(self.columns.shared)] = z
        return out

    def curvature(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> BandedArrow:
        """Compute half the Hessian's approximation at (x, z), with what couples offsets and sizes.

        The solver does without it, but a size is then surer than the pictures make it.
        """
        H, full, n, free = self.normal(x, z).hessian, self.whole(x, z), x.shape[1], self.free.to(x.device)
        diagonal, border = H.diagonal.clone(), H.border.clone()
        for r in torch.arange(len(x), device=x.device).split(self.chunk):
            more = _offset_couplings(self.frames.select(r), full[r])[:, free[:, None], free]
            diagonal[r] += more[:, :n, :n]
            border[r] += more[:, :n, n:]
        return replace(H, diagonal=diagonal, border=border)

    def normal(self, x: Float[Tensor, "T N"], z: Float[Tensor, "M"]) -> ChainNormal:
        """Compute cost and normal equations."""
        full, n, w2 = self.whole(x, z), x.shape[1], self.weight**2
        free = self.free.to(x.device)
        cost, gradients, hessians = 0.0, [], []
        for r in torch.arange(len(x), device=x.device).split(self.chunk):
            part = self.frames.select(r).normal(full[r])
            cost += float(part.cost.double().sum())
            gradients.append(part.gradient[:, free])
            hessians.append(part.hessian[:, free[:, None], free])
        gradient, hessian = torch.cat(gradients), torch.cat(hessians)
        gradient, shared = gradient[:, :n].contiguous(), gradient[:, n:].sum(0)
        diagonal, border = hessian[:, :n, :n].contiguous(), hessian[:, :n, n:].contiguous()
        corner, bands = hessian[:, n:, n:].sum(0), ()
        if self.motion is not None:
            change, by, (own, *others) = self.motion(x)
            cost += w2 * float(change)
            gradient += w2 * by
            diagonal.diagonal(dim1=1, dim2=2).add_(own, alpha=w2)
            bands = tuple(w2 * band[..., None, None] for band in others)
        gradient[: self.fixed_frames] = 0
        diagonal[: self.fixed_frames] = torch.eye(n, dtype=x.dtype, device=x.device)
        for rows in (*bands, border):
            rows[: self.fixed_frames] = 0
        if self.fixed_shared:
            border, shared, corner = torch.zeros_like(border), torch.zeros_like(shared), torch.eye(len(z)).to(corner)
        return ChainNormal(cost, gradient, shared, BandedArrow(diagonal, bands, border, corner))


def _offset_couplings(frames: StageObjective, full: Float[Tensor, "T D"]) -> Float[Tensor, "T D D"]:
    """Half the Hessian by offsets and the other blocks of their terms: an offset moves all points of its part alike."""
    setup, layout = frames.terms.setup, frames.terms.layout
    tree, coefficients, variables = frames.tree(full), layout.coefficients(full), layout.unpack(full)
    out = full.new_zeros(len(full), layout.size, layout.size)
    for name, weight in frames.weights.items():
        residual = frames.terms.residual(name)
        if not isinstance(residual, PointResidual):
            continue
        points = residual.points(setup)
        if points is not setup.hands and points is not setup.face:
            continue
        at = points.place(tree, coefficients).positions + variables["transl"][:, None]
        blocks = residual.at(at, variables, frames.seen, frames.stage).blocks
        for offset in (HAND_OFFSET, FACE_OFFSET):
            if offset.name not in blocks:
                continue
            rows = layout[offset.name]
            for other in blocks.keys() - {offset.name}:
                mixed = blocks[other].mixed.unflatten(1, (offset.size // 3, -1)).sum(2).flatten(1, 2)
                out[:, rows, layout[other]] += weight**2 * mixed
                out[:, layout[other], rows] += weight**2 * mixed.mT
    return out
