"""Inputs of the compiled kernels of hands and faces (`Loop.arrays`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.points.parts import PartTables
from bodyfit.body.points.posed import Points
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.lift import LiftArrays
from bodyfit.fit.residuals.measured import MeasuredArrays
from bodyfit.fit.residuals.mixture import MixtureArrays
from bodyfit.fit.residuals.reprojection import ReprojectionArrays
from bodyfit.fit.setup import Setup

__all__ = [
    "ApartArrays",
    "FacePriorArrays",
    "HandLiftArrays",
    "HandLimitArrays",
    "HandPriorArrays",
    "JawArrays",
    "PartMeasuredArrays",
    "PartReprojectionArrays",
    "blank_reprojection",
    "empty_tables",
    "in_picture",
    "numpy_type",
    "part_tables",
    "plain",
]


class PartReprojectionArrays(NamedTuple):
    """Those of `HandReprojection` and `FaceReprojection`."""

    weight: float
    parts: PartTables
    about_mean: bool
    """Whether a part is scaled about the mean of its points, not about its first."""
    picture: ReprojectionArrays


class PartMeasuredArrays(NamedTuple):
    """Those of `HandPoints`."""

    weight: float
    parts: PartTables
    measured: MeasuredArrays


class HandLiftArrays(NamedTuple):
    """Those of `HandLift`."""

    weight: float
    parts: PartTables
    left: LiftArrays
    right: LiftArrays


class ApartArrays(NamedTuple):
    """Those of `Gaze` and `Openings`."""

    weight: float
    parts: PartTables
    shares: np.ndarray
    """(M,): weights of the points of a row, which add up to 0."""
    target: np.ndarray
    """(B, E M, 2): normalised coordinates of the points of each row."""
    scale: np.ndarray
    """(B, E): units of the residual of each row, 0 for one that is not visible."""


class HandPriorArrays(NamedTuple):
    """Those of `HandPosePrior`."""

    weight: float
    first: np.ndarray
    """(2,): first column of each hand's pose."""
    left: MixtureArrays
    right: MixtureArrays


class HandLimitArrays(NamedTuple):
    """Those of `HandLimits`."""

    weight: float
    first: np.ndarray
    about: np.ndarray
    axes: np.ndarray
    limits: np.ndarray


class FacePriorArrays(NamedTuple):
    """Those of `FacePrior`."""

    weight: float
    column: np.ndarray
    precision: np.ndarray


class JawArrays(NamedTuple):
    """Those of `JawLimits`."""

    weight: float
    least: float
    most: float


def part_tables(
    setup: Setup, points: Points, parts: int, size: str, offset: str, rows: Sequence[int] | None = None
) -> PartTables:
    """Make the tables of parts, or of some of their points; `size`, `offset`: names of their blocks, if any."""
    layout = setup.layout
    sizes = list(range(*layout[size].indices(layout.size))) if size in layout else [-1] * parts
    first = layout[offset].start if offset in layout else None
    return PartTables.of(
        points,
        parts,
        columns=layout.joint_columns,
        expression=layout.coefficient_columns[setup.model.num_betas :],
        size=sizes,
        offset=[-1 if first is None else first + 3 * p for p in range(parts)],
        rows=rows,
    )


def empty_tables(setup: Setup) -> PartTables:
    """Make tables that are not read, of a residual of weight 0."""
    none = np.zeros(0, np.int64)
    tables = setup.points.tables
    return PartTables._make([tables, *13 * [none], 0, none, none[None], none])


def plain(value: Tensor | None, seen: Observations) -> np.ndarray:
    """Convert evidence that is there to a contiguous array of the observations' type."""
    assert value is not None
    return value.to(seen.weight.dtype).contiguous().numpy()


def numpy_type(setup: Setup) -> str:
    """Name the model's type as numpy does."""
    return str(setup.model.dtype).removeprefix("torch.")


def in_picture(
    seen: Observations,
    weight: float,
    sigma: float,
    target: Float[Tensor, "B CK 2"] | None,
    confidence: Float[Tensor, "B CK"] | None,
    scale: Float[Tensor, "B CK"],
) -> ReprojectionArrays:
    """Make the inputs of a reprojection error in the views of `seen`."""
    arrays = plain(target, seen), plain(confidence, seen), plain(scale, seen)
    if seen.rig is None:
        R, t = np.eye(3, dtype=arrays[0].dtype)[None], np.zeros((1, 3), arrays[0].dtype)
    else:
        R, t = plain(seen.rig.R, seen), plain(seen.rig.t, seen)
    return ReprojectionArrays(weight, *arrays, R, t, sigma)


def blank_reprojection(setup: Setup) -> PartReprojectionArrays:
    """Make empty inputs of weight 0."""
    kind = numpy_type(setup)
    none, R, t = np.zeros((0, 0), kind), np.eye(3, dtype=kind)[None], np.zeros((1, 3), kind)
    picture = ReprojectionArrays(0.0, none[..., None], none, none, R, t, 1.0)
    return PartReprojectionArrays(0.0, empty_tables(setup), False, picture)
