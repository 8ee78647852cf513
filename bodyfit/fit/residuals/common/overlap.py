"""Base class of residuals against interpenetration, for any shapes that fill the body."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points
from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Group, PointResidual, PointTerm
from bodyfit.fit.setup import Setup

__all__ = ["Overlap"]


class Overlap(PointResidual):
    """A residual on shapes about points of the body, whose radii betas determine but without derivatives by betas."""

    group: ClassVar[Group] = "contact"
    centred = True
    feels_shape = False
    own_points: Points
    """Centres or axes of the shapes."""

    @abstractmethod
    def __init__(self, model: BodyModel) -> None: ...

    @classmethod
    def of(cls, setup: Setup) -> Overlap:
        """Make the residual from the body model of the fit."""
        return cls(setup.model)

    def points(self, setup: Setup) -> Points:
        """Return the points of the shapes."""
        return self.own_points

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """Compute the unweighted quadratic model.

        The gradient is of every pair, the Hessian is Gauss-Newton's over the few of deepest overlap.
        """
        return self(points_m, variables["betas"])

    @abstractmethod
    def __call__(self, points_m: Float[Tensor, "B K 3"], betas: Float[Tensor, "B S"]) -> PointTerm:
        """Compute the unweighted quadratic model at posed points, for the radii that betas determine."""
