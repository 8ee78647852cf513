"""Cast rays past a posed body: samples in a band about it, mapped to the canonical body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from bodyfit.errors import OptionError, ShapeError
from bodyfit.fields.casting.canonical import PosedBody
from bodyfit.fields.casting.rays import Rays
from bodyfit.fields.casting.samples import RaySamples
from bodyfit.fields.casting.volume import NearestVolume, nearest_volume
from bodyfit.runtime.parallel import run

__all__ = ["PLACE_MARGIN_M", "CastConfig", "cast_rays"]

_GRAIN = 512
"""Fewest rays that a thread takes at a time."""
PLACE_MARGIN_M = 0.3
"""Space for samples beyond the canonical vertices; packed places end there."""


@dataclass(frozen=True, kw_only=True)
class CastConfig:
    """How finely the space about a body is sampled, metres."""

    voxel_m: float | int = 0.01
    """Side of the voxels that name their nearest vertex."""
    step_m: float | int = 0.0075
    """Distance of samples along a ray."""
    band_m: float | int = 0.05
    """Samples are nearer than this to a vertex."""
    depth_m: float | int = 0.025
    """And not deeper than this under the skin."""
    loose_m: float | int | None = None
    """The band at head and feet, for hair and soles; `band_m` if left out."""

    def volume_of(self, body: PosedBody) -> NearestVolume:
        """Make the volume of a body that these settings need, for several casts to share."""
        return nearest_volume(body.vertices, voxel_m=self.voxel_m, band_m=self.bands_of(body))

    def bands_of(self, body: PosedBody) -> Float32[np.ndarray, "V"]:
        """Return the band's width at each vertex of a body, metres."""
        return body.canonical.bands_m(float(self.band_m), None if self.loose_m is None else float(self.loose_m))

    @property
    def widest_m(self) -> float:
        """The widest band, metres."""
        return float(max(self.band_m, self.loose_m or 0))

    def __post_init__(self) -> None:
        if self.loose_m is not None and not self.band_m <= self.loose_m <= 0.5:
            raise OptionError(f"loose_m must lie in band_m = {self.band_m:g} to 0.5 m, got {self.loose_m:g}")
        if not (0 < self.voxel_m <= self.band_m <= 0.5 and self.step_m > 0 and self.depth_m >= 0):
            raise OptionError(f"casting needs 0 < voxel_m <= band_m <= 0.5, a positive step_m and depth_m, got {self}")


def cast_rays(
    body: PosedBody, rays: Rays, config: CastConfig | None = None, *, volume: NearestVolume | None = None
) -> RaySamples:
    """Sample rays in the band about a body.

    A ray leaps over blocks of empty voxels and looks at every step elsewhere. A sample's nearest vertex is its voxel's,
    improved by walking along edges; its place becomes

        x_canonical = sum_k w_k (c_k + L_k (x - v_k)) / sum_k w_k,  w_k = 1 / (|x - v_k|^2 + 1e-5)^2

    over that vertex and its two rings of neighbours. Signed distances are those to the nearest vertex's tangent plane,
    or to the vertex itself less the extent of its faces, whichever is larger. volume: that of the body, made with the
    voxel and band of `config`, where several cameras share it. Raises `OptionError` and `ShapeError`.
    """
    config = CastConfig() if config is None else config
    canonical = body.canonical
    if len(canonical.vertices) > 65536:
        raise ShapeError(f"packed samples name at most 65536 vertices, the body has {len(canonical.vertices)}")
    if volume is None:
        volume = config.volume_of(body)
    from bodyfit.fields.casting.cast_loops import count_samples, fill_samples

    march = (
        *(rays.origins, rays.directions, rays.offsets, body.warp, canonical.ring_ptr, canonical.ring, canonical.reach),
        *(volume.origin_m, volume.voxel_m, volume.nearest, volume.empty),
        *(float(config.step_m), config.bands_of(body), float(config.depth_m)),
    )
    counts = np.zeros(len(rays), np.int64)
    run(count_samples, len(rays), *march, counts, grain=_GRAIN)
    ptr = np.zeros(len(rays) + 1, np.int64)
    np.cumsum(counts, out=ptr[1:])
    total = int(ptr[-1])
    step, place, vertex = np.empty(total, np.uint16), np.empty((total, 3), np.uint16), np.empty(total, np.uint16)
    normal, distance = np.empty((total, 3), np.int8), np.empty(total, np.int16)
    origin = canonical.vertices.min(0) - np.float32(PLACE_MARGIN_M)
    outputs = (step, place, normal, distance, vertex)
    run(fill_samples, len(rays), *march, canonical.wide_ptr, canonical.wide, origin, ptr, *outputs, grain=_GRAIN)
    return RaySamples(ptr, *outputs, origin, float(config.step_m), rays.offsets)
