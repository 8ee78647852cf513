"""Bring calibrated cameras and their clips to agree with what they see of a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from scripts.bench.multiview import LIMBS, View, delays, linear, straight

__all__ = ["agreeing", "disagreement_px"]

_MARGIN = 8
"""Most frames that one clip began before another."""
_EVERY = 3
"""One of so many frames is used to adjust."""
_ROUNDS = 4
_SCALE_PX = 5.0
"""Distance at which a keypoint begins to count less."""
_SPREAD = np.array([0.03, 0.03, 0.03, 0.05, 0.05, 0.05])
"""Standard deviations of what files say: rotations, radians, and places, metres."""
_INDEPENDENT = 9
"""One of so many squared residuals counts as independent: detectors are wrong alike in many frames."""


def agreeing(seen: Float[np.ndarray, "C T K 3"], views: Sequence[View]) -> tuple[list[View], list[int]]:
    """Adjust the cameras' rotations and places, and find by how many frames each clip began before the first.

    seen: keypoints of the whole clips, with lens distortion. Both are found in turn: cameras that are a degree off look
    like clips that are some frames apart.
    """
    xyc, adjusted, late = straight(seen, list(views)), list(views), [0] * len(views)
    for _ in range(_ROUNDS):
        before, late = late, delays(xyc, adjusted, _MARGIN)
        times = np.arange(_MARGIN, xyc.shape[1] - _MARGIN, _EVERY)
        at = np.stack([xyc[c][times + late[c]][:, LIMBS] for c in range(len(views))])
        adjusted = _adjusted(at, views)
        if late == before:
            break
    return adjusted, late


def disagreement_px(seen: Float[np.ndarray, "C T K 3"], views: Sequence[View], late: Sequence[int]) -> float:
    """Compute how far limbs' points that all cameras see lie from where they are seen, pixels, at the median."""
    xyc = straight(seen, list(views))
    times = np.arange(_MARGIN, xyc.shape[1] - _MARGIN)
    at = np.stack([xyc[c][times + late[c]][:, LIMBS] for c in range(len(views))])
    return float(np.median(linear(at, list(views))[1]))


def _adjusted(at: Float[np.ndarray, "C T L 3"], views: Sequence[View]) -> list[View]:
    """Adjust cameras so that points triangulated by all lie where each sees them (bundle adjustment), robustly."""

    def moved(x: np.ndarray) -> list[View]:
        turns = zip(views, x.reshape(-1, 6), strict=True)
        return [replace(v, R=Rotation.from_rotvec(q[:3]).as_matrix() @ v.R, C_m=v.C_m + q[3:]) for v, q in turns]

    weight = np.sqrt(at[0, ..., 0].size / _INDEPENDENT)

    def apart(x: np.ndarray) -> np.ndarray:
        cameras = moved(x)
        points, _ = linear(at, cameras)
        residuals = [weight * (x.reshape(-1, 6) / _SPREAD).ravel()]
        for c, view in enumerate(cameras):
            h = points @ view.projection[:, :3].T + view.projection[:, 3]
            residuals.append((at[c, ..., 2:] * (h[..., :2] / h[..., 2:] - at[c, ..., :2]) / _SCALE_PX).ravel())
        return np.concatenate(residuals)

    return moved(least_squares(apart, np.zeros(6 * len(views)), loss="soft_l1").x)
