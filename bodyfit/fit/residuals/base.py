"""The interface of residuals to the assembly of the normal equations.

The objective is a sum of squares without a half in front, E = sum_i w_i^2 |r_i|^2, of robust residuals too: their cost
is rho(|r|), their force that of iteratively reweighted least squares. A residual depends on its observations alone, not
on other residuals, the solver's columns or the Jacobian of points.
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
    """Quadratic model of a residual on variables, about the current point."""

    cost: Float[Tensor, "B"]
    """Cost, unweighted."""
    gradient: Float[Tensor, "B N"]
    """Half the gradient by the columns of the residual's blocks, in their order."""
    hessian: Float[Tensor, "B N N"] | Float[Tensor, "B N"]
    """Half the Hessian or a positive semi-definite approximation (Gauss-Newton); (B, N) for a diagonal."""


@dataclass(frozen=True)
class BlockTerm:
    """Derivatives of a residual on points by a block of variables on which it depends directly."""

    gradient: Float[Tensor, "B N"]
    """Half the gradient by the block."""
    hessian: Float[Tensor, "B N N"]
    """Half the approximate Hessian by the block."""
    mixed: Float[Tensor, "B K 3 N"]
    """Half the approximate Hessian by each point and the block."""


@dataclass(frozen=True)
class PointTerm:
    """Quadratic model of a residual on points, about the current point.

    With J the points' Jacobian it adds J^T force to half the gradient and
    J^T (stiffness + rows^T rows - left^T right - right^T left) J to half the Hessian.
    """

    cost: Float[Tensor, "B"]
    """Cost, unweighted."""
    force: Float[Tensor, "B K 3"]
    """Half the gradient by each point, cost per metre."""
    stiffness: Float[Tensor, "B K 3 3"] | None = None
    """Half the approximate Hessian by each point, cost per square metre; None for 0."""
    rows: Float[Tensor, "B R K 3"] | None = None
    """Derivatives of R scalar residuals by all points."""
    coupling: tuple[Float[Tensor, "B M K 3"], Float[Tensor, "B M K 3"]] | None = None
    """left and right: a coupling of points of low rank, from a mean that is subtracted."""
    blocks: Mapping[str, BlockTerm] = field(default_factory=dict)
    """Derivatives by blocks of variables on which it depends directly, by name."""

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
    """A residual as a vector whose squared norm is its cost, and its derivative."""

    r: Float[Tensor, "B R"]
    by_points: Float[Tensor, "B R K 3"] | None = None
    """Jacobian of a residual on points, by the points."""
    by_variables: Float[Tensor, "B R N"] | None = None
    """Jacobian of a residual on variables, by the columns of its blocks."""


@dataclass(frozen=True)
class Loop:
    """Compiled version of a residual: a kernel that returns one person's cost and adds to the normal equations.

    Kernels take the variables `x` (B, D) and the person's row `b`; H (D, D) is a lower triangle, g (D,) half the
    gradient. Stiffnesses are rows of xx, xy, xz, yy, yz, zz. `arrays` is returned by `Residual.arrays`.
    """

    place: Literal["keypoints", "points3d", "centred", "variables", "own points"]
    """What the residual acts on, which determines the kernel's arguments:

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
    """`NamedTuple` of the kernel's inputs, which determines the kernel; its field `weight` is the weight."""
    whole: bool = False
    """Whether it is of hands or a face: left out of the loop over people whose bodies alone are fitted."""


class Residual(ABC):
    """One term of the objective. Subclasses are registered by `register`; stages set their weights by name."""

    name: ClassVar[str]
    """Name in settings (`StageConfig.weight`) and docs."""
    group: ClassVar[Group]
    """Group by which the covariance sets its variance (`fit/quality/uncertainty.py`). In the groups of evidence
    ("seen"), of motion ("motion") and of constraints such as joint limits ("contact") a weighted residual has the
    variance of a keypoint; for the priors of pose and shape ("pose", "shape") its unweighted variance is `variance`."""
    weight: ClassVar[float] = 0.0
    """Default weight, squared in the objective; 0 leaves the residual out."""
    variance: ClassVar[float] = 1.0
    """In groups "pose" and "shape": expected square of the unweighted residual."""
    loop: ClassVar[Loop | None] = None
    """Compiled version for a CPU; without one, torch adds the residual."""

    @classmethod
    @abstractmethod
    def of(cls, setup: Setup) -> Residual:
        """Make the residual for a setup; called once."""

    def has_loops(self, setup: Setup) -> bool:
        """Tell whether the compiled version can be used for this setup."""
        return self.loop is not None and (setup.whole or not self.loop.whole)

    @classmethod
    def blank(cls, setup: Setup) -> Any:
        """Make the kernel's inputs with weight 0, if making the residual is slow; None to use `arrays`."""
        return None

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> Any:
        """Make the kernel's inputs, a `Loop.arrays`; with weight 0 also without observations of this residual."""
        raise NotImplementedError(f"{self.name} has no loop")

    def applies(self, seen: Observations) -> bool:
        """Tell whether the observations that the residual needs are present."""
        return True


class PointResidual(Residual):
    """A residual on points of the posed body, in camera axes, metres."""

    centred: ClassVar[bool] = False
    """Whether the residual is invariant to translation of all points; the translation's derivatives are then left out,
    since sums of forces that cancel would only add rounding errors."""
    feels_shape: ClassVar[bool] = True
    """False to leave out derivatives by betas, so that bodies do not become thin to avoid contact."""

    @abstractmethod
    def points(self, setup: Setup) -> Points:
        """Return the residual's points; a list that several residuals share is posed once."""

    @abstractmethod
    def at(
        self,
        points_m: Float[Tensor, "B K 3"],
        variables: Mapping[str, Tensor],
        seen: Observations,
        stage: StageConfig,
    ) -> PointTerm:
        """Compute the unweighted quadratic model at posed points; `variables` are the solver's, by block."""

    def vector(
        self,
        points_m: Float[Tensor, "B K 3"],
        variables: Mapping[str, Tensor],
        seen: Observations,
        stage: StageConfig,
        *,
        derive: bool = True,
    ) -> Vector:
        """Compute the residual vector, and with `derive` its Jacobian.

        Raises `NotImplementedError` if it has no such form.
        """
        raise NotImplementedError(f"{self.name} has no vector form")


class VariableResidual(Residual):
    """A residual on blocks of variables."""

    blocks: ClassVar[tuple[str, ...]]
    """Blocks of the columns of its gradient, in order."""

    @abstractmethod
    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model; `variables` are the solver's, by block."""

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the residual vector, and with `derive` its Jacobian.

        Raises `NotImplementedError` if it has no such form.
        """
        raise NotImplementedError(f"{self.name} has no vector form")
