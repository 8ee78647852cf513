"""Samples along rays in the canonical body's space, packed into 15 bytes each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int8, Int16, Int64, UInt16

from bodyfit.fields.casting.rays import Rays

__all__ = ["RaySamples"]

PLACE_UNIT_M = 5e-5
"""Unit of packed places: 65,536 of them span 3.3 m."""
DISTANCE_UNIT_M = 2e-5
"""Unit of packed signed distances."""


@dataclass(frozen=True, eq=False)
class RaySamples:
    """Samples of R rays within a band about a body, in order along each ray, packed; the properties unpack them.

    Samples depend on the body and the rays alone, so that they are cast once and used in every pass of a training.
    """

    ptr: Int64[np.ndarray, "R1"]
    """Ray r has the samples `ptr[r]` to `ptr[r + 1]` - 1."""
    step: UInt16[np.ndarray, "N"]
    """Number of the step along the ray."""
    place: UInt16[np.ndarray, "N 3"]
    """Canonical place above `origin_m`, in units of 0.05 mm."""
    normal: Int8[np.ndarray, "N 3"]
    """Unit normal of the posed body, blended, in the axes of the rays, times 127."""
    distance: Int16[np.ndarray, "N"]
    """Signed distance to the posed body, positive outside, in units of 0.02 mm."""
    vertex: UInt16[np.ndarray, "N"]
    """The nearest posed vertex."""
    origin_m: Float32[np.ndarray, "3"]
    """Canonical place of zero."""
    step_m: float
    """Length of a step, metres."""
    offsets: Float32[np.ndarray, "R"]
    """Of each ray: sample i of it lies (step + offset) steps from its origin."""

    def __len__(self) -> int:
        return len(self.step)

    @property
    def ray(self) -> Int64[np.ndarray, "N"]:
        """The ray of each sample."""
        return np.repeat(np.arange(len(self.ptr) - 1), np.diff(self.ptr))

    @property
    def t_m(self) -> Float32[np.ndarray, "N"]:
        """Distance of each sample from its ray's origin, metres."""
        return ((self.step + self.offsets[self.ray]) * np.float32(self.step_m)).astype(np.float32)

    @property
    def canonical_m(self) -> Float32[np.ndarray, "N 3"]:
        """Canonical places, metres."""
        return self.place.astype(np.float32) * np.float32(PLACE_UNIT_M) + self.origin_m

    @property
    def normals(self) -> Float32[np.ndarray, "N 3"]:
        """Normals of the posed body, of unit length up to a hundredth."""
        return self.normal.astype(np.float32) / np.float32(127)

    @property
    def signed_distance_m(self) -> Float32[np.ndarray, "N"]:
        """Signed distances to the posed body, metres, positive outside."""
        return self.distance.astype(np.float32) * np.float32(DISTANCE_UNIT_M)

    def posed_m(self, rays: Rays) -> Float[np.ndarray, "N 3"]:
        """Compute the places of the samples before the warp, metres, from the rays that were cast."""
        ray = self.ray
        return rays.origins[ray] + self.t_m[:, None] * rays.directions[ray]
