"""Bodies that another program estimated, as evidence: where a fit starts, and what it stays near to.

A regressor knows the depth of limbs from the picture, a fit knows where its keypoints are. The estimate's keypoints, in
camera axes about their own middle, take the place of a detector's lift, with a confidence by their usual error; the
angles of its joints, twists included, are penalised by the residual `estimate`. Both are robust: a limb that is wholly
wrong does not hold the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError

__all__ = ["CheckedEstimate", "PoseEstimate", "check_estimate"]

_CONFIDENCE = 3.0
"""Confidence, where a lift's is at most 1, of keypoints of an estimate of the default error."""
_USUAL_M = 0.045


@dataclass(frozen=True)
class PoseEstimate:
    """Bodies of B people as another program estimated them, and how far off its bodies usually are."""

    params: BodyParams
    """Pose and orientation, camera axes (OpenCV), NaN for people of whom there is none. The shape and the translation
    are not used: shape spaces differ, and the picture says where a body stands."""
    joints_sd_m: float = _USUAL_M
    """Usual distance of its joints from the true ones after a similarity alignment, metres."""
    angles_sd_rad: float = 0.25
    """Usual error of its joints' axis-angles, by coordinate, radians."""

    def __post_init__(self) -> None:
        for name in ("joints_sd_m", "angles_sd_rad"):
            value = getattr(self, name)
            if not 1e-4 < value < 10:
                raise OptionError(f"{name} of an estimate must be between 0.0001 and 10, got {value}")

    def __len__(self) -> int:
        return self.params.batch

    def select(self, rows: Tensor | slice | list[int]) -> PoseEstimate:
        """Select people by index."""
        return replace(self, params=self.params.select(rows))

    @classmethod
    def cat(cls, parts: Sequence[PoseEstimate]) -> PoseEstimate:
        """Concatenate estimates of several groups of people. Raises `OptionError` where their deviations differ."""
        first = parts[0]
        if any((p.joints_sd_m, p.angles_sd_rad) != (first.joints_sd_m, first.angles_sd_rad) for p in parts):
            raise OptionError("estimates have different deviations; fit these people apart")
        params = {name: torch.cat([part.params[name] for part in parts]) for name in first.params}
        return replace(first, params=BodyParams(**params))


@dataclass(frozen=True)
class CheckedEstimate:
    """A checked estimate, as tensors of the model's type on its device."""

    body_pose: Float[Tensor, "B A"]
    """Axis-angles, radians; 0 where unknown."""
    global_orient: Float[Tensor, "B 3"]
    """Axis-angle of the root, radians; 0 where unknown."""
    known: Float[Tensor, "B"]
    """1 for people who have an estimate, else 0."""
    confidence: float
    """Confidence of its keypoints, as a lift's."""
    angles_sd_rad: float
    """Deviation of its angles, radians."""

    def select(self, rows: Tensor) -> CheckedEstimate:
        """Select people by index or mask."""
        own = {name: getattr(self, name)[rows] for name in ("body_pose", "global_orient", "known")}
        return replace(self, **own)


def check_estimate(estimate: PoseEstimate, model: BodyModel, batch: int) -> CheckedEstimate:
    """Check an estimate and convert it. Poses of 24 and of 22 joints serve each other. Raises `OptionError`."""
    if len(estimate) != batch:
        raise OptionError(f"the estimate has {len(estimate)} bodies for {batch} people; give one each, NaN for none")
    kind = {"dtype": model.dtype, "device": model.device}
    pose, orient = (estimate.params[name].to(**kind) for name in ("body_pose", "global_orient"))
    width, common = model.params().body_pose.shape[1], 63
    if pose.shape[1] < common:
        raise OptionError(f"an estimate's body_pose must have 63 or 69 columns, got {pose.shape[1]}")
    pose = torch.nn.functional.pad(pose[:, :width], (0, max(width - pose.shape[1], 0)))
    known = torch.isfinite(torch.cat([pose, orient], 1)).all(1)
    return CheckedEstimate(
        torch.where(known[:, None], pose, 0.0),
        torch.where(known[:, None], orient, 0.0),
        known.to(model.dtype),
        _CONFIDENCE * _USUAL_M / estimate.joints_sd_m,
        estimate.angles_sd_rad,
    )
