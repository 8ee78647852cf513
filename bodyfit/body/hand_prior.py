"""The Gaussian mixture over hand poses as an asset: read, and mirrored for the right hand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from bodyfit.body.assets import asset_path, read_archive

__all__ = ["FINGER_JOINTS", "HandPrior", "load_hand_prior"]

FINGER_JOINTS = 15
"""Joints of a hand: index, middle, pinky, ring, thumb, three each from the palm on."""


@dataclass(frozen=True)
class HandPrior:
    """A full-covariance mixture over the 45 axis-angle components of one hand from the flat hand, radians; float64."""

    means: Float[np.ndarray, "M 45"]
    covars: Float[np.ndarray, "M 45 45"]
    weights: Float[np.ndarray, "M"]
    """Sum to 1."""
    axes: Float[np.ndarray, "15 3 3"]
    """Unit axes of flexion, abduction and twist of each joint, as rows."""
    limits: Float[np.ndarray, "15 3 2"]
    """Least and largest projection of a joint's axis-angle on its axes."""

    @property
    def relaxed(self) -> Float[np.ndarray, "45"]:
        """The mean of all poses: a hand at rest."""
        return self.weights @ self.means

    def mirrored(self) -> HandPrior:
        """That of the other hand: in a mirror x stays and y and z change sign; flexion about a mirrored axis is the
        mirrored turn."""
        flip = np.tile([1.0, -1.0, -1.0], FINGER_JOINTS)
        covars = flip[:, None] * self.covars * flip
        return HandPrior(flip * self.means, covars, self.weights, flip[:3] * self.axes, self.limits)


@lru_cache(maxsize=1)
def load_hand_prior() -> tuple[HandPrior, HandPrior]:
    """The shipped prior of left and right hands (`scripts/build/hand_prior.py`)."""
    arrays = read_archive(asset_path("prior", "hand_gmm.npz"))
    names = ("means", "covars", "weights", "axes", "limits")
    means, covars, weights, axes, limits = (np.asarray(arrays[name], np.float64) for name in names)
    left = HandPrior(means, covars, weights / weights.sum(), axes, limits)
    return left, left.mirrored()
