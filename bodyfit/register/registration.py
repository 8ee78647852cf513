"""The result of a registration: a body under a scan, and how far the two are apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from bodyfit.body.params import BodyParams
from bodyfit.fit.result import FitStatus
from bodyfit.register.surface.offsets import Surface

__all__ = ["Misfit", "Registration"]


@dataclass(frozen=True)
class Misfit:
    """Distances between a scan and a surface."""

    points_m: Float[np.ndarray, "N"]
    """Signed distance of each point of the scan from the surface, metres: positive outside; NaN for surroundings."""
    vertices_m: Float[np.ndarray, "V"]
    """Distance of each vertex of the surface from the scan, metres."""
    median_m: float
    """Median of the unsigned distances of the points."""
    p95_m: float
    """Their 95th percentile."""
    explained: float
    """Share of the points within reach of the body: 3 cm, of clothed people 8 cm."""
    scanned: Bool[np.ndarray, "V"]
    """Which vertices of the surface have points of the scan near them, whose normals agree."""
    covered: float
    """Their share."""


@dataclass(frozen=True)
class Registration:
    """A body that was fitted to a scan, in the axes of the scan, metres."""

    params: BodyParams
    """Parameters of the body, a batch of 1; NaN if nobody was found."""
    offsets_m: Float[np.ndarray, "V 3"] | None
    """Offsets of the vertices in the rest pose (SMPL+D) that bring the posed skin onto the scan; None without a
    surface."""
    surface: Surface | None
    """The surface over the body, on a finer mesh, in the scan's axes; None if it was not asked for, or the body is not
    reliable where it was scanned."""
    status: FitStatus
    """Outcome: `poor` with a `reason` if the body is not to be relied on."""
    errors: Misfit | None
    """Distances between the scan and the body; None if there is no body."""
    reason: str | None = None
    """Why there is no reliable body, in words."""
    unit_m: float = 1.0
    """Metres in one unit of the scan: multiply the scan's coordinates by it to compare."""
    unscanned: tuple[str, ...] = ()
    """Parts of the body (head, trunk, left arm, ...) that the scan does not show, of a body that is reliable where it
    does; with any of them the status is `poor`, for they are guesses."""
    doubtful: Mapping[str, str] = field(default_factory=dict)
    """Hands ("left hand", "right hand") that the scan contradicts or does not show, each with the reason in words. They
    do not change the status: the rest of the body may be relied on."""
    clothed: bool = False
    """Whether skin was allowed to lie inside the scan."""
    start: str = ""
    """What the fit started from: "detector", "poses" or "given"."""
    vertices: Float[Tensor, "V 3"] | None = None
    """Vertices of the body, metres; None if there is no body."""
    joints: Float[Tensor, "J 3"] | None = None
    """Joints of the body, metres."""
    points: Float[np.ndarray, "N 3"] = field(default_factory=lambda: np.zeros((0, 3)))
    """Points of the scan that were used, metres, the rows of `errors.points_m`."""
    normals: Float[np.ndarray, "N 3"] | None = None
    """Their unit normals, in the axes of the scan."""
    oriented: bool = True
    """Whether these point outwards for sure; estimated ones may not."""
    colors: Float[np.ndarray, "N 3"] | None = None
    """Their colours, RGB in [0, 1]."""
    person: Bool[np.ndarray, "N"] = field(default_factory=lambda: np.zeros(0, bool))
    """Which of them were taken for the person's, and not for floor or pedestal."""
