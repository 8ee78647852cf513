"""The shared inputs from which the residuals of a fit are made."""

from __future__ import annotations

from dataclasses import dataclass

from bodyfit.body.model import BodyModel
from bodyfit.body.points.posed import Points
from bodyfit.body.pose_prior import PosePrior
from bodyfit.fit.variables import Variables

__all__ = ["Setup"]


@dataclass(frozen=True)
class Setup:
    """Body model, observed points, pose prior and table of variables, which are the same for all people."""

    model: BodyModel
    points: Points
    """Points of the keypoint layout on the body."""
    points3d: Points
    """Points of the layout of measured points; the same object as `points` for the same layout."""
    prior: PosePrior
    """Pose prior of the model's body joints."""
    layout: Variables
    """Blocks of variables and their columns in the solver's vector."""
    hands: Points | None = None
    """The 21 points of the left hand, then of the right, if fingers are variables."""
    face: Points | None = None
    """Points of the face, if jaw, eyes and expression are variables."""

    @property
    def whole(self) -> bool:
        """Tell whether fingers are variables, and jaw, eyes and expression of models that have them."""
        return self.hands is not None or self.face is not None
