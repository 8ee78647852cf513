"""Intervals of measurements from the covariance of the betas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import torch
from jaxtyping import Float
from scipy.special import ndtri
from torch import Tensor

from bodyfit.body.anthropometry.measure import Measurements
from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError, check_shape

__all__ = ["Interval", "MeasurementError", "measurement_intervals"]


@dataclass(frozen=True)
class Interval:
    """A measurement and the interval that holds the truth with a given probability: metres, for the mass kilograms."""

    value: float
    """The measurement of the fitted body."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""
    sd: float
    """Standard deviation."""


@dataclass(frozen=True, kw_only=True)
class MeasurementError:
    """Calibration of the standard deviations of measurements: variance * factor + (share * value)^2."""

    factor: float = 1.0
    """Factor of the variance that the covariance of the betas implies."""
    share: Mapping[str, float] = field(default_factory=dict)
    """Standard deviation of the error that the covariance does not cover (masks, clothes, the body model), as a part of
    the measurement, by its name in `Measurements`; 0 for those that are not named."""


def measurement_intervals(
    model: BodyModel,
    betas: Float[Tensor, "S"],
    covariance: Float[Tensor, "S S"],
    *,
    level: float | int = 0.9,
    error: MeasurementError | None = None,
) -> dict[str, Interval]:
    """Measure a body and compute an interval of each measurement, by the names of `Measurements`.

    Measurements are taken at the betas and one standard deviation to both sides of them along each principal axis of
    the covariance; the sum of the squared half differences is the variance (exact for linear measurements). Those that
    the body has not are left out. Raises `OptionError` and `ShapeError`.
    """
    if not 0 < level < 1:
        raise OptionError(f"level must be a probability between 0 and 1, such as 0.9, got {level:g}")
    check_shape("betas", betas, (model.num_betas,))
    check_shape("covariance", covariance, (model.num_betas, model.num_betas))
    error = MeasurementError() if error is None else error
    variance, axes = torch.linalg.eigh(covariance.double())
    steps = (axes * variance.clamp_min(0).sqrt()).T
    bodies = torch.cat([torch.zeros_like(steps[:1]), steps, -steps]) + betas.double()
    measured = model.measure(bodies.to(model.v_template))
    reach, intervals = float(ndtri((1 + level) / 2)), {}
    for name in (f.name for f in fields(Measurements)):
        values = getattr(measured, name).double()
        value, (ahead, behind) = float(values[0]), values[1:].chunk(2)
        if not math.isfinite(value):
            continue
        own = float(((ahead - behind) / 2).nan_to_num().square().sum())
        sd = math.sqrt(error.factor * own + (error.share.get(name, 0.0) * value) ** 2)
        intervals[name] = Interval(value, value - reach * sd, value + reach * sd, sd)
    return intervals
