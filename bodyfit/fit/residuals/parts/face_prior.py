"""What faces do: jaws hang little and not sideways, eyes look ahead and together, expressions are as the model's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.fit.config import StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.base import Loop, Quadratic, VariableResidual
from bodyfit.fit.residuals.common.normal import NormalPrior
from bodyfit.fit.residuals.parts.arrays import FacePriorArrays, JawArrays, numpy_type
from bodyfit.fit.setup import Setup

__all__ = ["ExpressionPrior", "FacePrior", "JawLimits"]

_JAW_SD = (0.18, 0.04, 0.04)
"""Deviations of the jaw's axis-angle, radians: opening, to a side, twisted."""
_GAZE_SD = (0.15, 0.22, 0.02)
"""Of where both eyes look: up and down, to the sides, rolled."""
_VERGENCE_SD = (0.02, 0.05, 0.02)
"""Of what one eye looks other than the other."""
_JAW_RANGE = (-0.03, 0.55)
"""How far a jaw is closed and open, radians: 30 degrees part the incisors by 5 cm."""


class FacePrior(VariableResidual):
    """The squared Mahalanobis distance of jaw and gaze from a closed mouth and eyes that look ahead."""

    name, group, blocks = "jaw_and_eyes", "pose", ("jaw_pose", "leye_pose", "reye_pose")
    weight = 2.0
    loop = Loop("variables", "bodyfit.fit.residuals.loops.part_priors:face", FacePriorArrays, whole=True)

    def __init__(self, precision: Float[Tensor, "9 9"], column: list[int]) -> None:
        self.precision, self.column = precision, np.array(column)

    @classmethod
    def of(cls, setup: Setup) -> FacePrior:
        """Make the prior, which is the same for every model."""
        P = torch.zeros(9, 9, dtype=setup.model.dtype, device=setup.model.device)
        jaw, gaze, apart = (P.new_tensor(sd) ** -2 for sd in (_JAW_SD, _GAZE_SD, _VERGENCE_SD))
        P[:3, :3] = jaw.diag()
        # The mean of both eyes and their difference are independent.
        P[3:6, 3:6] = P[6:9, 6:9] = (gaze / 4 + apart).diag()
        P[3:6, 6:9] = P[6:9, 3:6] = (gaze / 4 - apart).diag()
        layout = setup.layout
        return cls(P, [c for name in cls.blocks for c in range(*layout[name].indices(layout.size))])

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """The term."""
        v = torch.cat([variables[name] for name in self.blocks], 1)
        pulled = v @ self.precision
        return Quadratic((v * pulled).sum(1), pulled, self.precision.expand(len(v), -1, -1))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> FacePriorArrays:
        """Make the inputs of the compiled kernel."""
        return FacePriorArrays(weight, self.column, self.precision.numpy())

    @classmethod
    def blank(cls, setup: Setup) -> FacePriorArrays:
        """Make empty inputs of weight 0: bodies may have no jaw."""
        return FacePriorArrays(0.0, np.zeros(0, np.int64), np.zeros((0, 0), numpy_type(setup)))


class ExpressionPrior(NormalPrior):
    """The square of the expression: its coefficients are deviations of what a model's makers had of expressions.

    Those of the open face are the principal components, about the neutral face, of thousands of plausible activations
    of the CC0 face units (`scripts/build/open_body/face.py`), so that their covariance is the identity.
    """

    name, group, blocks = "expression", "pose", ("expression",)
    weight = 2.0


class JawLimits(VariableResidual):
    """Radians that a jaw is more closed than shut, or opens more than jaws do."""

    name, group, blocks = "jaw_limits", "contact", ("jaw_pose",)
    weight = 50.0
    loop = Loop("variables", "bodyfit.fit.residuals.loops.part_priors:jaw", JawArrays, whole=True)

    @classmethod
    def of(cls, setup: Setup) -> JawLimits:
        """Make the prior, which is the same for every model."""
        return cls()

    def at(self, variables: Mapping[str, Tensor], seen: Observations, stage: StageConfig) -> Quadratic:
        """The term; its Hessian is diagonal."""
        opening = variables["jaw_pose"] * variables["jaw_pose"].new_tensor([1.0, 0.0, 0.0])
        beyond = opening - opening.clamp(*_JAW_RANGE)
        return Quadratic(beyond.square().sum(1), beyond, (beyond != 0).to(beyond.dtype))

    def arrays(self, seen: Observations, stage: StageConfig, weight: float) -> JawArrays:
        """Make the inputs of the compiled kernel."""
        return JawArrays(weight, *_JAW_RANGE)
