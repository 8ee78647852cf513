"""Why a fit is poor, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.fit.residuals.mixture import MixturePrior
from bodyfit.fit.residuals.stature import HeightTerm

__all__ = ["Words"]

_PARTS: dict[str, tuple[str, ...]] = {
    "the head is": ("nose", "eye", "ear", "mouth", "head", "chin", "face"),
    "shoulders and hips are": ("shoulder", "hip", "pelvis", "neck", "thorax", "spine"),
    "the left arm is": ("left_elbow", "left_wrist", "left_pinky", "left_index", "left_thumb", "left_hand"),
    "the right arm is": ("right_elbow", "right_wrist", "right_pinky", "right_index", "right_thumb", "right_hand"),
    "the left leg is": ("left_knee", "left_ankle", "left_heel", "left_big", "left_small", "left_foot"),
    "the right leg is": ("right_knee", "right_ankle", "right_heel", "right_big", "right_small", "right_foot"),
}
"""Parts of the body by words in keypoints' names; a keypoint is of the last that fits."""
_PAIRS = (
    ("the left arm is", "the right arm is", "the arms are"),
    ("the left leg is", "the right leg is", "the legs are"),
)
_BLOCKS: dict[str, tuple[str, ...]] = {
    "the trunk": ("spine",),
    "the head": ("neck", "head"),
    "the left arm": ("left_collar", "left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    "the right arm": ("right_collar", "right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    "the left leg": ("left_hip", "left_knee", "left_ankle", "left_foot"),
    "the right leg": ("right_hip", "right_knee", "right_ankle", "right_foot"),
}


class Words:
    """Words for the people of one layout and one model."""

    def __init__(self, names: Sequence[str], trust: Float[Tensor, "K"], joints: Sequence[str]) -> None:
        of = [next((p for p, words in reversed(_PARTS.items()) if any(w in n for w in words)), "") for n in names]
        self._parts = {part: torch.tensor([o == part for o in of], device=trust.device) for part in _PARTS}
        self._joints = tuple(joints)
        self._marginals: dict[int, dict[str, tuple[Tensor, Tensor]]] = {}

    def misfit(self, weight: Float[Tensor, "N"], z: Float[Tensor, "N"], off_px: Float[Tensor, "N"]) -> str:
        """Which part is explained worst, and by how many pixels; of several cameras, in any."""
        off: dict[str, tuple[float, float]] = {}
        for part, mask in self._parts.items():
            w = weight * mask.repeat(len(weight) // len(mask))
            if float(w.sum()) > 0.2:
                off[part] = float((w * z).sum() / w.sum()), float((w * off_px).sum() / w.sum())
        for one, other, both in _PAIRS:
            if one in off and other in off and min(off[one][0], off[other][0]) > 0.5 * max(off[one][0], off[other][0]):
                off[both] = (max(off[one][0], off[other][0]) + 1e-6, (off[one][1] + off[other][1]) / 2)
        if not off:
            return "the keypoints are explained badly"
        worst = max(off, key=lambda part: off[part][0])
        return f"{worst} explained badly: {off[worst][1]:.0f} px off"

    def pose(self, mixture: MixturePrior, pose: Float[Tensor, "A"]) -> str:
        """Which part is in an improbable pose: the squared Mahalanobis distance of its angles alone, per angle."""
        k = int(mixture.component_costs(pose[None])[0].argmin())
        if k not in self._marginals:
            self._marginals[k] = self._marginals_of(mixture, k)
        off = (pose - mixture.means[k]).double()

        def improbable(block: str) -> float:
            columns, precision = self._marginals[k][block]
            return float(off[columns] @ precision @ off[columns]) / len(columns)

        return f"an improbable pose of {max(self._marginals[k], key=improbable)}"

    def _marginals_of(self, mixture: MixturePrior, k: int) -> dict[str, tuple[Tensor, Tensor]]:
        """Return, for each block of a component, its columns and the precision of its marginal distribution."""
        covariance, answer = torch.linalg.inv(mixture.precision[k].double()), {}
        for block, joints in _BLOCKS.items():
            rows = [i for i, name in enumerate(self._joints[1:]) if any(joint in name for joint in joints)]
            columns = torch.tensor([3 * i + c for i in rows for c in range(3) if 3 * i < len(covariance)])
            if len(columns):
                columns = columns.to(covariance.device)
                answer[block] = columns, torch.linalg.inv(covariance[columns][:, columns])
        return answer

    def limits(self, beyond: Float[Tensor, "J"]) -> str:
        """Which joint is bent beyond its limits."""
        joint = int(beyond.argmax())
        name = self._joints[joint + 1].replace("_", " ")
        return f"the {name} is bent {math.degrees(float(beyond[joint])):.0f} degrees beyond its limits"

    def shape(self, height: HeightTerm, betas: Float[Tensor, "S"]) -> str:
        """Describe a body's height, and the distance of its shape from the mean in standard deviations."""
        tall, off = float(height.mean_m + betas @ height.slope_m), float(betas.abs().max())
        return f"a body {tall:.2f} m tall, its shape {off:.1f} deviations from the mean"

    def points(self, off_cm: float, larger: float) -> str:
        """How far measured points are from the body."""
        if not 0.85 < larger < 1.18:
            return f"the measured points lie {larger:.2f} times as far apart as the body's, {off_cm:.0f} cm off"
        return f"the measured points are {off_cm:.0f} cm off"

    def plain(self, name: str, value: float) -> str:
        """A feature that needs no more than its number."""
        return {
            "lift": f"the detector's 3D pose differs by {math.exp(value):.0f} cm",
            "unconfirmed": "only one of the detector's networks sees it",
            "confidence": f"the keypoints are unsure, {100 * value:.0f} % in the mean",
        }[name]
