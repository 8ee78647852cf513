"""What a residual is, and what it tells the assembly of the normal equations.

The objective is a sum of squares without a half in front, E = sum_i w_i^2 |r_i|^2, of robust residuals too: their cost
is rho(|r|), their force that of iteratively reweighted least squares. A residual knows its mathematics and its
evidence and nothing of the other residuals, of the solver's columns, or of how a body's points move with them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.posed import Points
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.setup import Setup

__all__ = ["BlockTerm", "Loop", "PointResidual", "PointTerm", "Quadratic", "Residual", "VariableResidual", "Vector"]

Group = Literal["seen", "pose", "shape", "motion", "contact"]


@dataclass(frozen=True)
class Quadratic:
    """A residual on variables, about the current point."""

    cost: Float[Tensor, "B"]
    """Its value."""
    gradient: Float[Tensor, "B N"]
    """Half its gradient by the columns of the residual's blocks, in their order."""
    hessian: Float[Tensor, "B N N"] | Float[Tensor, "B N"]
    """Half its Hessian or a positive semi-definite stand-in (Gauss-Newton); the diagonal where it is diagonal."""


@dataclass(frozen=True)
class BlockTerm:
    """What a residual on points does to a block of variables that it depends on besides."""

    gradient: Float[Tensor, "B N"]
    """Half the gradient by the block."""
    hessian: Float[Tensor, "B N N"]
    """Half the Hessian's stand-in by the block."""
    mixed: Float[Tensor, "B K 3 N"]
    """The same by each point and the block."""


@dataclass(frozen=True)
class PointTerm:
    """A residual on points, about the current point. With J the points' Jacobian it adds J^T force to half the
    gradient and J^T (stiffness + rows^T rows - left^T right - right^T left) J to half the Hessian."""

    cost: Float[Tensor, "B"]
    """Its value."""
    force: Float[Tensor, "B K 3"]
    """Half the gradient by each point, cost per metre."""
    stiffness: Float[Tensor, "B K 3 3"] | None = None
    """Half the Hessian's stand-in by each point, cost per square metre; None for none."""
    rows: Float[Tensor, "B R K 3"] | None = None
    """Derivatives of a few plain residuals by all points, each of several of them."""
    coupling: tuple[Float[Tensor, "B M K 3"], Float[Tensor, "B M K 3"]] | None = None
    """left and right, which couple points by a matrix of low rank: of a mean that is taken off."""
    blocks: Mapping[str, BlockTerm] = field(default_factory=dict)
    """What it does to variables that it depends on besides the points, by block."""

    @classmethod
    def of_rows(
        cls,
        r: Float[Tensor, "B R"],
        by_points: Float[Tensor, "B R K 3"],
        by_blocks: Mapping[str, Float[Tensor, "B R N"]] | None = None,
    ) -> PointTerm:
        """Make the term |r|^2 of a few residuals of any points from their values and derivatives."""
        blocks = {}
        for name, by in (by_blocks or {}).items():
            gradient, hessian = (by.mT @ r[..., None])[..., 0], by.mT @ by
            blocks[name] = BlockTerm(gradient, hessian, torch.einsum("brkc,brn->bkcn", by_points, by))
        force = torch.einsum("br,brkc->bkc", r, by_points)
        return cls(r.square().sum(1), force, rows=by_points, blocks=blocks)


@dataclass(frozen=True)
class Vector:
    """A residual as a vector whose square is its cost, for optimisers that want it so, and its derivative."""

    r: Float[Tensor, "B R"]
    by_points: Float[Tensor, "B R K 3"] | None = None
    """Of a residual on points."""
    by_variables: Float[Tensor, "B R N"] | None = None
    """Of a residual on variables."""


@dataclass(frozen=True)
class Loop:
    """A residual's version for the loops of a CPU: one person's cost; adds to what the assembly solves by.

    Columns of people are `x` (B, D), the person's row `b`; H is a lower triangle (D, D), g half the gradient (D,).
    Stiffnesses are rows of xx, xy, xz, yy, yz, zz. `arrays` is what `Residual.arrays` gives.
    """

    place: Literal["keypoints", "points3d", "centred", "variables", "own points"]
    """What it acts on, which says the kernel's arguments:

    - the points of the keypoint layout, or of the measured layout: (b, positions (K, 3), transl (3,), arrays,
      force (K, 3), stiffness (K, 6));
    - the layout's points whatever the translation: (b, positions, arrays, force, stiffness, centred (K, 10),
      gram (4, 4), drag (4,)), see `loops/lift.py`; one such residual at a time, others are added by tensors;
    - the columns of its first block: (x, b, first column, columns, arrays, room (D,), t (4,), H, g);
    - points of its own: (x, b, arrays, tree, posed, lever, rows, room, t, H, g), see `loops/capsules.py`.
    """
    kernel: str
    """module:function, compiled by `runtime.compiled.loose`; imported when loops first run, as numba takes a while."""
    arrays: type[tuple]
    """The `NamedTuple`, of this residual alone, of what the kernel reads; it has the weight as `weight`."""


class Residual(ABC):
    """One term of the objective. A subclass is registered by `register` and weighs what a stage says under its name."""

    name: ClassVar[str]
    """What it is called in settings (`StageConfig.weight`), loops and docs."""
    group: ClassVar[Group]
    """Whose variance its own is, in the covariance (`fit/quality/uncertainty.py`): of evidence ("seen"), of how bodies
    move ("motion") and of what they cannot do ("contact": joint limits, too) a weighted residual's is that of a
    keypoint; of what poses and shapes are like ("pose", "shape") it is the squared weight."""
    weight: ClassVar[float] = 0.0
    """What it weighs where a stage does not say; squared in the objective. 0 leaves it out."""
    variance: ClassVar[float] = 1.0
    """Of groups "pose" and "shape": the expected square of the unweighted residual, of which cost is the square."""
    loop: ClassVar[Loop | None] = None
    """Its version for the loops of a CPU; without one it is added by tensor operations."""

    @classmethod
    @abstractmethod
    def of(cls, setup: Setup) -> Residual:
        """Made once for a model, a layout and a prior."""

    def has_loops(self, setup: Setup) -> bool:
        """Whether the loops of a CPU have it for this setup."""
        return self.loop is not None

    @classmethod
    def blank(cls, setup: Setup) -> Any:
        """Arrays of weight 0 for the loops, where making the residual takes long; None for those of `arrays`."""
        return None

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> Any:
        """What the loop reads, a `Loop.arrays`; of weight 0 it is asked for without the evidence, too."""
        raise NotImplementedError(f"{self.name} has no loop")

    def applies(self, seen: Observations) -> bool:
        """Whether the evidence that it needs is there."""
        return True


class PointResidual(Residual):
    """A residual on points of the posed body, in camera axes, metres."""

    centred: ClassVar[bool] = False
    """Whether moving all points together changes nothing: then it is kept from the translation, to which sums of
    forces that cancel would only add rounding."""
    feels_shape: ClassVar[bool] = True
    """False where betas are not to answer to it, so that bodies do not get thin to avoid touching."""

    @abstractmethod
    def points(self, setup: Setup) -> Points:
        """The points that it looks at; those of several residuals are posed once where they are the same list."""

    @abstractmethod
    def at(
        self,
        points_m: Float[Tensor, "B K 3"],
        variables: Mapping[str, Tensor],
        seen: Observations,
        stage: StageConfig,
    ) -> PointTerm:
        """The term at posed points, unweighted; `variables` are the solver's, by block."""

    def vector(
        self,
        points_m: Float[Tensor, "B K 3"],
        variables: Mapping[str, Tensor],
        seen: Observations,
        stage: StageConfig,
        *,
        derive: bool = True,
    ) -> Vector:
        """The residual as a vector, and its derivative if asked for; raises `NotImplementedError` for none."""
        raise NotImplementedError(f"{self.name} has no vector form")


class VariableResidual(Residual):
    """A residual on some blocks of variables."""

    blocks: ClassVar[tuple[str, ...]]
    """Whose columns its gradient has, in this order."""

    @abstractmethod
    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """The term, unweighted; `variables` are the solver's, by block."""

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """The residual as a vector, and its derivative if asked for; raises `NotImplementedError` for none."""
        raise NotImplementedError(f"{self.name} has no vector form")
