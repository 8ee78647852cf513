"""What the compiled residuals read, together: one record of arrays for each, by its name."""

from __future__ import annotations

from typing import NamedTuple

from bodyfit.fit.residuals import bends, capsules, lift, limits, measured, mixture, reprojection, shape

__all__ = ["CompiledTerms"]


class CompiledTerms(NamedTuple):
    """A field for every residual that is `compiled`. A tuple with names: numba takes it as it is."""

    reprojection: reprojection.Arrays
    lift: lift.Arrays
    points: measured.Arrays
    pose: mixture.Arrays
    angle: bends.Arrays
    limits: limits.Arrays
    shape: shape.Arrays
    interpenetration: capsules.Arrays
