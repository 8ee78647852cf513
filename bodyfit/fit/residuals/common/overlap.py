"""What terms against interpenetration have in common, whatever shapes they fill the body with."""

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
    """A residual on shapes about points of the body, as thick as betas say, which do not answer to it."""

    group: ClassVar[Group] = "contact"
    centred = True
    feels_shape = False
    own_points: Points
    """Where the shapes are."""

    @abstractmethod
    def __init__(self, model: BodyModel) -> None: ...

    @classmethod
    def of(cls, setup: Setup) -> Overlap:
        """Make the residual from the body model of the fit."""
        return cls(setup.model)

    def points(self, setup: Setup) -> Points:
        """The points that the shapes are about."""
        return self.own_points

    def at(
        self, points_m: Float[Tensor, "B K 3"], variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig
    ) -> PointTerm:
        """The term: the force is that of every pair, the curvature Gauss-Newton's over the few that overlap most."""
        return self(points_m, variables["betas"])

    @abstractmethod
    def __call__(self, points_m: Float[Tensor, "B K 3"], betas: Float[Tensor, "B S"]) -> PointTerm:
        """The term at posed points, of shapes as thick as betas say."""
