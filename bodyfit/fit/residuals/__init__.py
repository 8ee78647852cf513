"""The residuals of a fit: one file and one class a term, registered by name.

To add one, write a subclass of `PointResidual` or `VariableResidual` and `register` it (docs/extending.md).
"""

from __future__ import annotations

from typing import TypeVar

from bodyfit.errors import OptionError
from bodyfit.fit.residuals.base import (
    BlockTerm,
    PointResidual,
    PointTerm,
    Quadratic,
    Residual,
    VariableResidual,
    Vector,
)
from bodyfit.fit.residuals.bends import AnglePrior
from bodyfit.fit.residuals.capsules import CapsuleOverlap
from bodyfit.fit.residuals.conditional import ConditionalPose
from bodyfit.fit.residuals.estimate import EstimatedPose
from bodyfit.fit.residuals.focal import FocalPrior
from bodyfit.fit.residuals.lift import Lift
from bodyfit.fit.residuals.limits import LimitPrior
from bodyfit.fit.residuals.mass import MassTerm
from bodyfit.fit.residuals.measured import MeasuredPoints
from bodyfit.fit.residuals.mixture import MixturePrior
from bodyfit.fit.residuals.parts.face import FaceReprojection, FaceScalePrior, Gaze, Openings
from bodyfit.fit.residuals.parts.face_prior import ExpressionPrior, FacePrior, JawLimits
from bodyfit.fit.residuals.parts.hand_overlap import HandOverlap
from bodyfit.fit.residuals.parts.hand_prior import HandLimits, HandPosePrior
from bodyfit.fit.residuals.parts.hands import HandLift, HandPoints, HandReprojection, ScalePrior
from bodyfit.fit.residuals.parts.offsets import FaceOffsetPrior, HandOffsetPrior
from bodyfit.fit.residuals.previous import PreviousPose
from bodyfit.fit.residuals.reprojection import Reprojection
from bodyfit.fit.residuals.scan import SurfaceTerm
from bodyfit.fit.residuals.shape import ShapePrior
from bodyfit.fit.residuals.silhouette import SilhouetteTerm
from bodyfit.fit.residuals.spheres import SphereOverlap
from bodyfit.fit.residuals.stature import HeightTerm

__all__ = [
    "RESIDUALS",
    "BlockTerm",
    "PointResidual",
    "PointTerm",
    "Quadratic",
    "Residual",
    "VariableResidual",
    "Vector",
    "register",
    "unregister",
]

RESIDUALS: dict[str, type[Residual]] = {
    residual.name: residual
    for residual in (
        Reprojection,
        Lift,
        MeasuredPoints,
        MixturePrior,
        ConditionalPose,
        EstimatedPose,
        AnglePrior,
        LimitPrior,
        CapsuleOverlap,
        SphereOverlap,
        ShapePrior,
        PreviousPose,
        HeightTerm,
        MassTerm,
        FocalPrior,
        SilhouetteTerm,
        SurfaceTerm,
        HandReprojection,
        HandLift,
        HandPoints,
        HandPosePrior,
        HandLimits,
        HandOverlap,
        ScalePrior,
        FaceReprojection,
        Gaze,
        Openings,
        FacePrior,
        ExpressionPrior,
        JawLimits,
        FaceScalePrior,
        HandOffsetPrior,
        FaceOffsetPrior,
    )
}
"""Registered residuals by name, in the order in which they are added."""

_BUILT_IN = frozenset(RESIDUALS)
_Kind = TypeVar("_Kind", bound=type[Residual])


def register(residual: _Kind) -> _Kind:
    """Register a residual class under its name; a class decorator.

    A class that is defined again, as in a notebook, replaces the previous one. Raises `OptionError` if
    another class has the name, or for an unknown group.
    """
    name, groups = residual.name, ("seen", "pose", "shape", "motion", "contact")
    registered = RESIDUALS.get(name)
    if registered is not None and _where(registered) != _where(residual):
        raise OptionError(f"there is a residual {name} already ({_where(registered)}); choose another name")
    if residual.group not in groups:
        raise OptionError(f"the group of residual {name} must be one of {', '.join(groups)}, got {residual.group!r}")
    RESIDUALS[name] = residual
    return residual


def _where(residual: type[Residual]) -> str:
    return f"{residual.__module__}.{residual.__qualname__}"


def unregister(name: str) -> None:
    """Remove a registered residual. Raises `OptionError` for one that is not registered or is bodyfit's own."""
    if name not in RESIDUALS or name in _BUILT_IN:
        raise OptionError(f"there is no residual {name} of your own")
    del RESIDUALS[name]
