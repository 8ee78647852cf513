"""Prior of elbows and knees against bending backwards."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual, Vector
from bodyfit.fit.setup import Setup
from bodyfit.skeleton import SMPL

__all__ = ["AnglePrior"]

_BENDS = (("left_elbow", 1, 1.0), ("right_elbow", 1, -1.0), ("left_knee", 0, -1.0), ("right_knee", 0, -1.0))
"""Joint, axis of its axis-angle, and the sign that bends backwards: +y, -y, -x, -x."""
_STEEPEST = 4.0
"""Angle (radians) at which the exponential is clamped, for the range of float32."""


class AnglePriorArrays(NamedTuple):
    """Inputs of the compiled kernel (`Loop.arrays`)."""

    weight: float
    column: np.ndarray
    sign: np.ndarray


class AnglePrior(VariableResidual):
    """Residuals 10 exp(s theta) at elbows and knees, which grow fast where the limb bends backwards (Bogo et al. 2016,
    E_a)."""

    name, group, blocks = "angle", "contact", ("body_pose",)
    loop = Loop("variables", "bodyfit.fit.residuals.loops.angles:bend", AnglePriorArrays)

    def __init__(self, *, dtype: torch.dtype, device: torch.device) -> None:
        columns = [3 * (SMPL.index(joint) - 1) + axis for joint, axis, _ in _BENDS]  # body_pose leaves the root out
        self.index = torch.tensor(columns, device=device)
        self.sign = torch.tensor([sign for *_, sign in _BENDS], dtype=dtype, device=device)
        self._wide: dict[int, tuple[Tensor, Tensor]] = {}

    @classmethod
    def of(cls, setup: Setup) -> AnglePrior:
        """Make the prior, which has the same joints for every body."""
        return cls(dtype=setup.model.dtype, device=setup.model.device)

    def _residuals(self, pose: Float[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        return 10 * (self.sign * pose[:, self.index]).clamp(max=_STEEPEST).exp()

    def __call__(self, pose: Float[Tensor, "B N"]) -> Quadratic:
        """Compute the unweighted quadratic model, whose Hessian is diagonal."""
        sign, factor = self._everywhere(pose.shape[1])
        squared = ((sign * pose).clamp(max=_STEEPEST).exp() * factor).square()
        return Quadratic(squared.sum(1), sign * squared, squared)

    def _everywhere(self, size: int) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """Return signs and factors (10 or 0) of all angles, which needs fewer operations than selecting the four."""
        if size not in self._wide:
            with torch.inference_mode(False):
                sign = torch.zeros(size, dtype=self.sign.dtype).index_copy(0, self.index.cpu(), self.sign.cpu())
                self._wide[size] = sign.to(self.sign.device), 10 * sign.abs().to(self.sign.device)
        return self._wide[size]

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """Compute the unweighted quadratic model."""
        return self(variables["body_pose"])

    def vector(
        self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig, *, derive: bool = True
    ) -> Vector:
        """Compute the residual vector and its Jacobian."""
        pose = variables["body_pose"]
        r = self._residuals(pose)
        rows = r.new_zeros(*r.shape, pose.shape[1])
        rows[:, torch.arange(r.shape[1], device=r.device), self.index] = (self.sign * r).detach()
        return Vector(r, by_variables=rows)

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> AnglePriorArrays:
        """Make the inputs of the compiled kernel."""
        return AnglePriorArrays(weight, *self._tables)

    @cached_property
    def _tables(self) -> tuple[np.ndarray, ...]:
        return self.index.numpy(), self.sign.numpy()
