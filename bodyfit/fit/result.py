"""Results of fits: bodies, their status and their uncertainty."""

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
    """Outcome of the fit of one person."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    """Usable, but the last stage reached its maximum of iterations before it converged."""
    POOR = "poor"
    """There is a body, but it is unreliable: `reason` tells why (`fit/quality/status.py`)."""
    FILLED = "filled"
    """In a clip, a frame without observations: the body is interpolated from the frames before and after."""
    UNOBSERVABLE = "unobservable"
    """Too few observations to place a body; the parameters are NaN."""
    INVALID_INPUT = "invalid_input"
    """Keypoints of nonzero confidence have coordinates that are not finite or too large; the parameters are NaN."""

    @property
    def ok(self) -> bool:
        """Whether there is a body, reliable or `poor`."""
        return self not in (FitStatus.UNOBSERVABLE, FitStatus.INVALID_INPUT)


@dataclass(frozen=True)
class FitTrace(ByValue):
    """Objective over the iterations, for plotting. Weights differ between stages: compare costs within a stage."""

    cost: Float[Tensor, "B T"]
    """Objective of the selected hypothesis at the start of each stage and after each iteration. The last cost is
    repeated after convergence; people who were not fitted have NaN."""
    stage: Int[Tensor, "T"]
    """The stage of each column, from 0."""


@dataclass(frozen=True)
class FitResult(ByValue):
    """Fitted bodies of B people in camera axes (OpenCV: x right, y down, z forward), metres.

    `model(**params)` gives vertices in these axes.
    """

    params: BodyParams
    """Shape, pose, orientation and translation; `transl` and `global_orient` in camera axes."""
    camera: Camera
    """Pinhole camera of each person; of several calibrated cameras, the first."""
    joints: Float[Tensor, "B J 3"]
    """The model's joints, camera axes, metres."""
    status: tuple[FitStatus, ...]
    """Outcome of each fit."""
    objective: Float[Tensor, "B"]
    """Objective of the last stage (weighted squares, without the constants of the pose mixture)."""
    reprojection_error_px: Float[Tensor, "B"]
    """Mean reprojection error of keypoints of confidence at least 0.5; NaN where there are none."""
    layout: str
    """Layout of `keypoints`."""
    keypoints: Float[Tensor, "B *C K 3"]
    """Input keypoints: x px, y px, confidence; with C cameras (B, C, K, 3)."""
    model_name: str
    """Name or path of the model, as passed to `load_model`."""
    gender: str
    """Gender of the model."""
    iterations: Int[Tensor, "B"]
    """Levenberg-Marquardt iterations over all stages."""
    flipped: Bool[Tensor, "B"]
    """Whether the fit started from the orientation turned by 180 degrees."""
    focal_source: str = "given"
    """Source of the focal length: "given", "exif", "found" (estimated from a clip) or "guess" (the default)."""
    swapped: tuple[str | None, ...] | None = None
    """Parts whose left and right keypoints the fit exchanged: "arms", "legs", "body" or None. Not saved in files."""
    trace: FitTrace | None = None
    """Objective by stage and iteration. Not saved in files."""
    covariance: Float[Tensor, "B D D"] | None = None
    """Covariance of transl (metres), global_orient and body_pose (radians), betas and additional variables, in the
    columns of `variables` (`fit/quality/uncertainty.py`). It is local: other minima of the objective do not enter. 0
    for given betas, NaN for people who were not fitted. Not saved in files."""
    joints_sd_m: Float[Tensor, "B N"] | None = None
    """Standard deviation of the first N of `joints` (the body's): root of the expected squared distance, metres. With
    one camera it is mostly the uncertainty of the person's distance."""
    joints_sd_rel_m: Float[Tensor, "B N"] | None = None
    """Standard deviation of these joints relative to the pelvis (0 there), metres."""
    variables: Variables | None = None
    """Columns of `covariance` by block of variables. Not saved in files."""
    others: Mapping[str, Float[Tensor, "B _"]] = field(default_factory=dict)
    """Values of additional variables (`FitConfig.blocks`), by name. Not saved in files."""
    backend: str = ""
    """Backend of the normal equations: "loops", "tensors", or "loops and tensors" if a residual has no loop; empty if
    nobody was fitted. Not saved in files."""
    observed_joints: Bool[Tensor, "B N"] | None = None
    """Whether keypoints or measured points constrain each of the first N of `joints`; the priors place the others,
    such as legs outside the image."""
    reason: tuple[str | None, ...] = ()
    """Why a fit failed or is unreliable, in words; None for good fits."""
    mask_notes: tuple[str | None, ...] = ()
    """Why a person's mask was not used, in words; None where it was, or where there was none. Not saved in files."""

    def __post_init__(self) -> None:
        for name in ("reason", "mask_notes"):
            if not getattr(self, name):
                object.__setattr__(self, name, (None,) * len(self.status))

    def __len__(self) -> int:
        return len(self.status)

    @property
    def legs_at_rest(self) -> Bool[Tensor, "B"]:
        """Whether the legs of each fitted person are unobserved and therefore in the rest pose, standing.

        False without `observed_joints`. In a clip, legs come to rest shortly after they were last visible.
        """
        if self.observed_joints is None:
            return torch.zeros(len(self), dtype=torch.bool)
        legs = [i for i, name in enumerate(SMPL.names) if name.endswith(("_knee", "_ankle"))]
        placed = torch.tensor([status.ok for status in self.status], device=self.observed_joints.device)
        return placed & ~self.observed_joints[:, legs].any(1)


def model_of(result: FitResult, source: str | Path | None = None, *, dtype: torch.dtype = torch.float32) -> BodyModel:
    """Load the body model of a result: the one that it names, or `source` if its file has moved.

    Raises `AssetError` if the file is missing.
    """
    gender = result.gender if result.gender in GENDERS else "neutral"
    betas = result.params.betas.shape[1]
    return load_model(source or result.model_name, gender=gender, num_betas=betas, dtype=dtype)


def split(result: FitResult) -> list[FitResult]:
    """Split a result into one of batch 1 per person."""
    return [take(result, slice(i, i + 1)) for i in range(len(result))]


def take(result: FitResult, rows: slice | list[int]) -> FitResult:
    """Select people or frames of a result."""

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
        mask_notes=of(result.mask_notes),
    )


def join(results: Sequence[FitResult]) -> FitResult:
    """Concatenate results of one image size, model and layout, in order; the trace is None."""
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
        **{name: together(name) for name in ("observed_joints", "reason", "mask_notes")},
    )


def statuses_of(found: Tensor, converged: Tensor, lacking: Shortcomings) -> tuple[FitStatus, ...]:
    """Determine the status of each person from whether it was fitted (`found`) and converged.

    `lacking` has the reasons of people who were not fitted.
    """

    def status(found: bool, converged: bool, reason: str | None) -> FitStatus:
        if found:
            return FitStatus.CONVERGED if converged else FitStatus.MAX_STEPS
        return FitStatus.INVALID_INPUT if reason in (INVALID, LOST) else FitStatus.UNOBSERVABLE

    return tuple(map(status, found.tolist(), converged.tolist(), lacking.reasons()))
