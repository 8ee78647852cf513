"""The lift of a person's landmarks by what the picture shows about them.

The landmark network's own lift is poor along the view: whether a forearm points to the camera or away from it. Its maps
of features, read at the landmarks and between them, tell more (`scripts/train/picture_evidence.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Float32

from bodyfit.detect.networks.session import shipped_network

__all__ = ["CHANNELS", "LANDMARKS", "MAPS", "POOLED", "POOLED_MAP", "SPOTS", "LiftHead", "features_at", "geometry_of"]

LANDMARKS = 33
MAPS = {"coarse": 48, "half": 48, "quarter": 48, "middle": 88, "deep": 288}
"""Outputs of the landmark network that are read at spots, and their channels: the decoder's at 64x64, 32x32 and 16x16,
the encoder's at 16x16 and 8x8."""
POOLED_MAP = "last"
"""Its last map, 2x2, which its own lift is a linear function of."""
CHANNELS, POOLED = sum(MAPS.values()), 1152
_POINTS = (0, 7, 8, 11, 12, 13, 14, 15, 16, 19, 20, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32)
"""Landmarks that maps are read at: nose, ears, shoulders, elbows, wrists, index fingers, hips, legs and feet."""
_LIMBS = ((11, 13), (12, 14), (13, 15), (14, 16), (23, 25), (24, 26), (25, 27), (26, 28), (11, 12, 23, 24))
"""And the middles between these: upper arms, forearms, thighs, shins and the trunk."""
SPOTS = len(_POINTS) + len(_LIMBS)


class LiftHead:
    """The network, loaded. Safe to share between threads."""

    def __init__(self) -> None:
        self._network = shipped_network("pose_lift", 1)

    def __call__(
        self,
        points: Float32[np.ndarray, "39 5"],
        world: Float32[np.ndarray, "39 3"],
        xy: Float[np.ndarray, "39 2"],
        maps: Mapping[str, Float32[np.ndarray, "1 C h w"]],
    ) -> tuple[Float32[np.ndarray, "33 3"], Float32[np.ndarray, "33 2"]]:
        """Lift the landmarks of one look: metres about the middle of the hips in the axes of the region, and the scales
        of their errors across the view and along it (Student's distribution with 4 degrees of freedom).

        points, world: outputs of the landmark network; xy: its landmarks in parts of the region's side; maps: `MAPS`
        and `POOLED_MAP`.
        """
        inputs = {
            "geometry": geometry_of(points, world, xy)[None],
            "features": features_at(maps, xy)[None],
            "pooled": maps[POOLED_MAP].reshape(1, POOLED),
        }
        lift, scale = self._network.run(["lift", "scale"], inputs)
        return lift[0], scale[0]


def geometry_of(
    points: Float32[np.ndarray, "39 5"], world: Float32[np.ndarray, "39 3"], xy: Float[np.ndarray, "39 2"]
) -> Float32[np.ndarray, "33 8"]:
    """Gather each landmark's place about the region's middle and its depth (in parts of the region's side), its
    probabilities of being visible and present, and the landmark network's lift (metres)."""
    sure = 1 / (1 + np.exp(-points[:LANDMARKS, 3:].astype(float)))
    parts = [xy[:LANDMARKS] - 0.5, points[:LANDMARKS, 2:3] / 256, sure, world[:LANDMARKS]]
    return np.concatenate(parts, 1).astype(np.float32)


def features_at(
    maps: Mapping[str, Float32[np.ndarray, "1 C h w"]], xy: Float[np.ndarray, "39 2"]
) -> Float32[np.ndarray, "30 520"]:
    """Read the maps at the landmarks and between them, bilinearly; beyond the edge the outermost values go on."""
    spots = np.concatenate([xy[list(_POINTS)], np.stack([xy[list(rows)].mean(0) for rows in _LIMBS])])
    return np.concatenate([_read(maps[name][0], spots) for name in MAPS], 1)


def _read(values: Float32[np.ndarray, "C h w"], xy: Float[np.ndarray, "N 2"]) -> Float32[np.ndarray, "N C"]:
    """Interpolate a map at places in parts of its sides."""
    last = np.array(values.shape[:0:-1]) - 1
    at = np.clip(xy * (last + 1) - 0.5, 0, last)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, last)
    x, y = (at - low).astype(np.float32).T
    top = values[:, low[:, 1], low[:, 0]] * (1 - x) + values[:, low[:, 1], high[:, 0]] * x
    below = values[:, high[:, 1], low[:, 0]] * (1 - x) + values[:, high[:, 1], high[:, 0]] * x
    return (top * (1 - y) + below * y).T
