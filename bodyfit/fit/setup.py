"""What the residuals of a fit are made from."""

from __future__ import annotations

from dataclasses import dataclass

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points
from bodyfit.body.pose_prior import PosePrior
from bodyfit.fit.variables import Variables

__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """A model, the points that are looked at, a prior, and the table of variables: the same for everybody."""

    model: BodyModel
    points: Points
    """Those of the keypoint layout."""
    points3d: Points
    """Those of the layout of measured points; the same object where that is the same layout."""
    prior: PosePrior
    """Of the model's body joints."""
    layout: Variables
    """Which columns of the solver's vector are what."""
    hands: Points | None = None
    """The 21 points of the left hand, then those of the right, where fingers are variables."""
    face: Points | None = None
    """The points of a face, where jaw, eyes and expression are variables."""
