"""What a fit returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.body.record import GENDERS
from bodyfit.fit.quality.sufficient import INVALID, LOST, Shortcomings
from bodyfit.fit.variables import Variables
from bodyfit.geometry.camera import Camera
from bodyfit.runtime.pickling import ByValue
from bodyfit.skeleton import SMPL

__all__ = ["FitResult", "FitStatus", "FitTrace", "join", "model_of", "split", "statuses_of", "take"]


class FitStatus(str, Enum):
    """How the fit of one person ended."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    """Usable, but the last stage ran out of steps before the objective settled."""
    POOR = "poor"
    """There is a body, and it is not to be relied on: `reason` says why (`fit/quality/status.py`)."""
    FILLED = "filled"
    """Of a clip: nothing is seen in the frame; the body is where the motion before and after puts it."""
    UNOBSERVABLE = "unobservable"
    """Too little is seen to place a body by; the parameters are NaN."""
    INVALID_INPUT = "invalid_input"
    """Keypoints were said to be seen but their places are no numbers, or too large to reckon with; the parameters are
    NaN."""

    @property
    def ok(self) -> bool:
        """Whether there is a body; whether it is a good one, `poor` says."""
        return self not in (FitStatus.UNOBSERVABLE, FitStatus.INVALID_INPUT)


@dataclass(frozen=True)
class FitTrace(ByValue):
    """How the objective fell, for plotting. Stages weigh differently: compare costs within one."""

    cost: Float[Tensor, "B T"]
    """Objective at the start of each stage and after each of its steps, of the hypothesis that was kept; who has ended
    keeps their last cost, who was not fitted has NaN."""
    stage: Int[Tensor, "T"]
    """The stage of each column, from 0."""


@dataclass(frozen=True)
class FitResult(ByValue):
    """Fitted bodies, one a person, in camera axes (OpenCV) and metres: `model(**params)` lands before the camera."""

    params: BodyParams
    """Shape, pose, orientation and translation; `transl` and `global_orient` in camera axes."""
    camera: Camera
    """The camera of each person; of several, the first, by its pinhole."""
    joints: Float[Tensor, "B J 3"]
    """The model's joints, camera axes, metres."""
    status: tuple[FitStatus, ...]
    """How each fit ended."""
    objective: Float[Tensor, "B"]
    """The last stage's objective (weighted squares, mixture constants subtracted)."""
    reprojection_error_px: Float[Tensor, "B"]
    """Mean distance over confident keypoints (confidence at least 0.5; NaN where there is none)."""
    layout: str
    """Layout of `keypoints`."""
    keypoints: Float[Tensor, "B *C K 3"]
    """The keypoints that were fitted: x px, y px, confidence; of several cameras, (B, C, K, 3)."""
    model_name: str
    """The name or path that `load_model` was given."""
    gender: str
    """The model's gender."""
    iterations: Int[Tensor, "B"]
    """Levenberg-Marquardt iterations over all stages."""
    flipped: Bool[Tensor, "B"]
    """Whether a turned-round starting orientation won."""
    focal_source: str = "given"
    """Where the focal length came from: "given", "exif", "found" from a clip, or "guess"."""
    swapped: tuple[str | None, ...] | None = None
    """Whose keypoints were read with left and right exchanged: of the "arms", the "legs" or the whole "body"; files
    leave it out."""
    trace: FitTrace | None = None
    """Cost by stage and step; files leave it out."""
    covariance: Float[Tensor, "B D D"] | None = None
    """Of transl (3, metres), global_orient (3, radians), body_pose (P, radians) and betas (S), in the columns that
    `variables` tells, and of variables of one's own: expected squares and products of their errors
    (`fit/quality/uncertainty.py`). 0 for betas that were given, NaN for who was not fitted; files leave it out. It
    knows of the valley that the fit ended in and not of others."""
    joints_sd_m: Float[Tensor, "B N"] | None = None
    """How far the first N of `joints`, those of the body, may be from where they are: the root of the expected squared
    distance in space, metres. Mostly the person's distance, which one camera tells by size alone."""
    joints_sd_rel_m: Float[Tensor, "B N"] | None = None
    """The same about the pelvis (0 there), camera axes: what is left of it where the distance does not matter."""
    variables: Variables | None = None
    """Which columns of `covariance` are what; files leave it out."""
    others: Mapping[str, Float[Tensor, "B _"]] = field(default_factory=dict)
    """What was found of variables of one's own (`FitConfig.blocks`), by name; files leave it out."""
    backend: str = ""
    """What the normal equations were made by: "loops", "tensors", or "loops and tensors" where some residual has no
    loops; empty where nothing was fitted. Files leave it out."""
    observed_joints: Bool[Tensor, "B N"] | None = None
    """Which of the first N of `joints` keypoints or measured points bear on; the others are where the priors put them,
    as are the legs of somebody whose legs are not in the picture."""
    reason: tuple[str | None, ...] = ()
    """Why somebody has no body, or none to rely on, in words; None for everybody else, which is also the default."""

    def __post_init__(self) -> None:
        if not self.reason:
            object.__setattr__(self, "reason", (None,) * len(self.status))

    def __len__(self) -> int:
        return len(self.status)

    @property
    def legs_at_rest(self) -> Bool[Tensor, "B"]:
        """Whose legs no keypoint or measured point bears on: they are put at rest, and stand. False where that is not
        told. In a clip, legs come to rest a moment after they were last visible."""
        if self.observed_joints is None:
            return torch.zeros(len(self), dtype=torch.bool)
        legs = [i for i, name in enumerate(SMPL.names) if name.endswith(("_knee", "_ankle"))]
        placed = torch.tensor([status.ok for status in self.status], device=self.observed_joints.device)
        return placed & ~self.observed_joints[:, legs].any(1)


def model_of(result: FitResult, source: str | Path | None = None, *, dtype: torch.dtype = torch.float32) -> BodyModel:
    """Load the body model that a result is of: the one that it names, or `source` where its file has moved.

    Raises `AssetError` where it is not there.
    """
    gender = result.gender if result.gender in GENDERS else "neutral"
    betas = result.params.betas.shape[1]
    return load_model(source or result.model_name, gender=gender, num_betas=betas, dtype=dtype)


def split(result: FitResult) -> list[FitResult]:
    """One result of batch 1 for each person."""
    return [take(result, slice(i, i + 1)) for i in range(len(result))]


def take(result: FitResult, rows: slice | list[int]) -> FitResult:
    """Some of the people, or of the frames."""

    def of(values: tuple) -> tuple:
        return values[rows] if isinstance(rows, slice) else tuple(values[i] for i in rows)

    return replace(
        result,
        params=result.params.select(rows),
        camera=result.camera.select(rows),
        joints=result.joints[rows],
        status=of(result.status),
        objective=result.objective[rows],
        reprojection_error_px=result.reprojection_error_px[rows],
        keypoints=result.keypoints[rows],
        iterations=result.iterations[rows],
        flipped=result.flipped[rows],
        swapped=None if result.swapped is None else of(result.swapped),
        trace=None if result.trace is None else replace(result.trace, cost=result.trace.cost[rows]),
        others={name: value[rows] for name, value in result.others.items()},
        covariance=None if result.covariance is None else result.covariance[rows],
        joints_sd_m=None if result.joints_sd_m is None else result.joints_sd_m[rows],
        joints_sd_rel_m=None if result.joints_sd_rel_m is None else result.joints_sd_rel_m[rows],
        observed_joints=None if result.observed_joints is None else result.observed_joints[rows],
        reason=of(result.reason),
    )


def join(results: Sequence[FitResult]) -> FitResult:
    """One result of several in pictures of one size, by one model and layout, in their order; traces are left out."""
    first = results[0]

    def together(name: str) -> Any:
        values = [getattr(result, name) for result in results]
        if any(value is None for value in values):
            return None
        return torch.cat(values) if isinstance(values[0], Tensor) else sum(values, ())

    names = ("joints", "status", "objective", "reprojection_error_px", "keypoints", "iterations", "flipped", "swapped")
    return replace(
        first,
        params=BodyParams(**{key: torch.cat([result.params[key] for result in results]) for key in first.params}),
        camera=Camera.cat([result.camera for result in results]),
        trace=None,
        others={name: torch.cat([result.others[name] for result in results]) for name in first.others},
        **{name: together(name) for name in (*names, "covariance", "joints_sd_m", "joints_sd_rel_m")},
        **{name: together(name) for name in ("observed_joints", "reason")},
    )


def statuses_of(found: Tensor, converged: Tensor, lacking: Shortcomings) -> tuple[FitStatus, ...]:
    """The status of each person; `lacking` says what those lack who have no body."""

    def status(found: bool, converged: bool, reason: str | None) -> FitStatus:
        if found:
            return FitStatus.CONVERGED if converged else FitStatus.MAX_STEPS
        return FitStatus.INVALID_INPUT if reason in (INVALID, LOST) else FitStatus.UNOBSERVABLE

    return tuple(map(status, found.tolist(), converged.tolist(), lacking.reasons()))
