"""Align sets of points by similarity transforms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["Similarity", "align"]

_COINCIDENT = 1e-12
"""Extent relative to the distance from the origin, up to which points count as one point."""


@dataclass(frozen=True)
class Similarity:
    """Similarity transforms x -> scale R x + t, one for each item of a batch."""

    scale: Float[np.ndarray, "*B"]
    """Scale, not negative."""
    R: Float[np.ndarray, "*B 3 3"]
    """Rotation, determinant +1."""
    t: Float[np.ndarray, "*B 3"]
    """Translation, metres."""

    def __call__(self, points: Float[np.ndarray, "*B J 3"]) -> Float[np.ndarray, "*B J 3"]:
        """Transform points."""
        return self.scale[..., None, None] * (points @ np.swapaxes(self.R, -1, -2)) + self.t[..., None, :]


def align(
    points: Float[np.ndarray, "*B J 3"],
    target: Float[np.ndarray, "*B J 3"],
    counted: Bool[np.ndarray, "*B J"] | None = None,
) -> Similarity:
    """Find the least-squares similarity of `points` onto `target`, item by item (Umeyama 1991, eq. 40 to 42).

    The rotation has determinant +1: reflections are excluded. For collinear or coplanar points, or where the optimum is
    a reflection, the rotation is one of several minimisers. Coincident points get scale 1. `counted` masks the points
    that take part. An item without counted points, or with counted points that are not finite, gives NaN.
    """
    counted = np.ones(points.shape[:-1], bool) if counted is None else np.broadcast_to(counted, points.shape[:-1])
    finite = (np.isfinite(points).all(-1) & np.isfinite(target).all(-1)) | ~counted
    sound = np.all(finite, axis=-1) & np.any(counted, axis=-1)
    used = counted & sound[..., None]
    weight = used / np.maximum(used.sum(-1, keepdims=True), 1)
    a, b = (np.where(used[..., None], x, 0.0) for x in (points, target))
    mean_a, mean_b = ((weight[..., None, :] @ x)[..., 0, :] for x in (a, b))
    centred_a, centred_b = a - mean_a[..., None, :], b - mean_b[..., None, :]
    variance = (weight * np.square(centred_a).sum(-1)).sum(-1)
    covariance = np.swapaxes(weight[..., None] * centred_b, -1, -2) @ centred_a
    U, S, Vt = np.linalg.svd(covariance)
    sign = np.ones_like(S)
    sign[..., 2] = np.where(np.linalg.det(U) * np.linalg.det(Vt) < 0, -1.0, 1.0)
    R = (U * sign[..., None, :]) @ Vt
    one_point = variance <= (_COINCIDENT * np.abs(a).max((-1, -2), initial=0.0)) ** 2
    scale = np.where(one_point, 1.0, (S * sign).sum(-1) / np.where(one_point, 1.0, variance))
    scale = np.where(sound, scale, np.nan)
    t = mean_b - scale[..., None] * (R @ mean_a[..., None])[..., 0]
    return Similarity(scale, np.where(sound[..., None, None], R, np.nan), t)
